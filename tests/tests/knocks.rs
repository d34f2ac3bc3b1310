//! Who knocked, and what he tries: with the programs that people do it with, through the kernel.

use std::{
    fs,
    net::UdpSocket,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use sipguard::{
    agent::{
        attempts,
        knocks::{Attempted, FILE, Knocks},
    },
    clock,
    events::{Source, Wanted},
    host::Host as GuardedHost,
    policy::Hide,
    sip,
    state::Store,
};
use sipguard_tests::{
    agent::{Agent, Journal},
    netns::{End, Host, Process, SCRATCH, STATE, Sandbox, join, sandbox, sipguard, until},
    scene::{PROVIDER, SCANNER, Scene},
};

/// Everything is let through and counted, so that programs get answers and go on.
const CONFIG: &str = r#"
interfaces = ["eth0", "eth1", "eth2", "eth3"]
mode = "monitor"
[services.sip]
udp = [5060, 5061, 50600]
"#;
/// How long it may take until the last of them is recognised, who needs 24 seconds.
const PATIENCE: Duration = Duration::from_secs(55);

/// Invites, says nothing else, and does not wait.
const TOLL_FRAUD: &str = r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="toll fraud">
  <send><![CDATA[
INVITE sip:[field0]@[remote_ip] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:1000@[local_ip]>;tag=[call_number]
To: <sip:[field0]@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 INVITE
User-Agent: PBX
Max-Forwards: 70
Content-Length: 0

]]></send>
  <pause milliseconds="10"/>
</scenario>
"#;

/// A gateway, and four hosts that each have a cable of their own to it: the programs choose their source address themselves.
fn attacked(sandbox: &Sandbox) -> (Host, [Host; 4]) {
    let gateway = sandbox.host();
    let outside = [0, 1, 2, 3].map(|number| {
        let host = sandbox.host();
        let [near, far] = [1, 2].map(|last| format!("192.0.2.{}/30", number * 4 + last));
        join(
            End {
                host: &gateway,
                interface: &format!("eth{number}"),
                addresses: &[&near],
            },
            End {
                host: &host,
                interface: "eth0",
                addresses: &[&far],
            },
        );
        host
    });
    let config = Path::new(SCRATCH).join("sipguard.toml");
    fs::write(&config, CONFIG).expect("the scratch folder is writable");
    let config = config.to_str().expect("plain");
    gateway.sipguard(["--config", config, "apply"]).succeeded();
    (gateway, outside)
}

/// A registrar with one user, until it is told to end: no other program answers what they ask without a config of its own.
fn registrar(socket: &UdpSocket, ended: &AtomicBool) {
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("a timeout");
    let (mut buffer, mut number) = ([0; 4000], 0);
    while !ended.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        number += 1;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let same = text.lines().filter(|line| {
            let same = ["Via:", "From:", "Call-ID:", "CSeq:"];
            same.iter().any(|name| line.starts_with(name))
        });
        let same = same.collect::<Vec<_>>().join("\r\n");
        let to = text.lines().find(|line| line.starts_with("To:"));
        let to = to.unwrap_or("To: nobody");
        let status = if to.contains("<sip:100@") {
            format!(
                "401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"pbx\", nonce=\"{number}\", algorithm=MD5"
            )
        } else {
            "404 Not Found".to_owned()
        };
        let answer =
            format!("SIP/2.0 {status}\r\n{same}\r\n{to};tag={number}\r\nContent-Length: 0\r\n\r\n");
        // Whoever asked may be gone.
        let _ = socket.send_to(answer.as_bytes(), from);
    }
}

/// The registrar ends with this, whatever becomes of the test.
struct Ended<'e>(&'e AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// With these words, the last one of which is the gateway's address.
fn program(name: &str, arguments: &str) -> Command {
    let mut command = Command::new(name);
    command.args(arguments.split(' '));
    // They keep their sessions at home.
    command.env("HOME", SCRATCH).current_dir(SCRATCH);
    command
}

