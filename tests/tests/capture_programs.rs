//! Captures that other people's programs write while a real scanner and a real provider are at work, and what these programs make of ours:
//! tcpdump, dumpcap, tshark, sngrep, and what Wireshark has besides.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use sipguard_tests::{
    capture_file::{CaptureFile, Format, Order},
    frame::eth,
    netns::{End, Finished, Host, Process, SCRATCH, Sandbox, join, sandbox, sipguard, until},
    printed::json_lines,
    tun::Tun,
};

const PROVIDERS: &str = r#"
[sources]
providers = ["203.0.113.0/24"]
blocked = ["203.0.113.66"]
[services.sip]
udp = [5060]
tcp = [5060]
allow = ["providers"]
deny = ["blocked"]
"#;
const SCANNER: &str = "198.51.100.7";
const PROVIDER: &str = "203.0.113.5";

fn at(name: &str) -> String {
    format!("{SCRATCH}/{name}")
}

fn config(_: &Sandbox) -> String {
    let path = at("c.toml");
    fs::write(&path, PROVIDERS).unwrap();
    path
}

fn check(host: &Host, config: &str, capture: &str, more: &[&str]) -> Finished {
    let words = ["check", "--config", config, "--pcap", capture];
    host.sipguard(words.iter().chain(more))
}

fn shell(host: &Host, script: &str) -> Finished {
    host.run(Command::new("sh").args(["-ec", script]))
        .succeeded()
}

/// A gateway between a scanner and a provider.
struct Scene {
    gateway: Host,
    scanner: Host,
    provider: Host,
}

impl Scene {
    fn new(sandbox: &Sandbox) -> Self {
        let scene = Self {
            gateway: sandbox.host(),
            scanner: sandbox.host(),
            provider: sandbox.host(),
        };
        for (host, interface, outside, inside) in [
            (&scene.scanner, "eth0", "198.51.100.7/24", "198.51.100.1/24"),
            (&scene.provider, "eth1", "203.0.113.5/24", "203.0.113.1/24"),
        ] {
            join(
                End {
                    host,
                    interface: "eth0",
                    addresses: &[outside],
                },
                End {
                    host: &scene.gateway,
                    interface,
                    addresses: &[inside],
                },
            );
        }
        scene
    }

    /// The scanner looks for gateways, and the provider sends a request; with `answers`, the gateway sends one to the provider, too.
    fn talk(&self, answers: bool) {
        // They find nothing, or nobody answers, which is what they say with their exit codes.
        let ask = |host: &Host, to: &str| {
            let to = format!("sip:gw@{to}");
            host.run(Command::new("sipsak").args(["-s", &to, "-D", "1"]));
        };
        self.scanner
            .run(Command::new("svmap").args(["198.51.100.1", "-p", "5060"]));
        ask(&self.provider, "203.0.113.1");
        if answers {
            ask(&self.gateway, PROVIDER);
        }
    }
}

const FILTER: &str = "'udp dst port 5060'";

/// A program that writes a capture.
struct Recorder {
    name: &'static str,
    process: Process,
}

impl Recorder {
    /// Starts one; it writes to its name below the scratch folder, for which the command has `OUT`.
    fn start(host: &Host, name: &'static str, command: &str) -> Self {
        let before = listening(host);
        let command = command.replace("OUT", &at(name)).replace("FILTER", FILTER);
        let program = command.split(' ').next().unwrap_or_default();
        // Nothing that a program starts outlives the first process of a namespace.
        let words = format!("exec unshare --pid --fork --kill-child {command}");
        let process = host.spawn(Command::new("sh").args(["-c", &words]));
        match program {
            "tcpdump" => process.wait_for_error("listening on"),
            "dumpcap" => process.wait_for_error("File: "),
            "tshark" => process.wait_for_error("Capture started"),
            _ => until(&format!("{name} listens"), || listening(host) > before),
        }
        Self { name, process }
    }

