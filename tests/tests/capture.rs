//! `sipguard check --pcap`: every form of capture, real ones and broken ones, beside a live sipguard and without one.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use sipguard_ebpf::abi::{Action, LinkKind, Reason};
use sipguard_tests::{
    capture_file::{CaptureFile, FORMATS, Format, Order},
    frame::{Frame, bare, eth},
    netns::{BPFFS, End, Finished, Host, SCRATCH, STATE, Sandbox, join, sandbox},
    printed::json_lines,
    verdict_table::{Config, Row, rows},
};

const ETHERNET: u16 = 1;
const LINUX_COOKED: u16 = 113;
const LINUX_COOKED_2: u16 = 276;
const NFLOG: u16 = 239;
const RADIOTAP: u16 = 127;
const PFLOG: u16 = 117;

const PROVIDERS: &str = r#"
[sources]
providers = ["203.0.113.0/24"]
[services.sip]
udp = [5060]
tcp = [5060]
allow = ["providers"]
"#;

/// Writes a file that is gone with the sandbox.
fn file(_: &Sandbox, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = format!("{SCRATCH}/{name}");
    fs::write(&path, content).expect("there is room");
    path
}

fn check(host: &Host, config: &str, capture: &str, more: &[&str]) -> Finished {
    let words = ["check", "--config", config, "--pcap", capture];
    host.sipguard(words.iter().chain(more))
}

/// As Linux's cooked captures have an Ethernet frame.
fn cooked(frame: &[u8]) -> Vec<u8> {
    [
        &[0, 0, 0, 1, 0, 6, 2, 0x51, 0x90, 0, 0, 1, 0, 0],
        &frame[12..],
    ]
    .concat()
}

fn cooked_2(frame: &[u8]) -> Vec<u8> {
    let (kind, packet) = frame[12..].split_at(2);
    [
        kind,
        &[0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0x51, 0x90, 0, 0, 1, 0, 0],
        packet,
    ]
    .concat()
}

/// As netfilter logs it, with the hook and what it is.
fn logged(frame: &[u8]) -> Vec<u8> {
    let (kind, packet) = frame[12..].split_at(2);
    let length = u16::try_from(packet.len() + 4).unwrap_or(u16::MAX);
    let payload = [length.to_le_bytes(), [9, 0]].concat();
    [&[0, 0, 0, 0, 8, 0, 1, 0], kind, &[1, 0], &payload, packet].concat()
}

/// As an interface in monitor mode sees it.
fn wireless(frame: &[u8]) -> Vec<u8> {
    let begin = [0, 0, 8, 0, 0, 0, 0, 0, 8, 1];
    let snap = [0xaa, 0xaa, 3, 0, 0, 0];
    [&begin, &[0; 22][..], &snap, &frame[12..]].concat()
}

fn whole(frame: &[u8]) -> Vec<u8> {
    frame.to_vec()
}

fn behind_a_family(frame: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0], frame].concat()
}

/// As the packet filter of pfSense and OPNsense logs it: `pf_log` of a rule with a name, of what comes in (1) or goes out (2).
fn logged_by_pf(direction: u8, packet: &[u8]) -> Vec<u8> {
    let mut header = [0; 72];
    // Without the padding at its end.
    header[..4].copy_from_slice(&[69, 2, 1, 0]);
    header[4..8].copy_from_slice(b"igb0");
    header[60] = direction;
    [&header, packet].concat()
}

fn logged_by_pf_coming_in(packet: &[u8]) -> Vec<u8> {
    logged_by_pf(1, packet)
}

/// As FreeBSD shows what IPsec is about to do or has done.
fn decrypted(packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 3], packet].concat()
}

type Wrapping = (u16, fn(&[u8]) -> Vec<u8>);

