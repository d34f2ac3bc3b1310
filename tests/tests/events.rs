//! `sipguard events`: what the kernel tells of single packets, to whom, and that nothing silences it but the listener's end.

use std::{
    fs::{self, File},
    net::IpAddr,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use rustix::{
    process::Signal,
    thread::{CpuSet, sched_setaffinity},
};
use serde_json::Value;
use sipguard::{capture, host::Host, kernel, lifecycle};
use sipguard_ebpf::event::EVENTS_VERSION;
use sipguard_tests::{
    agent::{Agent, Journal},
    flood::flooded,
    frame::bare,
    hostile::{self, harmless, harmless_json},
    netns::{BPFFS, Process, SCRATCH, Sandbox, sandbox, sipguard, until},
    scene::{PROVIDER, SCANNER, Scene},
    tun::Tun,
};

const CONFIG: &str = r#"
interfaces = ["eth0"]
[sources]
providers = ["203.0.113.0/24"]
[services.sip]
udp = [5060]
allow = ["providers"]
"#;

/// A host that guards its SIP port.
fn with_scene(test: impl FnOnce(&Scene, &Sandbox) + Send) {
    with_config(CONFIG, test);
}

fn with_config(config: &str, test: impl FnOnce(&Scene, &Sandbox) + Send) {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(config);
        scene.sipguard(["apply"]).succeeded();
        test(&scene, sandbox);
    });
}

/// Begins to listen, and waits until it is told.
fn listen(scene: &Scene, arguments: &[&str]) -> Process {
    let mut command = Command::new(sipguard());
    command.arg("--config").arg(scene.config());
    command.args(["events", "--json"]).args(arguments);
    let listener = scene.gateway.spawn(&mut command);
    is_told(scene, &listener);
    listener
}

/// Those of whom [`is_told`] waits to be told alone: beside a flood there are many others.
const TOLD: &[&str] = &["--source", "198.18.0.0/16"];

/// Waits until a source that was never seen before is told of.
fn is_told(scene: &Scene, listener: &Process) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let source = format!("198.18.{}.{}", number / 250, number % 250 + 1);
    let frame = scene.frame("eth0", &source).udp(5060).bytes();
    let wanted = format!("\"source\":\"{source}\"");
    until("the kernel tells", || {
        scene.wire("eth0").send(&frame);
        listener.stdout().contains(&wanted)
    });
}

/// Whether it has, and nobody has waited for it yet.
fn has_ended(listener: &Process) -> bool {
    let state = format!("/proc/{}/stat", listener.pid().as_raw_nonzero());
    fs::read_to_string(state).is_ok_and(|state| state.contains(") Z "))
}

/// What was told of a source so far.
fn told(listener: &Process, source: &str) -> Vec<Value> {
    let source = source.parse::<IpAddr>().expect("an address").to_string();
    let text = listener.stdout();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let events = whole.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    events.filter(|event| event["source"] == source).collect()
}

/// Sends a frame until it is told of.
fn tells(scene: &Scene, listener: &Process, source: &str, frame: &[u8]) -> Value {
    let mut events = Vec::new();
    until("it is told of", || {
        scene.wire("eth0").send(frame);
        events = told(listener, source);
        !events.is_empty()
    });
    events.swap_remove(0)
}