    /// What it has written so far: one file, or several, one behind the other.
    fn file(&self) -> String {
        let mut parts: Vec<_> = fs::read_dir(SCRATCH)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.starts_with(&format!("{}_0", self.name))
            })
            .collect();
        if parts.is_empty() {
            return at(self.name);
        }
        parts.sort();
        let parts: Vec<_> = parts.iter().map(|part| fs::read(part).unwrap()).collect();
        let whole = at(&format!("{}-whole", self.name));
        fs::write(&whole, parts.concat()).unwrap();
        whole
    }
}

/// How many packet sockets hear everything.
fn listening(host: &Host) -> usize {
    host.enter(|| {
        let sockets = fs::read_to_string("/proc/thread-self/net/packet").unwrap();
        sockets
            .lines()
            .filter(|line| line.contains(" 0003 "))
            .count()
    })
}

/// What has all of it, and what has one interface only.
const RECORDERS: &[(&str, &str)] = &[
    (
        "micro",
        "tcpdump -Z root --immediate-mode -U -Q in -i eth0 -w OUT FILTER",
    ),
    (
        "nano",
        "tcpdump -Z root --immediate-mode -U -Q in -i eth0 --time-stamp-precision=nano -w OUT FILTER",
    ),
    (
        "cut",
        "tcpdump -Z root --immediate-mode -U -Q in -i eth0 -s 38 -w OUT FILTER",
    ),
    (
        "any-cooked",
        "tcpdump -Z root --immediate-mode -U -i any -y LINUX_SLL -w OUT FILTER",
    ),
    (
        "any-cooked2",
        "tcpdump -Z root --immediate-mode -U -i any -y LINUX_SLL2 -w OUT FILTER",
    ),
    ("any-dumpcap", "dumpcap -q -i any -f FILTER -w OUT"),
    ("any-dumpcap-pcap", "dumpcap -q -P -i any -f FILTER -w OUT"),
    (
        "any-dumpcap-two",
        "dumpcap -q -i eth0 -f FILTER -i eth1 -f FILTER -w OUT",
    ),
    (
        "any-dumpcap-mixed",
        "dumpcap -q -i eth1 -f FILTER -i any -f FILTER -w OUT",
    ),
    (
        "any-dumpcap-ring",
        "dumpcap -q -i any -f FILTER -b packets:1 -b files:8 -w OUT",
    ),
    ("any-tshark", "tshark -q -i any -f FILTER -w OUT"),
    ("tshark-pcap", "tshark -q -F pcap -i eth0 -f FILTER -w OUT"),
    ("any-sngrep", "sngrep -N -q -d any -O OUT udp dst port 5060"),
];

#[test]
fn captures_of_real_traffic() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox);
        let config = config(sandbox);
        let recorders: Vec<_> = RECORDERS
            .iter()
            .map(|(name, command)| Recorder::start(&scene.gateway, name, command))
            .collect();
        scene.talk(false);
        for recorder in recorders {
            let name = recorder.name;
            until(&format!("{name}: all is captured"), || {
                let told = check(&scene.gateway, &config, &recorder.file(), &["--json"]);
                let has = |address: &str| told.stdout.contains(address);
                has(SCANNER) && (!name.starts_with("any") || has(PROVIDER))
                    || name == "cut" && !told.stdout.is_empty()
            });
            drop(recorder.process);
        }
        for (name, _) in RECORDERS {
            let file = match *name {
                "any-dumpcap-ring" => at("any-dumpcap-ring-whole"),
                name => at(name),
            };
            let told = check(&scene.gateway, &config, &file, &["--json"]).succeeded();
            judged_by_source(name, &json_lines(&told), *name == "cut");
        }
        convert(&scene.gateway, &config);
        // Through a pipe, as from a machine that has no sipguard.
        let pipe = format!(
            "cat {} | {} check --config {config} --pcap - --json",
            at("nano"),
            sipguard().display()
        );
        assert!(shell(&scene.gateway, &pipe).stdout.contains("\"unlisted\""));
    });
}

fn judged_by_source(name: &str, lines: &[Value], is_cut: bool) {
    assert!(!lines.is_empty(), "{name}");
    for line in lines {
        let reason = match line["source"].as_str() {
            Some(SCANNER) => "unlisted",
            Some(PROVIDER) => "allowed",
            _ => panic!("{name}: {line}"),
        };
        assert_eq!(line["reason"], reason, "{name}: {line}");
        assert_eq!(line["truncated"] == true, is_cut, "{name}: {line}");
    }
}