/// Every row of the verdict table gets its verdict out of every kind of capture.
#[test]
fn every_row_in_every_form() {
    const FROM_ETHERNET: [Wrapping; 5] = [
        (ETHERNET, whole),
        (LINUX_COOKED, cooked),
        (LINUX_COOKED_2, cooked_2),
        (NFLOG, logged),
        (RADIOTAP, wireless),
    ];
    const FROM_IP: [Wrapping; 9] = [
        (101, whole),
        (12, whole),
        (14, whole),
        (228, whole),
        (229, whole),
        (0, behind_a_family),
        (108, behind_a_family),
        (PFLOG, logged_by_pf_coming_in),
        (109, decrypted),
    ];
    sandbox(|sandbox| {
        let host = sandbox.host();
        for config in Config::FILES {
            let text = file(sandbox, "table.toml", config.text());
            for (link, wrappings) in [
                (LinkKind::Ethernet, &FROM_ETHERNET[..]),
                (LinkKind::Ip, &FROM_IP[..]),
            ] {
                for (turn, &(number, wrap)) in wrappings.iter().enumerate() {
                    let rows: Vec<Row> = rows()
                        .into_iter()
                        .filter(|row| row.config == config && row.link == link)
                        // A cooked capture has no frames without an EtherType.
                        .filter(|row| {
                            let is_short = row.frame.len() < 14;
                            // What is logged has a length of 16 bits.
                            let is_long = number == NFLOG && row.frame.len() > 65_000;
                            link == LinkKind::Ip || number == ETHERNET || !is_short && !is_long
                        })
                        .collect();
                    // The formats have nothing to do with what the packets begin with.
                    let formats = if turn == 0 {
                        &FORMATS[..]
                    } else {
                        &FORMATS[..1]
                    };
                    for &(format, order) in formats {
                        let mut capture = CaptureFile::new(format, order, number);
                        for row in &rows {
                            capture.add(&wrap(&row.frame));
                        }
                        let path = file(sandbox, "table.pcap", capture.bytes());
                        let told = check(&host, &text, &path, &["--json"]).succeeded();
                        let what = format!("{format:?} {order:?} {number}");
                        hold(&rows, &json_lines(&told), &what);
                        if format == Format::Micro && order == Order::Little {
                            let by_kernel = check(&host, &text, &path, &["--json", "--kernel"]);
                            assert_eq!(by_kernel.succeeded().stdout, told.stdout, "{what}");
                        }
                    }
                }
            }
        }
        assert!(
            !Path::new(STATE).join("state.json").exists(),
            "a state was made"
        );
        assert!(
            !Path::new(BPFFS).join("sipguard").exists(),
            "something was pinned"
        );
    });
}

fn hold(rows: &[Row], lines: &[Value], what: &str) {
    assert_eq!(lines.len(), rows.len(), "{what}");
    for (n, (row, line)) in (1..).zip(rows.iter().zip(lines)) {
        let expected = row.expected;
        let action = match expected.action {
            Action::Pass => "pass",
            Action::Drop => "drop",
        };
        let reason = (expected.reason != Reason::None).then(|| expected.reason.name());
        let told = (
            &line["n"],
            &line["action"],
            &line["reason"],
            &line["service"],
        );
        let wanted = (
            n.into(),
            action.into(),
            reason.into(),
            expected.service.into(),
        );
        let wanted: (&Value, &Value, &Value, &Value) = (&wanted.0, &wanted.1, &wanted.2, &wanted.3);
        assert_eq!(told, wanted, "{what}: {}", row.name);
    }
}

#[test]
fn protocols_by_name() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = Config::Wide.text();
        let config = file(sandbox, "c.toml", config);
        let mut capture = CaptureFile::new(Format::Micro, Order::Little, ETHERNET);
        let scanner = || eth().ip("198.51.100.7");
        for frame in [
            scanner().udp(5060),
            scanner().tcp(5060),
            scanner().sctp(2905),
            scanner().udp_lite(5060),
        ] {
            capture.add(&frame.bytes());
        }
        let path = file(sandbox, "c.pcap", capture.bytes());
        let told = check(&host, &config, &path, &["--json"]).succeeded();
        let told = json_lines(&told).into_iter().map(|line| {
            let [service, protocol, port] = ["service", "protocol", "port"].map(|it| &line[it]);
            format!("{service} {protocol} {port}").replace('"', "")
        });
        let wanted = [
            "sip udp 5060",
            "sip tcp 5060",
            "signalling sctp 2905",
            "signalling udplite 5060",
        ];
        assert_eq!(told.collect::<Vec<_>>(), wanted);
    });
}