#[test]
fn drops_are_told_of() {
    with_scene(|scene, _| {
        let listener = listen(scene, &[]);
        let sip = b"OPTIONS sip:100@192.0.2.1 SIP/2.0\r\nUser-Agent: friendly-scanner\r\n\r\n";
        let frame = scene.frame("eth0", SCANNER).udp(5060).from_port(5071);
        let frame = frame.payload(sip).bytes();
        let event = tells(scene, &listener, SCANNER, &frame);
        for (field, wanted) in [
            ("interface", Value::from("eth0")),
            ("service", "sip".into()),
            ("reason", "unlisted".into()),
            ("action", "drop".into()),
            ("enforced", true.into()),
            ("source_port", 5071.into()),
            ("port", 5060.into()),
            ("protocol", "udp".into()),
            ("length", frame.len().into()),
        ] {
            assert_eq!(event[field], wanted, "{field}: {event}");
        }
        assert_eq!(event["sip"]["method"], "OPTIONS");
        assert_eq!(event["sip"]["user_agent"], "friendly-scanner");

        let v6 = "2001:db8:66::7";
        let frame = scene.frame("eth0", v6).udp(5060).bytes();
        assert_eq!(tells(scene, &listener, v6, &frame)["service"], "sip");
        // Broken, and no service's.
        let broken = "198.51.100.8";
        let frame = scene.frame("eth0", broken).ihl(4).udp(5060).bytes();
        let event = tells(scene, &listener, broken, &frame);
        assert_eq!(event["reason"], "malformed");
        assert_eq!(event["service"], Value::Null);
        assert_eq!(event["port"], Value::Null);
        // Passes are not told of unless somebody asks, and other ports never.
        for source in [PROVIDER, "198.51.100.9"] {
            let port = if source == PROVIDER { 5060 } else { 16_384 };
            assert!(scene.passes("eth0", source, port));
            is_told(scene, &listener);
            assert_eq!(told(&listener, source), Vec::<Value>::new());
        }
        listener.signal(Signal::INT);
        listener.wait().succeeded();
        let listener = listen(scene, &["--allowed"]);
        let frame = scene.frame("eth0", PROVIDER).udp(5060).bytes();
        let event = tells(scene, &listener, PROVIDER, &frame);
        assert_eq!(
            (&event["action"], &event["reason"]),
            (&"pass".into(), &"allowed".into())
        );
    });
}

#[test]
fn what_monitor_mode_lets_pass_is_told_of() {
    with_config(
        &CONFIG.replacen('\n', "\nmode = \"monitor\"\n", 1),
        |scene, _| {
            let listener = listen(scene, &[]);
            assert!(scene.passes("eth0", SCANNER, 5060));
            let frame = scene.frame("eth0", SCANNER).udp(5060).bytes();
            let event = tells(scene, &listener, SCANNER, &frame);
            assert_eq!(
                (&event["action"], &event["enforced"]),
                (&"drop".into(), &false.into())
            );
        },
    );
}

/// Behind the driver, where the kernel has taken the tag off and read the header.
#[test]
fn the_program_at_tc_tells_too() {
    let config = CONFIG.replace(
        "interfaces = [\"eth0\"]",
        "[[interface]]\nname = \"eth0\"\nmode = \"tc\"\n",
    );
    with_config(&config, |scene, _| {
        let file = format!("{SCRATCH}/tc.pcapng");
        let mut command = Command::new(sipguard());
        command.arg("--config").arg(scene.config());
        command.args([
            "events", "--source", SCANNER, "--count", "1", "--pcap", &file,
        ]);
        let listener = scene.gateway.spawn(&mut command);
        let frame = scene.begin("eth0").vlan(7).ip(SCANNER).udp(5060);
        let frame = frame.payload(hostile::INVITE).bytes();
        until("a capture is begun", || {
            fs::metadata(&file).is_ok_and(|it| it.len() > 0)
        });
        until("it ends", || {
            scene.wire("eth0").send(&frame);
            fs::metadata(&file).is_ok_and(|it| it.len() > 300)
        });
        listener.wait().succeeded();
        assert_eq!(captured(&file).expect("a whole capture"), [frame]);
    });
}

/// The frames in a capture.
fn captured(file: &str) -> Result<Vec<Vec<u8>>, capture::CaptureError> {
    let mut frames = Vec::new();
    let file = File::open(file).expect("a capture");
    capture::read(file, |packet| -> Result<(), capture::CaptureError> {
        let frame = packet.frame.expect("Ethernet");
        frames.push(frame.bytes.to_vec());
        Ok(())
    })?;
    Ok(frames)
}