/// What Wireshark's tools make of the captures is judged the same.
fn convert(gateway: &Host, config: &str) {
    let [micro, cooked, new] = ["micro", "any-cooked2", "new"].map(at);
    for command in [
        format!("editcap -F pcapng {micro} {new}"),
        format!("editcap -F nsecpcap {micro} {new}"),
        format!("editcap -C 14 -L -T rawip {micro} {new}"),
        // Two interfaces of different kinds in one file.
        format!("mergecap -F pcapng -w {new} {micro} {cooked}"),
    ] {
        shell(gateway, &command);
        let told = check(gateway, config, &new, &["--json"]).succeeded();
        judged_by_source(&command, &json_lines(&told), false);
    }
}

/// What is written of all interfaces, and of what netfilter logs, says which way each packet went.
#[test]
fn which_way_real_packets_went() {
    const RECORDERS: &[(&str, &str)] = &[
        (
            "cooked",
            "tcpdump -Z root --immediate-mode -U -i any -y LINUX_SLL -w OUT FILTER",
        ),
        (
            "cooked2",
            "tcpdump -Z root --immediate-mode -U -i any -y LINUX_SLL2 -w OUT FILTER",
        ),
        // Of what is logged tcpdump filters nothing.
        (
            "logged",
            "tcpdump -Z root --immediate-mode -U -i nflog:5 -w OUT",
        ),
        ("dumpcap", "dumpcap -q -i any -f FILTER -w OUT"),
        (
            "dumpcap-logged",
            "dumpcap -q -i nflog:6 -i any -f FILTER -w OUT",
        ),
        ("sngrep", "sngrep -N -q -d any -O OUT udp dst port 5060"),
    ];
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox);
        let config = config(sandbox);
        for chain in ["INPUT", "OUTPUT"] {
            for group in [5, 6] {
                let rule = format!(
                    "iptables -A {chain} -p udp --dport 5060 -j NFLOG --nflog-group {group}"
                );
                shell(&scene.gateway, &rule);
            }
        }
        let recorders: Vec<_> = RECORDERS
            .iter()
            .map(|(name, command)| Recorder::start(&scene.gateway, name, command))
            .collect();
        scene.talk(true);
        for Recorder { name, process } in recorders {
            until(&format!("{name}: both ways are captured"), || {
                let told = check(&scene.gateway, &config, &at(name), &["--json"]).stdout;
                told.contains("\"out\"") && told.contains(PROVIDER)
            });
            drop(process);
            let told = check(&scene.gateway, &config, &at(name), &["--json"]).succeeded();
            let (out, came): (Vec<_>, Vec<_>) = json_lines(&told)
                .into_iter()
                .partition(|line| line["direction"] == "out");
            for line in out {
                assert_eq!(line["action"], Value::Null, "{name}");
            }
            judged_by_source(name, &came, false);
        }
    });
}

/// What has no Ethernet header: tcpdump writes raw IP of a tunnel's device.
#[test]
fn of_a_tunnel_s_device() {
    sandbox(|sandbox| {
        let gateway = sandbox.host();
        let config = config(sandbox);
        let wire = gateway.tun("tun0", Tun::Ip);
        let recorders = [
            (
                "raw",
                "tcpdump -Z root --immediate-mode -U -i tun0 -w OUT FILTER",
            ),
            ("raw-dumpcap", "dumpcap -q -i tun0 -f FILTER -w OUT"),
        ];
        let recorders = recorders.map(|(name, command)| Recorder::start(&gateway, name, command));
        for source in [SCANNER, PROVIDER] {
            let packet = sipguard_tests::frame::bare().ip(source).udp(5060);
            wire.send(&packet.bytes());
        }
        for Recorder { name, process } in recorders {
            until(&format!("{name}: both are captured"), || {
                json_lines(&check(&gateway, &config, &at(name), &["--json"])).len() == 2
            });
            drop(process);
            let told = check(&gateway, &config, &at(name), &["--json"]).succeeded();
            judged_by_source(name, &json_lines(&told), false);
        }
    });
}