#[test]
fn a_line_tells_all_there_is_to_tell() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = file(sandbox, "c.toml", PROVIDERS);
        let mut capture = CaptureFile::new(Format::Micro, Order::Little, ETHERNET);
        capture.add(&eth().ip("198.51.100.7").udp(5060).bytes());
        capture.add(&eth().ip("2001:db8::7").tcp(22).bytes());
        let frame = eth().ip("203.0.113.5").udp(5060).bytes();
        capture.add_cut(&frame[..30], frame.len());
        let path = file(sandbox, "c.pcap", capture.bytes());
        let told = check(&host, &config, &path, &["--json"]).succeeded();
        assert_eq!(
            told.stdout,
            r#"{"n":1,"action":"drop","reason":"unlisted","service":"sip","source":"198.51.100.7","protocol":"udp","port":5060}
{"n":2,"action":"pass","reason":null,"service":null,"source":"2001:db8::7","protocol":"tcp","port":22}
{"n":3,"action":"drop","reason":"malformed","service":null,"source":null,"protocol":null,"port":null,"truncated":true}
"#
        );
        // For people, what the capture cut off is nobody's fault.
        let told = check(&host, &config, &path, &[]).succeeded();
        assert_eq!(
            told.stdout,
            format!(
                "\
3 packets, judged by {config}: 1 would pass, 1 would be dropped
1 packet can't be judged, because the capture holds too little of it; `tcpdump -s 0` keeps all

REASON       SERVICE  ACTION  PACKETS
not guarded  -        pass          1
unlisted     sip      drop          1

SOURCE        SERVICE  ACTION  REASON    PACKETS
198.51.100.7  sip      drop    unlisted        1
"
            )
        );
        let monitor = file(
            sandbox,
            "m.toml",
            format!("mode = \"monitor\"\n{PROVIDERS}"),
        );
        let told = check(&host, &monitor, &path, &["--json"]).succeeded();
        assert_eq!(json_lines(&told)[0]["enforced"], false);
        assert_eq!(json_lines(&told)[0]["action"], "drop");
        let told = check(&host, &monitor, &path, &[]).succeeded();
        assert!(
            told.stdout.contains("2 would pass, 0 would be dropped"),
            "{}",
            told.stdout
        );
    });
}

/// Frames that the kernel would hand over in one piece only as an aggregate, as captures of segmentation offload have them.
#[test]
fn giant_frames_are_judged() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = file(sandbox, "c.toml", PROVIDERS);
        for (link, begin) in [(ETHERNET, eth as fn() -> Frame), (101, bare)] {
            let mut capture = CaptureFile::new(Format::Micro, Order::Little, link);
            for length in [1500, 4000, 9000, 30_000, 60_000, 65_400] {
                let frame = begin().ip("198.51.100.7").tcp(5060);
                capture.add(&frame.payload(&vec![0; length]).bytes());
            }
            let path = file(sandbox, "g.pcap", capture.bytes());
            let told = check(&host, &config, &path, &["--json"]).succeeded();
            for line in json_lines(&told) {
                assert_eq!(line["reason"], "unlisted", "{line}");
            }
            assert_eq!(json_lines(&told).len(), 6);
        }
    });
}

#[test]
fn what_is_no_capture_or_not_all_of_one() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = file(sandbox, "c.toml", PROVIDERS);
        let frame = eth().ip("198.51.100.7").udp(5060).bytes();
        for (format, order) in FORMATS {
            let mut capture = CaptureFile::new(format, order, ETHERNET);
            capture.add(&frame);
            let first = capture.bytes().len();
            capture.add(&frame);
            let cut = &capture.bytes()[..capture.bytes().len() - 5];
            let path = file(sandbox, "cut.pcap", cut);
            let told = check(&host, &config, &path, &["--json"]).exited(1);
            assert_eq!(json_lines(&told).len(), 1, "{format:?} {order:?}");
            assert!(told.stderr.contains("packet 2"), "{}", told.stderr);
            if format != Format::Enhanced {
                let place = format!("ends in the middle of packet 2, which begins at byte {first}");
                assert!(told.stderr.contains(&place), "{}", told.stderr);
            }
            let told = check(&host, &config, &path, &[]).exited(1);
            assert!(
                told.stdout.starts_with("1 packet, judged by"),
                "{}",
                told.stdout
            );
        }
        for (name, content, wanted) in [
            ("empty", &b""[..], "it is empty"),
            (
                "text",
                b"# a list\n203.0.113.0/24\n198.51.100.0/24\n",
                "it is neither a pcap nor a pcapng capture",
            ),
            (
                "gz",
                b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
                "it can't be read behind byte 0",
            ),
            ("xz", b"\xfd7zXZ\0\0\x04", "it is compressed with xz"),
            (
                "usb",
                CaptureFile::new(Format::Micro, Order::Little, 189).bytes(),
                "",
            ),
        ] {
            let path = file(sandbox, name, content);
            let told = check(&host, &config, &path, &["--json"]);
            if wanted.is_empty() {
                // Nothing in it needs to be judged.
                told.succeeded();
                continue;
            }
            let told = told.exited(1);
            assert_eq!(told.stdout, "");
            assert!(
                told.stderr.contains(wanted) && told.stderr.contains(&path),
                "{}",
                told.stderr
            );
            assert_eq!(told.stderr.lines().count(), 1, "{}", told.stderr);
        }
        let told = check(&host, &config, "/nowhere.pcap", &[]).exited(1);
        assert!(
            told.stderr.contains("cannot open /nowhere.pcap"),
            "{}",
            told.stderr
        );
        let told = check(&host, &config, "/nowhere.pcap", &["--against", "live"]).exited(1);
        assert!(
            told.stderr.contains("nothing is in force to compare with"),
            "{}",
            told.stderr
        );
        let told = host
            .sipguard(["check", "203.0.113.7", "--against", "live"])
            .exited(2);
        assert!(told.stderr.contains("--against"), "{}", told.stderr);
    });
}