/// A driver may hand over a frame in several pieces, wherever the first one ends: in front of the IP header, in the middle of the ports, in the SIP.
#[test]
fn what_is_told_of_a_frame_in_pieces_is_whole() {
    with_scene(|scene, _| {
        let file = format!("{SCRATCH}/pieces.pcapng");
        let mut command = Command::new(sipguard());
        command.arg("--config").arg(scene.config());
        command.args(["events", "--source", "198.19.0.0/16", "--pcap", &file]);
        let listener = scene.gateway.spawn(&mut command);
        // A capture has a beginning by then.
        until("a capture is begun", || {
            fs::metadata(&file).is_ok_and(|it| it.len() > 0)
        });
        let path = format!("{BPFFS}/sipguard/generations/1/program-eth0");
        let program = Xdp::from_pin(path, XdpAttachType::Interface).expect("it runs");
        let payload = [hostile::INVITE, &[b'x'; 700]].concat();
        let frames: Vec<_> = (14..=100_u32)
            .map(|first| {
                let source = format!("198.19.0.{first}");
                let frame = scene.frame("eth0", &source).udp(5060).payload(&payload);
                (first, frame.bytes())
            })
            .collect();
        let run = |(first, frame): &(u32, Vec<u8>)| {
            // include/uapi/linux/bpf.h, struct xdp_md: data, data_end, data_meta and three numbers of interfaces and queues.
            let context = [0, *first, 0, 0, 0, 0].map(u32::to_ne_bytes);
            program.test_run(TestRunOptions {
                data_in: Some(frame),
                ctx_in: Some(context.as_flattened()),
                ..TestRunOptions::default()
            })
        };
        if !kernel::at_least(5, 18) {
            run(&frames[0]).expect_err("they know no frames in pieces");
            return;
        }
        let mut told = Vec::new();
        until("all are told of", || {
            for one in &frames {
                // include/uapi/linux/bpf.h, XDP_DROP.
                assert_eq!(run(one).expect("the kernel runs it").return_value, 1);
            }
            // It may be in the middle of one.
            told = captured(&file).unwrap_or_default();
            frames.iter().all(|(_, frame)| told.contains(frame))
        });
        listener.stop().succeeded();
        let is_one = |told: &Vec<u8>| frames.iter().any(|(_, frame)| frame == told);
        assert!(told.iter().all(is_one));
    });
}

/// One process reads: a second one would take the first one's place.
#[test]
fn a_second_listener_is_refused() {
    with_scene(|scene, _| {
        let first = listen(scene, &[]);
        let refused = scene.sipguard(["events"]).exited(1).stderr;
        assert!(
            refused.contains(&format!("process {}", first.pid().as_raw_nonzero())),
            "{refused}"
        );
        assert!(refused.contains("listens already"), "{refused}");
        is_told(scene, &first);
        // A killed one leaves the place free.
        first.signal(Signal::KILL);
        drop(first.wait());
        is_told(scene, &listen(scene, &[]));
    });
}

#[test]
fn without_a_policy_there_is_nothing_to_tell_of() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(CONFIG);
        let refused = scene.sipguard(["events"]).exited(1).stderr;
        assert!(refused.contains("sipguard apply"), "{refused}");
    });
}

/// Lets `change` change something so many times beside a flood; none of which gets through.
fn in_a_flood(scene: &Scene, times: usize, change: impl FnMut(usize)) {
    let sources = (0..2000_u32).map(|number| format!("10.0.{}.{}", number >> 8, number & 255));
    let sources: Vec<_> = sources.collect();
    let sources: Vec<_> = sources.iter().map(String::as_str).collect();
    let traffic = flooded(scene, &sources, times, change);
    assert!(traffic.flood > 10_000, "{traffic:?}");
    assert_eq!((traffic.leaked, traffic.arrived), (0, traffic.flow));
}

/// Whatever makes another generation, waits for a confirmation, takes it back, or begins anew.
#[test]
fn nothing_silences_a_listener() {
    with_scene(|scene, _| {
        let listener = listen(scene, TOLD);
        let other = |port: u16| {
            scene.configure(&CONFIG.replace("[5060]", &format!("[5060, {port}]")));
        };
        in_a_flood(scene, 3, |turn| {
            other(6000 + u16::try_from(turn).expect("few"));
            scene.sipguard(["apply"]).succeeded();
            is_told(scene, &listener);
        });
        in_a_flood(scene, 1, |_| {
            other(6004);
            let mut command = Command::new(sipguard());
            command.arg("--config").arg(scene.config());
            command.args(["apply", "--confirm", "60s"]);
            let pending = scene.gateway.spawn(&mut command);
            pending.wait_for_output("sipguard confirm");
            is_told(scene, &listener);
            scene.sipguard(["rollback"]).succeeded();
            drop(pending.wait());
            is_told(scene, &listener);
        });
        // What was taken back is not applied again.
        other(6005);
        scene.sipguard(["down"]).succeeded();
        scene.sipguard(["apply"]).succeeded();
        is_told(scene, &listener);
        listener.signal(Signal::TERM);
        listener.wait().succeeded();
    });
}

