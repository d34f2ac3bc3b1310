//! `sipguard check --pcap`: every form of capture, real ones and broken ones, beside a live sipguard and without one.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use sipguard_ebpf::abi::{Action, LinkKind, Reason};
use sipguard_tests::{
    capture_file::{CaptureFile, FORMATS, Format, Order},
    frame::{Frame, bare, eth},
    netns::{BPFFS, End, Finished, Host, SCRATCH, STATE, Sandbox, join, sandbox},
    verdict_table::{Config, Row, rows},
};

const ETHERNET: u16 = 1;
const LINUX_COOKED: u16 = 113;
const LINUX_COOKED_2: u16 = 276;
const NFLOG: u16 = 239;
const RADIOTAP: u16 = 127;

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

fn lines(finished: &Finished) -> Vec<Value> {
    let lines = finished.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
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
    const FROM_IP: [Wrapping; 7] = [
        (101, whole),
        (12, whole),
        (14, whole),
        (228, whole),
        (229, whole),
        (0, behind_a_family),
        (108, behind_a_family),
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
                        hold(&rows, &lines(&told), &what);
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
        let told = lines(&told).into_iter().map(|line| {
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
        assert_eq!(lines(&told)[0]["enforced"], false);
        assert_eq!(lines(&told)[0]["action"], "drop");
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
            for line in lines(&told) {
                assert_eq!(line["reason"], "unlisted", "{line}");
            }
            assert_eq!(lines(&told).len(), 6);
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
            assert_eq!(lines(&told).len(), 1, "{format:?} {order:?}");
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
            let told = lines(&check(&host, &config, &path, more).succeeded());
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
        let told = lines(&check(&host, &config, &path, &["--json"]).succeeded());
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
        assert_eq!(sent(&lines(&from_a_pipe)), [false; 6]);

        // Whoever names it means all of it.
        let own = ["--own", "192.0.2.1", "2001:db8::1"];
        let told = check(&host, &config, &path, &own).succeeded().stdout;
        let wanted = "1 would pass, 1 would be dropped\n4 packets were sent by this gateway, and are not judged; ";
        assert!(told.contains(wanted), "{told}");
        let told =
            lines(&check(&host, &config, &path, &[&own[..], &["--json"]].concat()).succeeded());
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
            let told = lines(&check(&host, &config, &path, more).succeeded());
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
Linux, without it: handed to whoever has UDP port 5060 of 192.0.2.1 open, if that is an address of this host, and routed on if it routes
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

/// What would be dropped becomes a capture that other programs open, with the reason in a comment.
#[test]
fn drops_are_written_down() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = file(sandbox, "c.toml", BLOCKED);
        let section = |link, packets: &[Vec<u8>]| {
            let mut capture = CaptureFile::new(Format::Enhanced, Order::Little, link);
            for packet in packets {
                capture.add(packet);
            }
            capture.bytes().to_vec()
        };
        let frame = |from: &str, to: &str| eth().ip(from).to(to).udp(5060).bytes();
        let capture = [
            section(
                ETHERNET,
                &[
                    frame("203.0.113.66", "192.0.2.1"),
                    frame("203.0.113.5", "192.0.2.1"),
                    frame("192.0.2.1", "203.0.113.5"),
                ],
            ),
            section(
                LINUX_COOKED_2,
                &[cooked_2(&frame("198.51.100.7", "192.0.2.1"))],
            ),
        ]
        .concat();
        let path = file(sandbox, "c.pcapng", capture);
        let drops = format!("{SCRATCH}/drops.pcapng");
        let plain = check(&host, &config, &path, &[]).succeeded().stdout;
        let told = check(&host, &config, &path, &["--drops", &drops]).succeeded();
        assert_eq!(told.stdout, plain, "the summary is the same");
        let again = lines(&check(&host, &config, &drops, &["--json", "--in", "all"]).succeeded());
        let reasons: Vec<_> = again.iter().map(|line| line["reason"].as_str()).collect();
        assert_eq!(reasons, [Some("denied"), Some("unlisted")]);
        let written = fs::read(&drops).expect("it was written");
        for comment in [
            "packet 1, sip: denied by 203.0.113.66 (config: blocked)",
            "packet 4, sip: unlisted: no entry covers 198.51.100.7",
        ] {
            let found = written
                .windows(comment.len())
                .any(|it| it == comment.as_bytes());
            assert!(found, "{comment}");
        }
        let told = shell(&host, &format!("tcpdump -nn -r {drops}")).stdout;
        assert_eq!(told.lines().count(), 2, "{told}");
        assert!(told.contains("IP 198.51.100.7."), "{told}");
        shell(
            &host,
            &format!("editcap -F pcap {drops} {SCRATCH}/drops.pcap"),
        );
        let told = check(&host, &config, &path, &["--drops", &path]).exited(1);
        let wanted = "is what is read: name another file for --drops";
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

/// What Wireshark's tools make of the captures is judged the same.
fn convert(gateway: &Host, config: &str) {
    let from = |name: &str| format!("{SCRATCH}/{name}.pcap");
    for (what, command) in [
        (
            "editcap",
            format!("editcap -F pcapng {} {}", from("micro"), from("new")),
        ),
        (
            "editcap",
            format!("editcap -F nsecpcap {} {}", from("micro"), from("new")),
        ),
        (
            "editcap",
            format!(
                "editcap -C 14 -L -T rawip {} {}",
                from("micro"),
                from("new")
            ),
        ),
        // Two interfaces of different kinds in one file.
        (
            "mergecap",
            format!(
                "mergecap -F pcapng -w {} {} {}",
                from("new"),
                from("micro"),
                from("cooked2")
            ),
        ),
    ] {
        shell(gateway, &command);
        let told = check(gateway, config, &from("new"), &["--json"]).succeeded();
        let scans = lines(&told);
        assert!(!scans.is_empty(), "{command}");
        for line in scans {
            let wanted = match line["source"].as_str() {
                Some("203.0.113.5") => "allowed",
                _ => "unlisted",
            };
            assert_eq!(line["reason"], wanted, "{what}: {line}");
        }
    }
}

/// What tcpdump writes while a real scanner and a real provider are at work, and what Wireshark's tools make of it.
#[test]
fn captures_of_real_traffic() {
    sandbox(|sandbox| {
        let (gateway, scanner, provider) = (sandbox.host(), sandbox.host(), sandbox.host());
        for (host, interface, outside, inside) in [
            (&scanner, "eth0", "198.51.100.7/24", "198.51.100.1/24"),
            (&provider, "eth1", "203.0.113.5/24", "203.0.113.1/24"),
        ] {
            join(
                End {
                    host,
                    interface: "eth0",
                    addresses: &[outside],
                },
                End {
                    host: &gateway,
                    interface,
                    addresses: &[inside],
                },
            );
        }
        let config = file(sandbox, "c.toml", PROVIDERS);
        let mut captures = Vec::new();
        for (name, options) in [
            ("micro", "-i eth0"),
            ("nano", "-i eth0 --time-stamp-precision=nano"),
            ("cut", "-i eth0 -s 38"),
            ("cooked", "-i any -y LINUX_SLL"),
            ("cooked2", "-i any -y LINUX_SLL2"),
        ] {
            let path = format!("{SCRATCH}/{name}.pcap");
            let dump = format!(
                "exec tcpdump -Z root --immediate-mode -U -Q in {options} -w {path} udp dst port 5060"
            );
            let dump = gateway.spawn(Command::new("sh").args(["-c", &dump]));
            sipguard_tests::netns::until("tcpdump listens", || {
                dump.stderr().contains("listening on")
            });
            captures.push((name, path, dump));
        }
        // It finds nothing, which is what it says with its exit code.
        scanner.run(Command::new("svmap").args(["198.51.100.1", "-p", "5060"]));
        provider.run(Command::new("sipsak").args(["-vv", "-s", "sip:gw@203.0.113.1", "-D", "1"]));
        let both = |name: &str| name.starts_with("cooked");
        for (name, path, dump) in captures {
            let what = format!("{name}: both packets are captured");
            sipguard_tests::netns::until(&what, || {
                let told = check(&gateway, &config, &path, &["--json"]);
                let has = |address: &str| told.stdout.contains(address);
                has("198.51.100.7") && (!both(name) || has("203.0.113.5"))
                    || name == "cut" && !told.stdout.is_empty()
            });
            dump.stop();
            let told = check(&gateway, &config, &path, &["--json"]).succeeded();
            for line in lines(&told) {
                let reason = match line["source"].as_str() {
                    Some("198.51.100.7") => "unlisted",
                    Some("203.0.113.5") => "allowed",
                    _ => panic!("{name}: {line}"),
                };
                assert_eq!(line["reason"], reason, "{name}: {line}");
                assert_eq!(line["truncated"] == true, name == "cut", "{name}: {line}");
            }
        }
        convert(&gateway, &config);
        // Through a pipe, as from a machine that has no sipguard.
        let pipe = format!(
            "cat {} | {} check --config {config} --pcap - --json",
            format_args!("{SCRATCH}/nano.pcap"),
            sipguard_tests::netns::sipguard().display()
        );
        assert!(shell(&gateway, &pipe).stdout.contains("\"unlisted\""));
    });
}

/// What tcpdump writes of all interfaces, and of what netfilter logs, says which way each packet went.
#[test]
fn which_way_real_packets_went() {
    sandbox(|sandbox| {
        let (gateway, provider) = (sandbox.host(), sandbox.host());
        let ends = [(&gateway, "203.0.113.1/24"), (&provider, "203.0.113.5/24")];
        let [one, other] = ends.map(|(host, address)| (host, [address]));
        join(
            End {
                host: one.0,
                interface: "eth0",
                addresses: &one.1,
            },
            End {
                host: other.0,
                interface: "eth0",
                addresses: &other.1,
            },
        );
        let config = file(sandbox, "c.toml", PROVIDERS);
        for chain in ["INPUT", "OUTPUT"] {
            let rule = format!("iptables -A {chain} -p udp --dport 5060 -j NFLOG --nflog-group 5");
            shell(&gateway, &rule);
        }
        let captures =
            ["-i any -y LINUX_SLL", "-i any -y LINUX_SLL2", "-i nflog:5"].map(|options| {
                let path = format!("{SCRATCH}/{}.pcap", options.replace(' ', ""));
                // Of what is logged tcpdump filters nothing.
                let filter = if options.contains("any") {
                    "udp dst port 5060"
                } else {
                    ""
                };
                let dump = format!(
                    "exec tcpdump -Z root --immediate-mode -U {options} -w {path} {filter}"
                );
                let dump = gateway.spawn(Command::new("sh").args(["-c", &dump]));
                dump.wait_for_error("listening on");
                (options, path, dump)
            });
        for (host, to) in [(&gateway, "203.0.113.5"), (&provider, "203.0.113.1")] {
            // Nobody answers, which is what it says with its exit code.
            host.run(Command::new("sipsak").args(["-s", &format!("sip:x@{to}"), "-D", "1"]));
        }
        for (options, path, dump) in captures {
            sipguard_tests::netns::until(options, || {
                let told = check(&gateway, &config, &path, &["--json"]).stdout;
                told.contains("\"out\"") && told.contains("203.0.113.5")
            });
            dump.stop();
            let told = check(&gateway, &config, &path, &["--json"]).succeeded();
            for line in lines(&told) {
                if line["direction"] == "out" {
                    assert_eq!(line["action"], Value::Null, "{options}");
                } else {
                    let told = (line["source"].as_str(), line["reason"].as_str());
                    assert_eq!(told, (Some("203.0.113.5"), Some("allowed")), "{options}");
                }
            }
        }
    });
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
        let changed = &lines(&told)[5];
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