/// A capture that says of itself what can't be.
struct Lie {
    name: &'static str,
    bytes: Vec<u8>,
    /// How many packets are in front of the place.
    packets: usize,
    /// What is said of it; nothing where it is no error.
    wanted: String,
}

fn lies() -> Vec<Lie> {
    let request = b"OPTIONS sip:x@y SIP/2.0\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n";
    let frame = eth().ip("198.51.100.7").udp(5060).payload(request);
    let frame = frame.bytes();
    let block = |kind: u32, content: &[u8]| {
        let length = u32::try_from(content.len() + 12).expect("short");
        let [kind, length] = [kind, length].map(u32::to_le_bytes);
        [&kind, &length, content, &length].concat()
    };
    let interface = |options: &[u8]| block(1, &[&[1, 0, 0, 0, 0, 0, 0, 0], options].concat());
    // Of the highest length that is believed.
    let long = vec![0; (1 << 20) + 64];
    let endless: Vec<u8> = [2_u16, 0].map(u16::to_le_bytes).concat().repeat(1 << 17);
    let packet = |options: &[u8]| {
        let length = u32::try_from(frame.len()).expect("short");
        let head = [0, 0, 0, length, length].map(u32::to_le_bytes).concat();
        let padded = frame.len().next_multiple_of(4) - frame.len();
        block(6, &[&head, &frame[..], &vec![0; padded], options].concat())
    };
    let pcap = begin(Format::Micro, Order::Little, &frame);
    let pcapng = begin(Format::Simple, Order::Little, &frame);
    let ended = |at: usize, what: &str| format!("behind packet 1 at byte {at} is damaged: {what}");
    let lie = |name, front: &Vec<u8>, rest: Vec<u8>, packets, wanted| Lie {
        name,
        bytes: [&front[..], &rest].concat(),
        packets,
        wanted,
    };
    vec![
        lie(
            "a packet of 4 GiB",
            &pcap,
            [[0; 8], [0xff; 8]].concat(),
            1,
            "packet 2 at byte ".to_owned(),
        ),
        lie(
            "1,000,000 interfaces",
            &pcapng,
            interface(&[]).repeat(1_000_000),
            1,
            "there are more than 65,536 interfaces".to_owned(),
        ),
        lie(
            "an interface of a megabyte",
            &pcapng,
            interface(&long),
            1,
            ended(pcapng.len(), "it is longer than 1 MiB"),
        ),
        // None of them says that it is the last; the end of the block does.
        lie(
            "options without an end",
            &pcapng,
            packet(&endless),
            2,
            String::new(),
        ),
        lie(
            "options without an end, of an interface",
            &pcapng,
            interface(&endless),
            1,
            String::new(),
        ),
        lie(
            "options that go on behind their block",
            &pcapng,
            packet(&[2, 0, 0xff, 0xff]),
            1,
            "its options are longer than it is".to_owned(),
        ),
        lie(
            "a block in the other byte order",
            &pcapng,
            block(6, &[0; 32])
                .chunks(4)
                .flat_map(|word| word.iter().rev().copied())
                .collect(),
            1,
            format!(
                "it ends in the middle of the block behind packet 1, which begins at byte {}",
                pcapng.len()
            ),
        ),
        lie(
            "a section of the other byte order",
            &pcapng,
            begin(Format::Enhanced, Order::Big, &frame),
            2,
            String::new(),
        ),
    ]
}