/// What another version left tells the same listener until it is replaced, and so does what replaces it.
#[test]
fn an_upgrade_silences_no_listener() {
    with_scene(|scene, _| {
        let listener = listen(scene, TOLD);
        in_a_flood(scene, 3, |_| {
            let live = scene.gateway.enter(|| lifecycle::live(&Host::system()));
            let number = live.expect("the kernel answers").expect("in force").number;
            // A description that nobody can read, and maps of other sizes.
            let generations = Path::new(BPFFS).join("sipguard/generations");
            let generation = generations.join(number.to_string());
            for (of, becomes) in [("lengths", "description"), ("entries4", "revision")] {
                fs::rename(generation.join(of), generation.join(becomes))
                    .expect("pins can be renamed");
            }
            is_told(scene, &listener);
            let applied = scene.sipguard(["apply"]).succeeded();
            assert!(!applied.stdout.contains("unchanged"), "{applied:?}");
            is_told(scene, &listener);
        });
        listener.stop().succeeded();
    });
}

/// What is of another version is not adopted, and what is not what it should be is refused by its name.
#[test]
fn what_is_shared_with_listeners_has_a_version_of_its_own() {
    with_scene(|scene, _| {
        let folder = Path::new(BPFFS).join("sipguard");
        let shared = folder.join(format!("events-{EVENTS_VERSION}"));
        fs::rename(&shared, folder.join("events-0")).expect("pins can be renamed");
        scene.configure(&CONFIG.replace("[5060]", "[5060, 6001]"));
        scene.sipguard(["apply"]).succeeded();
        listen(scene, &[]).stop().succeeded();

        for (of, becomes) in [("told", "between"), ("grant", "told"), ("between", "grant")] {
            fs::rename(shared.join(of), shared.join(becomes)).expect("pins can be renamed");
        }
        scene.configure(&CONFIG.replace("[5060]", "[5060, 6002]"));
        let refused = scene.sipguard(["apply"]).exited(1).stderr;
        assert!(refused.contains(&*shared.to_string_lossy()), "{refused}");
        assert!(!scene.passes("eth0", SCANNER, 5060));
    });
}

#[test]
fn what_is_wanted_is_shown_and_nothing_else() {
    let web = format!("{CONFIG}[services.web]\nudp = [80]\n");
    with_config(&web, |scene, _| {
        // Each source is told of once a second.
        let frame = |source, port| scene.frame("eth0", source).udp(port);
        let frames = [
            frame("198.51.100.1", 5060),
            frame("198.51.100.2", 80),
            frame("198.51.100.3", 5060).ihl(4),
        ];
        let frames = frames.map(|frame| frame.bytes());
        for (option, wanted) in [
            ("service", "web"),
            ("service", "sip"),
            ("reason", "malformed"),
        ] {
            let mut command = Command::new(sipguard());
            command.arg("--config").arg(scene.config());
            command.args(["events", "--json", "--count", "3"]);
            command.args([&format!("--{option}"), wanted]);
            let listener = scene.gateway.spawn(&mut command);
            until("it has seen enough", || {
                for frame in &frames {
                    scene.wire("eth0").send(frame);
                }
                has_ended(&listener)
            });
            let said = listener.wait().succeeded().stdout;
            assert_eq!(said.lines().count(), 3, "{said}");
            for line in said.lines() {
                let event: Value = serde_json::from_str(line).expect("an event");
                assert_eq!(event[option], wanted, "{line}");
            }
        }
    });
}

