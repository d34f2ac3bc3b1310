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
    const FROM_ETHERNET: [Wrapping; 3] = [
        (ETHERNET, whole),
        (LINUX_COOKED, cooked),
        (LINUX_COOKED_2, cooked_2),
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
                            link == LinkKind::Ip || number == ETHERNET || row.frame.len() >= 14
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
                        hold(
                            &rows,
                            &lines(&told),
                            &format!("{format:?} {order:?} {number}"),
                        );
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
            ("gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "it is compressed"),
            (
                "wifi",
                CaptureFile::new(Format::Micro, Order::Little, 127).bytes(),
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