/// A capture whose length, number or order of parts is beyond reason is judged, and learned from, up to there, and the place is named.
#[test]
fn captures_that_lie() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = file(sandbox, "c.toml", PROVIDERS);
        for Lie {
            name,
            bytes,
            packets,
            wanted,
        } in lies()
        {
            let path = file(sandbox, "lie.pcap", bytes);
            let told = check(&host, &config, &path, &["--json"]);
            assert_eq!(json_lines(&told).len(), packets, "{name}: {}", told.stderr);
            let learned = host.sipguard(["learn", "--pcap", &path, "--json"]);
            for told in [&told, &learned] {
                assert_eq!(
                    told.status.code(),
                    Some((!wanted.is_empty()).into()),
                    "{name}: {}",
                    told.stderr
                );
                assert!(told.stderr.contains(&wanted), "{name}: {}", told.stderr);
            }
            assert!(
                learned
                    .stdout
                    .contains(&format!("\"packets\":{packets},\"messages\":{packets},")),
                "{name}: {}",
                learned.stdout
            );
        }
        // What is compressed is unpacked once.
        let mut capture = CaptureFile::new(Format::Micro, Order::Little, ETHERNET);
        capture.add(&eth().arp().bytes());
        let path = file(sandbox, "c.pcap", capture.bytes());
        shell(&host, &format!("gzip -c {path} | gzip -c > {path}.twice"));
        let told = check(&host, &config, &format!("{path}.twice"), &[]).exited(1);
        assert!(
            told.stderr
                .contains("it is neither a pcap nor a pcapng capture"),
            "{}",
            told.stderr
        );
    });
}

fn begin(format: Format, order: Order, frame: &[u8]) -> Vec<u8> {
    let mut capture = CaptureFile::new(format, order, ETHERNET);
    capture.add(frame);
    capture.bytes().to_vec()
}

/// What nobody can judge is named, and everything else is judged.
#[test]
fn some_of_it_can_not_be_judged() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = file(sandbox, "c.toml", PROVIDERS);
        let packet = bare().ip("198.51.100.7").udp(5060).bytes();
        let section = |link, packet: &[u8]| {
            let mut capture = CaptureFile::new(Format::Enhanced, Order::Little, link);
            capture.add(packet);
            capture.bytes().to_vec()
        };
        let usb = section(189, b"whatever this is");
        let capture = [
            section(9, &[&[0xff, 3, 0, 0x21], &packet[..]].concat()),
            usb.clone(),
            section(239, &[&[2, 0, 0, 5], &logged_payload(&packet)[..]].concat()),
        ]
        .concat();
        let path = file(sandbox, "mixed.pcapng", capture);
        let told = check(&host, &config, &path, &[]).succeeded().stdout;
        assert!(
            told.starts_with(&format!(
                "3 packets, judged by {config}: 0 would pass, 2 would be dropped\n1 packet can't be judged: 1 USB (link type 189)\n"
            )),
            "{told}"
        );
        for more in [&["--json"][..], &["--json", "--kernel"]] {
            let told = json_lines(&check(&host, &config, &path, more).succeeded());
            assert_eq!(told[0]["reason"], "unlisted");
            assert_eq!(told[1]["action"], Value::Null);
            assert_eq!(told[1]["left_out"], "USB (link type 189)");
            assert_eq!(told[2]["reason"], "unlisted");
        }
        let path = file(sandbox, "usb.pcapng", usb);
        for more in [&[][..], &["--json"]] {
            let told = check(&host, &config, &path, more).exited(1);
            let wanted = "nothing in it can be judged: ";
            assert!(told.stderr.contains(wanted), "{}", told.stderr);
            assert!(
                told.stderr.contains("USB (link type 189)"),
                "{}",
                told.stderr
            );
        }
    });
}

fn logged_payload(packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len() + 4).expect("short");
    [&length.to_le_bytes(), &[9, 0], packet].concat()
}