/// It begins at the IP header, and what is told of begins at an Ethernet header all the same.
#[test]
fn a_tun_device_tells_too() {
    sandbox(|sandbox| {
        let mut scene = Scene::new(sandbox, &[]);
        let wire = scene.gateway.tun("tun0", Tun::Ip);
        scene.lead("tun0", bare(), wire);
        scene.configure(&CONFIG.replace("eth0", "tun0"));
        scene.sipguard(["apply"]).succeeded();
        let file = format!("{SCRATCH}/tun.pcapng");
        let mut command = Command::new(sipguard());
        command.arg("--config").arg(scene.config());
        command.args(["events", "--count", "2", "--pcap", &file]);
        let listener = scene.gateway.spawn(&mut command);
        let sip = b"OPTIONS sip:100@192.0.2.1 SIP/2.0\r\nUser-Agent: friendly-scanner\r\n\r\n";
        let sources = [SCANNER, "2001:db8:66::7"];
        let sent = sources.map(|source| {
            let frame = scene.frame("tun0", source).udp(5060);
            frame.payload(sip).bytes()
        });
        until("it has seen both", || {
            for frame in &sent {
                scene.wire("tun0").send(frame);
            }
            has_ended(&listener)
        });
        listener.wait().succeeded();
        let mut told = Vec::new();
        let file = File::open(&file).expect("a capture");
        capture::read(file, |packet| -> Result<(), capture::CaptureError> {
            let frame = packet.frame.expect("Ethernet").bytes.to_vec();
            // No addresses, for there were none, and the EtherType of what follows.
            told.push((frame[..14].to_vec(), frame[14..].to_vec()));
            Ok(())
        })
        .expect("a whole capture");
        let wanted = sent.into_iter().zip([[0x08, 0x00], [0x86, 0xdd]]);
        let wanted: Vec<_> = wanted
            .map(|(frame, kind)| ([&[0; 12][..], &kind].concat(), frame))
            .collect();
        told.sort();
        assert_eq!(told, wanted);
    });
}

/// Stopped, or with somebody behind it who is: what it was granted is used up, the rest is left out and counted, and nobody else notices.
#[test]
fn a_listener_that_stops_reading_holds_up_nobody() {
    with_scene(|scene, _| {
        let listener = listen(scene, &[]);
        scene.settle("eth0");
        let before = drops(scene);
        let heard = sum(&listener);
        listener.signal(Signal::STOP);
        let sources: Vec<_> = (0..10_000_u32)
            .map(|number| format!("198.19.{}.{}", number >> 8, number & 255))
            .collect();
        let sources: Vec<_> = sources.iter().map(String::as_str).collect();
        let (mut flow, mut flood) = (0, 0);
        // More than it was granted, and than there is room for.
        while flood < 40_000 {
            let traffic = flooded(scene, &sources[flood / 4_000 * 1_000..], 1, |_| {
                let then = drops(scene);
                until("the flood goes on", || drops(scene) > then + 1_000);
            });
            assert_eq!((traffic.leaked, traffic.arrived), (0, traffic.flow));
            flow += traffic.flow;
            flood += usize::try_from(traffic.flood).expect("few");
        }
        assert!(flow > 0);
        let sent = flood as u64;
        assert_eq!(drops(scene) - before, sent);
        // An apply is none of its business, either.
        scene.configure(&CONFIG.replace("[5060]", "[5060, 5061]"));
        scene.sipguard(["apply"]).succeeded();
        listener.signal(Signal::CONT);
        until("all is told of or left out", || {
            from_each_processor(|| is_told(scene, &listener));
            sum(&listener) - heard >= sent
        });
        assert!(sum(&listener) <= drops(scene));
        let told = listener.stdout().lines().count() as u64;
        assert!(told < sent / 2, "{told} of {sent} were told of");
    });
}

/// An agent that comes later is what has to notice things: who listens already lets it have the kernel, and goes on with what it hands on.
#[test]
fn a_listener_gives_way_to_an_agent() {
    with_scene(|scene, sandbox| {
        let mut journal = Journal::listen(sandbox);
        let listener = listen(scene, &[]);
        let agent = Agent::start(&scene.gateway);
        let neighbour = scene.frame("eth0", "198.51.100.8").udp(5060);
        let neighbour = neighbour.payload(b"INVITE sip:1@192.0.2.1 SIP/2.0\r\n\r\n");
        scene
            .sipguard(["allow", "198.51.100.9", "--service", "sip"])
            .succeeded();
        until("the agent hears", || {
            scene.wire("eth0").send(&neighbour.bytes());
            journal.read();
            !journal.of("provider_moved").is_empty()
        });
        is_told(scene, &listener);
        agent.process.stop().succeeded();
        listener.wait_for_error("the agent, which hands events on, has ended");
    });
}