/// The kernel tells of each source once a second, so that this takes half a minute: a guesser is told from a phone by how long he goes on.
#[test]
fn scanners_guessers_and_fraudsters_are_recognised() {
    sandbox(|sandbox| {
        let (gateway, outside) = attacked(sandbox);
        let socket = gateway.enter(|| UdpSocket::bind(("0.0.0.0", 5060)).expect("a free port"));
        let ended = AtomicBool::new(false);
        let mut journal = Journal::listen(sandbox);
        let agent = Agent::start(&gateway);
        let host = GuardedHost::new(Store::at(STATE), &clock::boot(), clock::now);
        let wanted = Wanted {
            passes: false,
            bytes: sip::MOST,
        };
        // What the agent hands on is what it knows itself: so it is known here when it has recognised all of them.
        let mut source = Source::open(&host, wanted).expect("the agent runs");
        let mut knocks = Knocks::default();

        let scratch = Path::new(SCRATCH);
        let prefixes = ["00", "900", "011", "9011", "+", "000"];
        let numbers = prefixes.map(|prefix| format!("{prefix}442079460123"));
        let numbers = format!("SEQUENTIAL\n{}\n", numbers.join("\n"));
        fs::write(scratch.join("numbers.csv"), numbers).expect("writable");
        fs::write(scratch.join("fraud.xml"), TOLL_FRAUD).expect("writable");

        thread::scope(|scope| {
            scope.spawn(|| registrar(&socket, &ended));
            let _ended = Ended(&ended);
            let programs = [
                program("svmap", "-p 5060,5061 192.0.2.1"),
                program("svwar", "-m REGISTER -t 0.02 -e 100-9999 192.0.2.5"),
                program("svcrack", "-u 100 -t 0.02 -r 100000-999999 192.0.2.9"),
                program(
                    "sipp",
                    "-sf fraud.xml -inf numbers.csv -nostdin -nd -r 1 -rp 1100 -m 12 192.0.2.13",
                ),
            ];
            let hosts = outside.iter().zip(programs);
            let programs: Vec<_> = hosts
                .map(|(host, mut program)| host.spawn(&mut program))
                .collect();
            let began = Instant::now();
            let mut found = Vec::new();
            let wanted = [
                ("192.0.2.14", Attempted::TollFraud),
                ("192.0.2.2", Attempted::Scan),
                ("192.0.2.6", Attempted::BruteForce),
                ("192.0.2.10", Attempted::BruteForce),
            ];
            until("all are recognised", || {
                let read = source.read(|event| {
                    assert!(!event.enforced);
                    let Some(knock) = knocks.note(&event, Hide::default()) else {
                        return;
                    };
                    for attempted in attempts::new(knock) {
                        println!("{} {attempted:?} after {:?}", knock.source, began.elapsed());
                        found.push((knock.source.to_string(), attempted));
                    }
                });
                read.expect("the agent goes on");
                assert!(
                    began.elapsed() < PATIENCE,
                    "{found:?}, {} sources: {:#?}",
                    knocks.len(),
                    programs.iter().map(Process::stderr).collect::<Vec<_>>()
                );
                let is_found = |(source, attempted): &(&str, Attempted)| {
                    found.iter().any(|it| it.0 == *source && it.1 == *attempted)
                };
                thread::sleep(Duration::from_millis(90));
                wanted.iter().all(is_found)
            });
            // Nobody is said to do what he does not.
            let tried = |attempted| {
                let of = found.iter().filter(move |it| it.1 == attempted);
                let mut of: Vec<_> = of.map(|it| it.0.as_str()).collect();
                of.sort_unstable();
                of
            };
            assert_eq!(tried(Attempted::TollFraud), ["192.0.2.14"]);
            assert_eq!(tried(Attempted::BruteForce), ["192.0.2.10", "192.0.2.6"]);
            assert_eq!(
                tried(Attempted::Scan),
                ["192.0.2.10", "192.0.2.2", "192.0.2.6"]
            );
            // Of each kind the agent tells of the first one at once.
            for (attempted, kind) in [
                (Attempted::Scan, "scan_tried"),
                (Attempted::BruteForce, "brute_force_tried"),
                (Attempted::TollFraud, "toll_fraud_tried"),
            ] {
                let told = journal.wait_for(kind, 0);
                let first = found.iter().find(|it| it.1 == attempted);
                assert_eq!(told["SIPGUARD_ADDRESS"], first.expect("it is there").0);
            }
            let fraud = journal.wait_for("toll_fraud_tried", 0);
            assert_eq!(fraud["SIPGUARD_NUMBER"], "+442079460123");
            assert_eq!(fraud["SIPGUARD_COUNTRY"], "GB");
        });

        agent.process.stop().succeeded();
        what_is_kept_tells_the_same(&gateway);
    });
}