/// Where the capture does not say which way packets went, this gateway is known by its peers, or by what a person says.
#[test]
fn what_this_gateway_has_sent_is_not_judged() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = file(sandbox, "c.toml", PROVIDERS);
        let mut capture = CaptureFile::new(Format::Micro, Order::Little, ETHERNET);
        let between = |from: &str, to: &str, port| eth().ip(from).to(to).udp(port).bytes();
        for (from, to) in [
            ("203.0.113.7", "192.0.2.1"),
            ("192.0.2.1", "203.0.113.7"),
            ("198.51.100.200", "192.0.2.1"),
            ("192.0.2.1", "198.51.100.200"),
            ("192.0.2.1", "203.0.113.8"),
        ] {
            capture.add(&between(from, to, 5060));
        }
        capture.add(&between("192.0.2.1", "203.0.113.7", 30_000));
        let path = file(sandbox, "both.pcap", capture.bytes());
        let told = check(&host, &config, &path, &[]).succeeded().stdout;
        let wanted = format!(
            "\
6 packets, judged by {config}: 2 would pass, 1 would be dropped
192.0.2.1 was taken for an address of this gateway, because 2 others send to guarded ports of it, and it sends to such ports, too
3 packets from there to guarded ports are not judged; `--own ADDRESS` says better which addresses are its own, `--in all` judges every packet

REASON       SERVICE  ACTION  PACKETS
not guarded  -        pass          1
allowed      sip      pass          1
unlisted     sip      drop          1

SOURCE          SERVICE  ACTION  REASON    PACKETS
198.51.100.200  sip      drop    unlisted        1
203.0.113.7     sip      pass    allowed         1
"
        );
        assert_eq!(told, wanted);
        // A file is read twice for that.
        let told = json_lines(&check(&host, &config, &path, &["--json"]).succeeded());
        let sent = |told: &[Value]| {
            told.iter()
                .map(|line| line["direction"] == "out")
                .collect::<Vec<_>>()
        };
        assert_eq!(sent(&told), [false, true, false, true, true, false]);
        assert_eq!(told[1]["action"], Value::Null);
        // A pipe can't be.
        let pipe = format!(
            "{} check --config {config} --pcap - --json < {path} | cat",
            sipguard_tests::netns::sipguard().display()
        );
        let from_a_pipe = shell(
            &host,
            &format!("cat {path} | {}", pipe.replace(&format!(" < {path}"), "")),
        );
        assert!(
            from_a_pipe
                .stderr
                .contains("192.0.2.1 seems to be this gateway itself"),
            "{}",
            from_a_pipe.stderr
        );
        assert_eq!(sent(&json_lines(&from_a_pipe)), [false; 6]);

        // Whoever names it means all of it.
        let own = ["--own", "192.0.2.1", "2001:db8::1"];
        let told = check(&host, &config, &path, &own).succeeded().stdout;
        let wanted = "1 would pass, 1 would be dropped\n4 packets were sent by this gateway, and are not judged; ";
        assert!(told.contains(wanted), "{told}");
        let told = json_lines(
            &check(&host, &config, &path, &[&own[..], &["--json"]].concat()).succeeded(),
        );
        assert_eq!(sent(&told), [false, true, false, true, true, true]);
        let told = check(&host, &config, &path, &["--in", "all"])
            .succeeded()
            .stdout;
        assert!(
            told.contains("2 would pass, 4 would be dropped\n\n"),
            "{told}"
        );

        // Of two alone nothing tells which one is the gateway.
        let mut capture = CaptureFile::new(Format::Micro, Order::Little, ETHERNET);
        capture.add(&between("203.0.113.7", "192.0.2.1", 5060));
        capture.add(&between("192.0.2.1", "203.0.113.7", 5060));
        let path = file(sandbox, "two.pcap", capture.bytes());
        let told = check(&host, &config, &path, &[]).succeeded().stdout;
        let wanted = "192.0.2.1 and 203.0.113.7 send to guarded ports of each other, and nothing tells which one is this gateway: both are judged";
        assert!(told.contains(wanted), "{told}");
    });
}

/// What a router of BSD's logs of packets that it sends is not judged, nor what it sends through a tunnel.
#[test]
fn what_pf_logs_says_which_way() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = file(sandbox, "c.toml", PROVIDERS);
        let mut capture = CaptureFile::new(Format::Micro, Order::Little, PFLOG);
        let packet = bare().ip("198.51.100.7").udp(5060).bytes();
        // Both, as some rules log, says nothing.
        for direction in [1, 2, 0] {
            capture.add(&logged_by_pf(direction, &packet));
        }
        let path = file(sandbox, "pf.pcap", capture.bytes());
        let told = json_lines(&check(&host, &config, &path, &["--json"]).succeeded());
        let told: Vec<_> = told
            .iter()
            .map(|line| (line["direction"].as_str(), line["reason"].as_str()))
            .collect();
        let judged = (None, Some("unlisted"));
        assert_eq!(told, [judged, (Some("out"), None), judged]);
    });
}

/// Longer than anything that goes over a cable: what the kernel has put together, and what it will not judge in one piece.
#[test]
fn packets_of_half_a_megabyte() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = file(sandbox, "c.toml", PROVIDERS);
        let mut capture = CaptureFile::new(Format::Micro, Order::Little, ETHERNET);
        for port in [5060, 443] {
            let begin = eth().ip("2001:db8:100::9").tcp(port).bytes();
            for length in [70_000, 150_000, 512 << 10] {
                capture.add(&[&begin[..], &vec![b'x'; length]].concat());
            }
        }
        let path = file(sandbox, "big.pcap", capture.bytes());
        for more in [&["--json"][..], &["--json", "--kernel"]] {
            let told = json_lines(&check(&host, &config, &path, more).succeeded());
            let reasons: Vec<_> = told.iter().map(|line| line["reason"].as_str()).collect();
            assert_eq!(
                reasons,
                [
                    Some("unlisted"),
                    Some("unlisted"),
                    Some("unlisted"),
                    None,
                    None,
                    None
                ]
            );
        }
    });
}

