use super::*;

/// The bytes, and whether they are all there were.
type Seen = (LinkKind, Vec<u8>, bool);

/// Reads what is left of the packets when the capture ends, as it should or not.
fn packets(file: &[u8]) -> (Vec<Seen>, Option<CaptureError>) {
    let mut packets = Vec::new();
    let end = read::<CaptureError>(file, |packet| {
        packets.push((packet.link, packet.bytes.to_vec(), packet.truncated));
        assert_eq!(packet.number, packets.len() as u64);
        Ok(())
    });
    (packets, end.err())
}

/// Little-endian, in microseconds, with one packet of three bytes.
fn small(link: u32) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(65_535_u32.to_le_bytes());
    file.extend(link.to_le_bytes());
    for word in [1_u32, 2, 3, 9] {
        file.extend(word.to_le_bytes());
    }
    file.extend(b"abc");
    file
}

#[test]
fn packets_and_how_much_of_them_is_there() {
    let (packets, end) = packets(&small(1));
    assert_eq!(packets, [(LinkKind::Ethernet, b"abc".to_vec(), true)]);
    assert!(end.is_none(), "{end:?}");
}

#[test]
fn every_cut_is_told_with_its_place() {
    let file = small(101);
    for length in 0..file.len() {
        let (packets, end) = packets(&file[..length]);
        assert_eq!(packets, [], "{length}");
        let wanted = match length {
            0 => "it is empty",
            1..24 => "it ends in the middle of the header, which begins at byte 0",
            24 => {
                assert!(end.is_none());
                continue;
            }
            _ => "it ends in the middle of packet 1, which begins at byte 24",
        };
        assert_eq!(end.unwrap().to_string(), wanted, "{length}");
    }
}

#[test]
fn other_files_are_told_from_captures() {
    for (file, wanted) in [
        (
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            "it is neither a pcap nor a pcapng capture",
        ),
        (b"\x1f\x8b\x08\0\0\0\0\0", "it is compressed"),
        (
            b"\x0a\x0d\x0d\x0a\x1c\0\0\0abcdefgh",
            "it is neither a pcap nor a pcapng capture",
        ),
    ] {
        let (_, end) = packets(file);
        let end = end.unwrap().to_string();
        assert!(end.starts_with(wanted), "{end}");
    }
}

#[test]
fn link_types_that_are_not_read_are_named() {
    let (_, end) = packets(&small(127));
    let end = end.unwrap().to_string();
    assert!(end.starts_with("packet 1 is of link type 127 "), "{end}");
}

#[test]
fn lengths_beyond_reason_are_not_believed() {
    let mut file = small(1);
    file[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    let (_, end) = packets(&file);
    assert_eq!(
        end.unwrap().to_string(),
        "packet 1 at byte 24 is damaged: it would be longer than 16 MiB"
    );
}