fn what_is_kept_tells_the_same(gateway: &Host) {
    let said = gateway.sipguard(["knocks", "--json"]).succeeded().stdout;
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let of = |source: &str| {
        let found = lines.iter().find(|line| line["source"] == source);
        found.unwrap_or_else(|| panic!("{source}: {said}"))
    };
    assert_eq!(of("192.0.2.2")["methods"], serde_json::json!(["OPTIONS"]));
    assert_eq!(
        of("192.0.2.2")["user_agents"],
        serde_json::json!(["friendly-scanner"])
    );
    assert_eq!(of("192.0.2.10")["users"], serde_json::json!(["100"]));
    let fraud = of("192.0.2.14");
    assert_eq!(fraud["numbers"][0]["number"], "+442079460123");
    assert_eq!(fraud["numbers"][0]["country"], "GB");
    assert_eq!(fraud["attempts"][0]["attempt"], "toll_fraud");
    let told = gateway
        .sipguard(["knocks", "--since", "1h"])
        .succeeded()
        .stdout;
    for wanted in [
        "toll fraud",
        "brute force",
        "scan",
        "4 sources knocked since ",
        "dialled by 1 source, in ",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    let mode = fs::metadata(Path::new(STATE).join(FILE)).expect("it is there");
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o600
    );
}

/// However much somebody looks at that passes, the count of what was dropped and not told of has none of it.
#[test]
fn what_passes_is_not_said_to_be_dropped() {
    sandbox(|sandbox| {
        let _journal = Journal::listen(sandbox);
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(&format!(
            "interfaces = [\"eth0\"]\n[sources]\ntrunk = [\"{PROVIDER}\"]\n\
             [services.sip]\nudp = [5060]\nallow = [\"trunk\"]\n"
        ));
        scene.sipguard(["apply"]).succeeded();
        let agent = Agent::start(&scene.gateway);
        let mut command = Command::new(sipguard());
        command.arg("--config").arg(scene.config());
        command.args(["events", "--allowed", "--json"]);
        let listener = scene.gateway.spawn(&mut command);
        let frame = |source| scene.frame("eth0", source).udp(5060).bytes();
        let (provider, scanner) = (frame(PROVIDER), frame(SCANNER));
        until("what passes is told of", || {
            scene.wire("eth0").send(&provider);
            listener.stdout().contains("\"action\":\"pass\"")
        });
        for _ in 0..5_000 {
            scene.wire("eth0").send(&provider);
        }
        let is_told = || {
            let before = listener.stdout().matches(SCANNER).count();
            until("the scanner is told of", || {
                scene.wire("eth0").send(&scanner);
                listener.stdout().matches(SCANNER).count() > before
            });
        };
        is_told();
        for _ in 0..200 {
            scene.wire("eth0").send(&scanner);
        }
        is_told();
        scene.settle("eth0");
        agent.process.stop().succeeded();
        let json = |line: [&str; 2]| -> Value {
            let said = scene.sipguard(line).succeeded().stdout;
            serde_json::from_str(&said).expect("JSON")
        };
        let dropped = json(["stats", "--json"])["totals"]["drop"]["packets"].as_u64();
        let told = json(["knocks", "--json"])["told"].as_u64();
        let left_out = dropped.expect("a number") - told.expect("a number");
        assert!(left_out >= 200, "{left_out}");
        let said = scene.sipguard(["knocks"]).succeeded().stdout;
        let wanted = format!("\n{left_out} more packets were dropped");
        assert!(said.contains(&wanted), "{wanted}: {said}");
    });
}

#[test]
fn where_nobody_has_kept_anything_it_says_who_does() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let said = scene.sipguard(["knocks"]).exited(1).stderr;
        assert_eq!(
            said,
            "sipguard: nobody has kept who knocks: `systemctl enable --now sipguard-agent` does from now on, and `sipguard events` shows who knocks now\n"
        );
        // A file that is damaged is told of, and what can be read is shown.
        fs::create_dir_all(STATE).expect("a folder");
        let file = Path::new(STATE).join(FILE);
        fs::write(&file, "{\"sipguard_knocks\":1}\n{}\n").expect("writable");
        let said = scene.sipguard(["knocks", "--since", "24h"]).succeeded();
        assert!(
            said.stdout.starts_with("nobody has knocked since "),
            "{}",
            said.stdout
        );
        assert_eq!(
            said.stderr,
            "sipguard: warning: /var/lib/sipguard/knocks.jsonl is damaged: what is known of one who knocked is lost; nothing else is\n"
        );
    });
}
