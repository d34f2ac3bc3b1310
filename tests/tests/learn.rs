//! `learn`, of a gateway that lives: a SIP server (Kamailio), which registers with one provider and is called by another, phones behind NAT, a scanner,
//! somebody who guesses passwords, and a caller whom it refuses. What is learned lets the right ones in, and the same day goes on under it as before.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::Value;
use sipguard_tests::netns::{End, Host, Process, SCRATCH, Sandbox, join, sandbox, sipguard, until};

const GATEWAY: &str = "192.0.2.1";
/// The gateway registers there.
const PROVIDER: &str = "203.0.113.5";
/// Calls the gateway.
const CALLER: &str = "203.0.113.77";
/// What phones come from.
const NAT: &str = "198.51.100.50";
/// Calls, too, and is refused.
const REFUSED: &str = "198.51.100.9";
const SCANNER: &str = "198.51.100.7";
const GUESSER: &str = "198.51.100.13";

struct Story {
    gateway: Host,
    outside: Host,
    phones: Host,
    scanner: Host,
    guesser: Host,
}

fn file(name: &str) -> PathBuf {
    Path::new(SCRATCH).join(name)
}

impl Story {
    fn new(sandbox: &Sandbox) -> Self {
        let story = Self {
            gateway: sandbox.host(),
            outside: sandbox.host(),
            phones: sandbox.host(),
            scanner: sandbox.host(),
            guesser: sandbox.host(),
        };
        for (name, text) in [
            ("kamailio.cfg", include_str!("../learn/kamailio.cfg")),
            ("register.xml", include_str!("../learn/register.xml")),
            ("provider.xml", include_str!("../learn/provider.xml")),
        ] {
            fs::write(file(name), text).unwrap();
        }
        for (host, line, here, there) in [
            (&story.gateway, "gateway", "192.0.2.254/24", "192.0.2.1/24"),
            (&story.phones, "phones", "10.0.0.1/24", "10.0.0.2/24"),
            (
                &story.scanner,
                "scanner",
                "198.51.100.6/31",
                "198.51.100.7/31",
            ),
            (
                &story.guesser,
                "guesser",
                "198.51.100.12/31",
                "198.51.100.13/31",
            ),
        ] {
            join(
                End {
                    host,
                    interface: "eth0",
                    addresses: &[there],
                },
                End {
                    host: &story.outside,
                    interface: line,
                    addresses: &[here],
                },
            );
            let (router, _) = here.split_once('/').unwrap();
            host.ip(&format!("route add default via {router}"));
        }
        for address in [PROVIDER, CALLER, REFUSED, NAT] {
            story
                .outside
                .ip(&format!("address add {address}/32 dev lo"));
        }
        story
            .outside
            .enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        let rules = format!(
            "table ip nat {{ chain post {{ type nat hook postrouting priority srcnat; ip saddr 10.0.0.0/24 snat to {NAT}; }}; }}\n"
        );
        fs::write(file("nat.nft"), rules).unwrap();
        story
            .outside
            .run(Command::new("nft").arg("-f").arg(file("nat.nft")))
            .succeeded();
        story
    }

    fn kamailio(&self) -> Process {
        let folder = file("kamailio");
        fs::create_dir_all(&folder).unwrap();
        // Its children would outlive it, where a test fails; nothing outlives the first process of a namespace.
        let mut kamailio = Command::new("unshare");
        kamailio
            .args(["--pid", "--fork", "--kill-child", "kamailio"])
            .args(["-DD", "-E", "-m", "16", "-M", "4", "-f"])
            .arg(file("kamailio.cfg"))
            .arg("-Y")
            .arg(folder);
        let kamailio = self.gateway.spawn(&mut kamailio);
        self.gateway.wait_until_bound("udp", 5060);
        kamailio
    }