const BLOCKED: &str = r#"
[sources]
providers = ["203.0.113.0/24"]
blocked = ["203.0.113.66"]
[services.sip]
udp = [5060]
tcp = [5060]
allow = ["providers"]
deny = ["blocked"]
"#;

#[test]
fn one_packet_is_explained() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = file(sandbox, "c.toml", BLOCKED);
        let mut capture = CaptureFile::new(Format::Micro, Order::Little, ETHERNET);
        let to_us = |from: &str| eth().vlan(5).ip(from).to("192.0.2.1");
        capture.add(&to_us("203.0.113.66").udp(5060).bytes());
        capture.add(&eth().ip("2001:db8::7").hop_by_hop(8).tcp(5060).bytes());
        capture.add(&to_us("203.0.113.5").fragment(1480, false).udp(5060).bytes());
        capture.add(&to_us("203.0.113.5").icmp().bytes());
        let whole = to_us("203.0.113.5").udp(5060).bytes();
        capture.add(&whole[..30]);
        let mut wrong = whole.clone();
        wrong[18 + 10] ^= 1;
        capture.add(&wrong);
        capture.add(&eth().arp().bytes());
        let path = file(sandbox, "c.pcap", capture.bytes());
        let explain = |number: u32, more: &[&str]| {
            let number = number.to_string();
            let words = [&["--explain", &number], more].concat();
            check(&host, &config, &path, &words).succeeded().stdout
        };
        let told = explain(1, &[]);
        let length = to_us("203.0.113.66").udp(5060).bytes().len();
        let wanted = format!(
            "\
packet 1, 2023-11-14T22:13:20.999999Z, {length} bytes
     0  Ethernet          EtherType 0x8100
    14  tag               VLAN 5, EtherType 0x0800
    18  IPv4              203.0.113.66 → 192.0.2.1, UDP
    38  UDP               port 40000 → 5060
sipguard (sip): drop, denied by 203.0.113.66 (config: blocked)
Linux, without it: handed to whoever has UDP port 5060 of 192.0.2.1 open, if that is an address of this host and there is a device for VLAN 5, and routed on if it routes
"
        );
        assert_eq!(told, wanted);
        for (number, wanted) in [
            (
                2,
                &[
                    "    54  hop-by-hop        then TCP\n",
                    "    62  TCP               port ",
                    "unlisted: no entry covers 2001:db8::7\n",
                ][..],
            ),
            (
                3,
                &[
                    "fragment from byte 11840 on\n",
                    "pass, fragment\n",
                    "kept until all of its datagram's fragments have come, 30 s at most",
                ],
            ),
            (
                4,
                &[
                    "    38  ICMP              not looked at\n",
                    "pass, not guarded\n",
                    "taken in for 192.0.2.1",
                ],
            ),
            (
                5,
                &[
                    "    18  IPv4              cut short: 12 bytes of 20 are there\n",
                    "drop, malformed\n",
                ],
            ),
            (
                6,
                &["thrown away, because the checksum of its IPv4 header is wrong\n"],
            ),
            (7, &["pass, not guarded\n", "it is none of IP\n"]),
        ] {
            let told = explain(number, &[]);
            for wanted in wanted {
                assert!(told.contains(wanted), "{wanted} in {told}");
            }
        }
        let told: Value = serde_json::from_str(&explain(1, &["--json"])).expect("JSON");
        assert_eq!(told["layers"][2]["at"], 18);
        assert_eq!(told["action"], "drop");
        assert_eq!(told["entry"]["prefix"], "203.0.113.66");
        assert_eq!(told["entry"]["source"], "blocked");
        let told = check(&host, &config, &path, &["--explain", "8"]).exited(1);
        let wanted = "there is no packet 8: the last one is 7";
        assert!(told.stderr.contains(wanted), "{}", told.stderr);
    });
}

