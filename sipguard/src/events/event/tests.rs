use super::*;

const NOW: Now = Now {
    boot_ns: 100_000_000_000,
    wall: Timestamp::UNIX_EPOCH,
};
const NAMES: Names<'static> = Names {
    interface: "eth0",
    service: Some("sip"),
};
const OPTIONS: &[u8] = b"OPTIONS sip:100@192.0.2.1 SIP/2.0\r\nUser-Agent: friendly-scanner\r\n\r\n";

/// RFC 791 and RFC 768, from 198.51.100.7:5071 to 192.0.2.1:5060.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    bytes.extend([198, 51, 100, 7, 192, 0, 2, 1]);
    bytes.extend([0x13, 0xcf, 0x13, 0xc4, 0, 8, 0, 0]);
    bytes.extend(payload);
    bytes
}

fn ethernet(tags: &[[u8; 4]], packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2; 12];
    bytes.extend(tags.as_flattened());
    bytes.extend([8, 0]);
    bytes.extend(packet);
    bytes
}

fn record() -> Record {
    Record {
        boot_ns: NOW.boot_ns - 2_500_000_000,
        left_out: 3,
        source: [0, 0xc633_6407],
        destination: [0, 0xc000_0201],
        length: 900,
        source_port: 5071,
        port: 5060,
        reason: Reason::Unlisted as u8,
        enforced: 1,
        family: 4,
        protocol: 17,
        ..Record::default()
    }
}

#[test]
fn a_record_says_it_all() {
    let frame = ethernet(&[], &datagram(OPTIONS));
    let event = Event::new(&record(), &frame, NAMES, NOW);
    let json = serde_json::to_value(&event).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "time": "1969-12-31T23:59:57.5Z", "interface": "eth0", "service": "sip", "reason": "unlisted", "action": "drop",
            "enforced": true, "source": "198.51.100.7", "source_port": 5071, "destination": "192.0.2.1", "port": 5060,
            "protocol": "udp", "length": 900, "left_out": 3,
            "sip": {"method": "OPTIONS", "status": null, "user": "100", "from": null, "user_agent": "friendly-scanner",
                    "call_id": null, "number": null, "country": null, "high_risk": false},
        })
    );
    let read: Event = serde_json::from_value(json).unwrap();
    let silent = Event {
        bytes: Vec::new(),
        ..event
    };
    assert_eq!(read, silent);
}

#[test]
fn what_is_not_known_is_null() {
    let broken = Record {
        service: NO_SERVICE,
        reason: Reason::TooDeep as u8,
        family: 0,
        source_port: 0,
        port: 0,
        protocol: 0,
        ..record()
    };
    assert_eq!(service(&broken), None);
    let names = Names {
        service: None,
        ..NAMES
    };
    let json = serde_json::to_value(Event::new(&broken, &[], names, NOW)).unwrap();
    for field in [
        "service",
        "source",
        "source_port",
        "destination",
        "port",
        "protocol",
        "sip",
    ] {
        assert!(json[field].is_null(), "{field}: {json}");
    }
}

/// Behind an Ethernet header, tags in the frame, a tag that only the kernel knows, what a tunnel has left, no Ethernet header at all.
#[test]
fn the_payload_is_found() {
    let packet = datagram(OPTIONS);
    let tag = [0x81, 0, 0, 7];
    let [untagged, tagged, twice] =
        [&[][..], &[tag], &[tag, tag]].map(|tags| ethernet(tags, &packet));
    let bare = [&[0; 12], &untagged[12..]].concat();
    let behind = |front| Record {
        kind: 0x0800,
        front,
        ..record()
    };
    let taken = Record {
        tag: [0x8100, 7],
        ..behind(14)
    };
    let tunnel = Record {
        link: LinkKind::Ip as u8,
        ..behind(24)
    };
    for (record, first, framed) in [
        (record(), untagged.clone(), &untagged),
        (record(), twice.clone(), &twice),
        (behind(14), untagged.clone(), &untagged),
        (behind(18), tagged.clone(), &tagged),
        (taken, untagged.clone(), &tagged),
        (Record { front: 18, ..taken }, tagged.clone(), &twice),
        (behind(0), packet.clone(), &bare),
        (tunnel, [&[0x45; 24], &packet[..]].concat(), &bare),
    ] {
        let event = Event::new(&record, &first, NAMES, NOW);
        assert_eq!(event.bytes, *framed, "{record:?}");
        assert_eq!(event.payload(), OPTIONS);
        let method = event.sip.and_then(|sip| sip.method);
        assert_eq!(method.as_deref(), Some("OPTIONS"));
    }
}

/// A frame may end anywhere, and begin with anything.
#[test]
fn cut_frames_are_no_trouble() {
    let frame = ethernet(&[[0x81, 0, 0, 7]], &datagram(OPTIONS));
    for end in 0..frame.len() {
        let event = Event::new(&record(), &frame[..end], NAMES, NOW);
        assert!(event.payload().len() <= OPTIONS.len());
    }
    for byte in 0..=u8::MAX {
        for kind in [0, 0x0800, 0x86dd, 0x8864] {
            for front in [0, 14, 24, 1000] {
                let record = Record {
                    kind,
                    front,
                    ..record()
                };
                drop(Event::new(&record, &[byte; 130], NAMES, NOW));
            }
        }
    }
}