#[test]
fn a_capture_that_finds_no_room_is_named() {
    with_scene(|scene, _| {
        let full = ["events", "--pcap", "/dev/full"];
        assert_eq!(
            scene.sipguard(full).exited(1).stderr,
            "sipguard: cannot write /dev/full: No space left on device (os error 28)\n"
        );
    });
}

/// Live, into what people look at captures with.
#[test]
fn captures_go_on_into_other_programs() {
    with_scene(|scene, _| {
        let frame = scene.frame("eth0", SCANNER).udp(5060).from_port(5071);
        let sip = b"OPTIONS sip:100@192.0.2.1 SIP/2.0\r\nUser-Agent: friendly-scanner\r\n\
            Content-Length: 0\r\n\r\n";
        let frame = frame.payload(sip).bytes();
        let pipe = format!("{SCRATCH}/pipe");
        let mut made = Command::new("mkfifo");
        scene.gateway.run(made.arg(&pipe)).succeeded();
        for (program, wanted) in [
            (
                "tcpdump -n -l -r -",
                "198.51.100.7.5071 > 192.0.2.1.5060: SIP: OPTIONS",
            ),
            (
                "tshark -n -l -r - -T fields -e ip.src -e sip.Method -e sip.User-Agent -e frame.comment",
                "198.51.100.7\tOPTIONS\tfriendly-scanner\tinterface eth0 reason unlisted service sip",
            ),
        ] {
            let events = format!(
                "{} --config {} events --source {SCANNER} --pcap - > {pipe}",
                sipguard().display(),
                scene.config().display()
            );
            let [events, reader] = [events, format!("{program} < {pipe}")].map(|line| {
                let mut shell = Command::new("sh");
                // tshark reads its settings at home.
                shell.args(["-c", &format!("exec {line}")]);
                scene.gateway.spawn(shell.env("HOME", SCRATCH))
            });
            until(&format!("{program} shows it while it goes on"), || {
                scene.wire("eth0").send(&frame);
                reader.stdout().contains(wanted)
            });
            events.stop().succeeded();
            reader.wait().succeeded();
        }
    });
}

/// What was left out is told with the next event from the same processor, which is the one that sends.
fn from_each_processor(each: impl Fn() + Sync) {
    let processors = thread::available_parallelism().expect("there are some");
    for processor in 0..processors.get() {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut one = CpuSet::new();
                one.set(processor);
                sched_setaffinity(None, &one).expect("one of ours");
                each();
            });
        });
    }
}

fn drops(scene: &Scene) -> u64 {
    let stats = scene.sipguard(["stats", "--json"]).succeeded().stdout;
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    let drops = &stats["totals"]["drop"]["packets"];
    drops.as_u64().expect("a number")
}

/// What was told of and what was left out, so far.
fn sum(listener: &Process) -> u64 {
    let text = listener.stdout();
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let left_out = events.map(|event| event["left_out"].as_u64().expect("a number") + 1);
    left_out.sum()
}

/// Whoever listened before may have left out much, and nobody was told of it.
#[test]
fn what_was_left_out_before_is_none_of_a_new_listeners() {
    with_scene(|scene, _| {
        let listener = listen(scene, &[]);
        let frame = scene.frame("eth0", SCANNER).udp(5060).bytes();
        from_each_processor(|| {
            for _ in 0..10_000 {
                scene.wire("eth0").send(&frame);
            }
        });
        listener.signal(Signal::KILL);
        listener.wait();
        scene.settle("eth0");
        let before = drops(scene);
        let listener = listen(scene, &[]);
        from_each_processor(|| is_told(scene, &listener));
        assert!(sum(&listener) <= drops(scene) - before);
    });
}