#[test]
fn compressed_ones_are_unpacked() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = file(sandbox, "c.toml", PROVIDERS);
        let mut capture = CaptureFile::new(Format::Enhanced, Order::Little, ETHERNET);
        for _ in 0..20_000 {
            capture.add(
                &eth()
                    .ip("198.51.100.7")
                    .udp(5060)
                    .payload(&[b'x'; 300])
                    .bytes(),
            );
        }
        let path = file(sandbox, "c.pcapng", capture.bytes());
        shell(
            &host,
            &format!("gzip -k {path}; zstd -q -k --long=24 {path}"),
        );
        for packed in [format!("{path}.gz"), format!("{path}.zst")] {
            let told = check(&host, &config, &packed, &[]).succeeded().stdout;
            assert!(told.starts_with("20,000 packets, judged by"), "{told}");
            let bytes = fs::read(&packed).expect("it was made");
            let cut = file(sandbox, "cut", &bytes[..bytes.len() / 2]);
            let told = check(&host, &config, &cut, &[]).exited(1);
            assert!(told.stdout.contains("would be dropped"), "{}", told.stdout);
            assert!(
                told.stderr.contains("it can't be read behind byte "),
                "{}",
                told.stderr
            );
        }
    });
}

fn shell(host: &Host, script: &str) -> Finished {
    host.run(Command::new("sh").args(["-ec", script]))
        .succeeded()
}

/// A dry run beside a live sipguard tells what would change, and moves none of its counters.
#[test]
fn beside_a_live_sipguard() {
    sandbox(|sandbox| {
        let (gateway, peer) = (sandbox.host(), sandbox.host());
        let [gateway_mac, peer_mac] = join(
            End {
                host: &gateway,
                interface: "eth0",
                addresses: &["192.0.2.1/24"],
            },
            End {
                host: &peer,
                interface: "eth0",
                addresses: &["192.0.2.2/24"],
            },
        );
        let live = file(
            sandbox,
            "live.toml",
            format!("interfaces = [\"eth0\"]\n{PROVIDERS}"),
        );
        gateway.sipguard(["apply", "--config", &live]).succeeded();
        gateway
            .sipguard(["allow", "198.51.100.10", "--service", "all"])
            .succeeded();
        let wire = peer.wire("eth0");
        wire.send(
            &eth()
                .macs(gateway_mac, peer_mac)
                .ip("198.51.100.7")
                .udp(5060)
                .bytes(),
        );
        let before = gateway.sipguard(["stats", "--json"]).succeeded().stdout;
        let state = fs::read(Path::new(STATE).join("state.json")).expect("a state");

        let new = file(
            sandbox,
            "new.toml",
            PROVIDERS.replace("203.0.113.0/24\"", "203.0.113.0/25\", \"198.51.100.7\""),
        );
        let mut capture = CaptureFile::new(Format::Enhanced, Order::Little, ETHERNET);
        for (source, times) in [
            ("203.0.113.5", 5),
            ("203.0.113.200", 3),
            ("198.51.100.10", 2),
            ("198.51.100.7", 4),
            ("198.51.100.8", 1),
        ] {
            for _ in 0..times {
                capture.add(&eth().ip(source).udp(5060).bytes());
            }
        }
        let path = file(sandbox, "c.pcapng", capture.bytes());
        let told = check(&gateway, &new, &path, &["--against", "live"]).succeeded();
        let wanted = "
5 packets from 2 sources pass now and would be dropped
SOURCE         SERVICE  NOW      THEN      PACKETS
203.0.113.200  sip      allowed  unlisted        3
198.51.100.10  sip      allowed  unlisted        2
4 packets from 1 source are dropped now and would pass
SOURCE        SERVICE  NOW       THEN     PACKETS
198.51.100.7  sip      unlisted  allowed        4
";
        assert!(told.stdout.ends_with(wanted), "{}", told.stdout);
        let told = check(&gateway, &new, &path, &["--against", "live", "--json"]).succeeded();
        let changed = &json_lines(&told)[5];
        assert_eq!(changed["action"], "drop");
        assert_eq!(
            changed["live"],
            serde_json::json!({"action": "pass", "reason": "allowed"})
        );
        let told = check(&gateway, &live, &path, &["--against", "live"]).succeeded();
        assert!(
            told.stdout.contains("2 packets from 1 source pass now"),
            "{}",
            told.stdout
        );
        let unchanged = fs::read(Path::new(STATE).join("state.json")).expect("a state");
        assert!(state == unchanged, "a dry run changed the state");
        gateway.sipguard(["remove", "198.51.100.10"]).succeeded();
        let told = check(&gateway, &live, &path, &["--against", "live"]).succeeded();
        assert!(
            told.stdout
                .contains("nothing would change against what is in force"),
            "{}",
            told.stdout
        );

        let after = gateway.sipguard(["stats", "--json"]).succeeded().stdout;
        assert_eq!(counters(&before), counters(&after));
    });
}

fn counters(stats: &str) -> Value {
    let stats: Value = serde_json::from_str(stats).expect("JSON");
    stats["counters"].clone()
}