    /// A day: whether registrations and calls of each went as they should. Those who are to be let in come first.
    /// Scanners go on for seconds without a word, and are stopped where `until_done` says that they have done enough.
    fn day(&self, until_done: impl FnOnce()) -> [bool; 5] {
        let sipp = |host: &Host, from: &str, port: &str, words: &str| {
            let mut sipp = Command::new("sipp");
            sipp.current_dir(SCRATCH)
                .args([
                    "-nostdin",
                    "-i",
                    from,
                    "-p",
                    port,
                    "-m",
                    "1",
                    "-timeout",
                    "25s",
                    "-timeout_error",
                ])
                .args(words.split_whitespace());
            host.spawn(&mut sipp)
        };
        let tools = [
            (&self.scanner, format!("svmap {GATEWAY}")),
            (&self.guesser, format!("svcrack -u 100 -r 1-20 {GATEWAY}")),
        ];
        let tools = tools.map(|(host, words)| {
            let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
            let mut tool = Command::new(&words[0]);
            // They keep what they have found in the home folder.
            host.spawn(
                tool.args(&words[1..])
                    .env("HOME", SCRATCH)
                    .current_dir(SCRATCH),
            )
        });
        let provider = sipp(&self.outside, PROVIDER, "5060", "-sf provider.xml");
        self.outside.wait_until_bound("udp", 5060);
        let refused = sipp(
            &self.outside,
            REFUSED,
            "5071",
            &format!("-sn uac -max_retrans 2 -s 9011441904911054 -d 1 {GATEWAY}:5060"),
        );
        let register =
            |user: &str| format!("-sf register.xml -key user {user} -au {user} -ap secret");
        let trunk = format!(
            "{} -key service_domain sip.provider.example {PROVIDER}:5060",
            register("4711")
        );
        let phone = |user: &str| {
            format!(
                "{} -key service_domain gateway {GATEWAY}:5060",
                register(user)
            )
        };
        let right = [
            sipp(&self.gateway, GATEWAY, "5061", &trunk),
            sipp(&self.phones, "10.0.0.2", "5100", &phone("100")),
            sipp(&self.phones, "10.0.0.2", "5101", &phone("101")),
            sipp(
                &self.outside,
                CALLER,
                "5072",
                &format!("-sn uac -s 4930123456 -d 1 {GATEWAY}:5060"),
            ),
            refused,
        ];
        let went = right.map(|process| process.wait().status.success());
        until_done();
        drop((provider, tools));
        went
    }
}

/// Sources and entries of what is proposed.
fn proposed(json: &str) -> Vec<(String, String)> {
    let findings: Value = serde_json::from_str(json).unwrap();
    let proposals = findings["proposals"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    proposals
        .map(|it| (text(&it["source"]), text(&it["entry"])))
        .collect()
}

#[test]
fn what_is_learned_lets_in_the_right_ones_and_loses_no_call() {
    sandbox(|sandbox| {
        let story = Story::new(sandbox);
        let capture = file("day.pcap");
        let mut tcpdump = Command::new("tcpdump");
        // It would change to a user that may write nothing here.
        tcpdump
            .args(["-n", "-i", "eth0", "-U", "-Z", "root", "-w"])
            .arg(&capture);
        let tcpdump = story.gateway.spawn(&mut tcpdump);
        tcpdump.wait_for_error("listening on");
        let mut listen = Command::new(sipguard());
        listen.args(["learn", "--interface", "eth0", "--for", "10m", "--json"]);
        let listen = story.gateway.spawn(&mut listen);
        story.gateway.enter(|| {
            until("both listen", || {
                let sockets = fs::read_to_string("/proc/thread-self/net/packet").unwrap();
                // With a line of titles. One that is not bound yet has no protocol.
                sockets
                    .lines()
                    .filter(|line| line.contains(" 0003 "))
                    .count()
                    == 2
            });
        });
        let kamailio = story.kamailio();
        let scanned = || {
            until("both strangers have been here", || {
                let day = fs::read(&capture).unwrap();
                let count = |text: &str| String::from_utf8_lossy(&day).matches(text).count();
                count("OPTIONS sip:") > 0 && count("REGISTER sip:192.0.2.1 ") >= 20
            });
        };
        assert_eq!(
            story.day(scanned),
            [true, true, true, true, false],
            "{}",
            kamailio.stderr()
        );

        listen.signal(Signal::INT);
        let heard = listen.wait().succeeded().stdout;
        tcpdump.stop();
        let read = |more: &[&str]| {
            let mut learn = Command::new(sipguard());
            learn.args(["learn", "--pcap"]).arg(&capture).args(more);
            story.gateway.run(&mut learn).succeeded().stdout
        };
        let wanted = [
            ("providers", "sip:sip.provider.example"),
            ("providers", PROVIDER),
            ("providers", CALLER),
            ("phones", NAT),
        ];
        let wanted = wanted.map(|(source, entry)| (source.to_owned(), entry.to_owned()));
        assert_eq!(proposed(&read(&["--json"])), wanted);
        assert_eq!(proposed(&heard), wanted);
        let config = read(&[]);
        for out in [REFUSED, SCANNER, GUESSER] {
            assert!(config.contains(&format!("#   {out}\n")), "{config}");
        }

        let config = config.replace("interfaces = []", "interfaces = [\"eth0\"]");
        fs::write(file("sipguard.toml"), config).unwrap();
        let ours = |words: &str| {
            let mut sipguard = Command::new(sipguard());
            sipguard
                .arg("--config")
                .arg(file("sipguard.toml"))
                .args(words.split(' '));
            story.gateway.run(&mut sipguard)
        };
        ours("apply --offline").succeeded();
        for (address, code) in [
            (PROVIDER, 0),
            (CALLER, 0),
            (NAT, 0),
            (REFUSED, 3),
            (SCANNER, 3),
            (GUESSER, 3),
        ] {
            ours(&format!("check {address} --port 5060 --proto udp")).exited(code);
        }
        assert_eq!(
            story.day(|| ()),
            [true, true, true, true, false],
            "{}",
            kamailio.stderr()
        );
    });
}