/// What is told and what is left out are what is counted.
#[test]
fn what_is_left_out_is_counted() {
    with_scene(|scene, _| {
        let listener = listen(scene, &[]);
        // More sources than a processor may tell of with one grant, and then one source many times.
        for number in 0..5000_u32 {
            let source = format!("198.19.{}.{}", number >> 8, number & 255);
            let frame = scene.frame("eth0", &source).udp(5060).bytes();
            scene.wire("eth0").send(&frame);
        }
        let frame = scene.frame("eth0", SCANNER).udp(5060).bytes();
        for _ in 0..2000 {
            scene.wire("eth0").send(&frame);
        }
        scene.settle("eth0");
        is_told(scene, &listener);
        until("all is told of or left out", || {
            from_each_processor(|| is_told(scene, &listener));
            let (dropped, sum) = (drops(scene), sum(&listener));
            assert!(sum <= dropped, "{sum} of {dropped}");
            // Before it listened, some were dropped.
            sum >= 7000
        });
    });
}

/// A scanner of ten packets a second is told of beside others that send all the time.
#[test]
fn a_slow_scanner_is_seen_beside_a_flood() {
    with_scene(|scene, _| {
        let mut command = Command::new(sipguard());
        command.arg("--config").arg(scene.config());
        command.args(["events", "--json", "--source", SCANNER]);
        let listener = scene.gateway.spawn(&mut command);
        let flood: Vec<_> = (0..16_384_u32)
            .map(|number| {
                let source = format!(
                    "198.{}.{}.{}",
                    18 + (number >> 16),
                    number >> 8 & 255,
                    number & 255
                );
                scene.frame("eth0", &source).udp(5060).bytes()
            })
            .collect();
        let scanner = scene.frame("eth0", SCANNER).udp(5060).bytes();
        let mut sent = 0_usize;
        until("the scanner is told of", || {
            for frame in flood.iter().cycle().skip(sent % flood.len()).take(4096) {
                scene.wire("eth0").send(frame);
            }
            sent += 4096;
            scene.wire("eth0").send(&scanner);
            !told(&listener, SCANNER).is_empty()
        });
    });
}

/// What strangers say comes out of every output as plain letters.
#[test]
fn hostile_words_are_harmless() {
    with_scene(|scene, _| {
        let frames = [hostile::INVITE, hostile::METHOD].map(|text| {
            let frame = scene.frame("eth0", SCANNER).udp(5060);
            frame.payload(text).bytes()
        });
        let file = format!("{SCRATCH}/hostile.pcapng");
        for arguments in [&["--json"][..], &["--color", "never"], &["--pcap", &file]] {
            let mut command = Command::new(sipguard());
            command.arg("--config").arg(scene.config());
            // The kernel tells of each once a second, and so of one after the other.
            command.args(["events", "--source", SCANNER, "--count", "4"]);
            command.args(arguments);
            let listener = scene.gateway.spawn(&mut command);
            let mut turn = frames.iter().cycle();
            until("it has seen enough", || {
                scene.wire("eth0").send(turn.next().expect("for ever"));
                has_ended(&listener)
            });
            let said = listener.wait().succeeded().stdout;
            if arguments.contains(&"--json") {
                harmless_json(&said);
            } else {
                harmless(&said);
            }
        }
        // One comment a packet, on one line; and the packet as it was.
        let read = Command::new("tcpdump")
            .args(["-n", "-r", "-"])
            .stdin(Stdio::from(File::open(&file).expect("a capture")))
            .output()
            .expect("tcpdump is there");
        let read = String::from_utf8_lossy(&read.stdout).into_owned();
        assert!(read.contains(SCANNER), "{read}");
        let bytes = fs::read(&file).expect("a capture");
        let comment = b"interface eth0 reason unlisted service sip";
        assert!(bytes.windows(comment.len()).any(|part| part == comment));
    });
}

/// Who reads no more is noticed, though nothing is told.
#[test]
fn a_closed_pipe_ends_it() {
    with_scene(|scene, _| {
        let command = format!(
            "{} --config {} events | true",
            sipguard().display(),
            scene.config().display()
        );
        scene
            .gateway
            .run(Command::new("sh").args(["-c", &command]))
            .succeeded();
        // And nobody listens any more.
        is_told(scene, &listen(scene, &[]));
    });
}