/// What would be dropped becomes a capture that other programs open, with the reason in a comment.
#[test]
fn drops_are_opened_by_others() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let config = config(sandbox);
        let section = |link, packets: &[Vec<u8>]| {
            let mut capture = CaptureFile::new(Format::Enhanced, Order::Little, link);
            for packet in packets {
                capture.add(packet);
            }
            capture.bytes().to_vec()
        };
        let frame = |from: &str, to: &str| {
            let request = format!(
                "OPTIONS sip:x@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from}:40000;branch=z9hG4bK{from}\r\nFrom: <sip:a@{from}>;tag=1\r\n\
                 To: <sip:x@{to}>\r\nCall-ID: {from}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
            );
            let frame = eth().ip(from).to(to).udp(5060);
            frame.payload(request.as_bytes()).bytes()
        };
        let cooked = |frame: &[u8]| {
            let begin = [0, 0, 0, 1, 0, 6, 2, 0x51, 0x90, 0, 0, 1, 0, 0];
            [&begin, &frame[12..]].concat()
        };
        let capture = [
            section(
                1,
                &[
                    frame("203.0.113.66", "192.0.2.1"),
                    frame(PROVIDER, "192.0.2.1"),
                    frame("192.0.2.1", PROVIDER),
                ],
            ),
            section(113, &[cooked(&frame(SCANNER, "192.0.2.1"))]),
        ]
        .concat();
        let path = at("c.pcapng");
        fs::write(&path, capture).unwrap();
        let drops = at("drops.pcapng");
        let plain = check(&host, &config, &path, &[]).succeeded().stdout;
        let told = check(&host, &config, &path, &["--drops", &drops]).succeeded();
        assert_eq!(told.stdout, plain, "the summary is the same");
        let again =
            json_lines(&check(&host, &config, &drops, &["--json", "--in", "all"]).succeeded());
        let reasons: Vec<_> = again.iter().map(|line| line["reason"].as_str()).collect();
        assert_eq!(reasons, [Some("denied"), Some("unlisted")]);

        let comments = [
            "packet 1, sip: denied by 203.0.113.66 (config: blocked)",
            "packet 4, sip: unlisted: no entry covers 198.51.100.7",
        ];
        let fields = "-T fields -e frame.number -e ip.src -e sip.Method -e frame.comment";
        let told = shell(&host, &format!("tshark -n -r {drops} {fields}")).stdout;
        let wanted = format!(
            "1\t203.0.113.66\tOPTIONS\t{}\n2\t198.51.100.7\tOPTIONS\t{}\n",
            comments[0], comments[1]
        );
        assert_eq!(told, wanted);
        let told = shell(&host, &format!("tshark -n -V -r {drops}")).stdout;
        for comment in comments {
            assert!(told.contains(comment), "{told}");
        }
        let told = shell(&host, &format!("capinfos -c -I -E {drops}")).stdout;
        for wanted in [
            "Number of packets:   2\n",
            "Number of interfaces in file: 1\n",
            "Encapsulation = Ethernet (1 - ether)\n",
        ] {
            assert!(told.contains(wanted), "{told}");
        }
        let told = shell(&host, &format!("tcpdump -nn -r {drops}")).stdout;
        assert_eq!(told.lines().count(), 2, "{told}");
        assert!(told.contains("IP 198.51.100.7."), "{told}");
        let converted = at("drops.pcap");
        shell(&host, &format!("editcap -F pcap {drops} {converted}"));
        // What it shows as dialogs it writes down again.
        let shown = at("shown.pcap");
        shell(&host, &format!("sngrep -N -q -I {drops} -O {shown}"));
        for file in [&converted, &shown] {
            let told =
                json_lines(&check(&host, &config, file, &["--json", "--in", "all"]).succeeded());
            let reasons: Vec<_> = told.iter().map(|line| line["reason"].as_str()).collect();
            assert_eq!(reasons, [Some("denied"), Some("unlisted")], "{file}");
        }
        let told = check(&host, &config, &path, &["--drops", &path]).exited(1);
        let wanted = "is what is read: name another file for --drops";
        assert!(told.stderr.contains(wanted), "{}", told.stderr);
        assert!(Path::new(&path).exists());
    });
}
