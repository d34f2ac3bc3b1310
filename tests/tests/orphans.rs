//! What is left of a datagram whose first fragment was dropped does not wait for the rest in the kernel, where there is little room: row 4's
//! first half.

use std::{cell::RefCell, collections::HashMap, fs, iter};

use sipguard::{
    datapath::{self, Counts},
    tables::HostTables,
};
use sipguard_ebpf::{
    abi::{NO_SERVICE, Reason},
    datagram::Datagram,
    verdict::{self, judge_general},
};
use sipguard_tests::{
    compiled::NOW,
    frame::{Frame, bare},
    netns::sandbox,
    reference::{self, Model},
    scene::{PROVIDER, SCANNER, Scene, bind},
    verdict_table::{Config, sequences},
};

/// Remembers without end.
#[derive(Default)]
struct Memory(RefCell<HashMap<Datagram, u8>>);

impl verdict::Memory for Memory {
    fn dropped(&self, datagram: &Datagram) -> Option<u8> {
        self.0.borrow().get(datagram).copied()
    }

    fn remember(&self, datagram: &Datagram, service: u8) {
        self.0.borrow_mut().insert(*datagram, service);
    }
}

/// The product's code on the host, the naive model and the table agree.
#[test]
fn sequences_on_the_host() {
    let compiled = Config::Usual.compiled();
    let tables = HostTables::new(&compiled.tables, NOW.boot_ns);
    let model = Model {
        policy: &compiled.policy,
        own: &[],
        bans: &[],
        now: NOW.boot_ns,
    };
    let memory = Memory::default();
    let mut naive = reference::Memory::default();
    for sequence in sequences() {
        for (place, (frame, expected)) in sequence.frames.iter().enumerate() {
            let name = format!("{}, frame {place}", sequence.name);
            let judged = judge_general(frame.as_slice(), &tables, &memory);
            let nobodys = verdict::Verdict::without_service(Reason::None);
            let verdict = judged.map_or(nobodys, |(_, verdict)| verdict);
            assert_eq!(verdict.reason, expected.reason, "{name}");
            assert_eq!(verdict.action(), expected.action, "{name}");
            let found = naive.expected(frame, tables.link, &model);
            assert_eq!(found.reason, expected.reason, "{name}: the model");
        }
    }
}

fn configure(scene: &Scene, mode: &str, text: &str) {
    scene.configure(&format!(
        "interface = [{{ name = \"eth0\", mode = \"{mode}\" }}]\n{text}"
    ));
    scene.sipguard(["apply"]).succeeded();
}

fn counts() -> Counts {
    let counts = datapath::counts("eth0").expect("counters can be read");
    counts.expect("the interface has counters")
}

#[test]
fn sequences_in_the_kernel() {
    for mode in ["native", "tc"] {
        sandbox(|sandbox| {
            let scene = Scene::new(sandbox, &["eth0"]);
            configure(&scene, mode, &Config::Usual.text());
            for sequence in sequences() {
                let before = counts();
                for (frame, _) in &sequence.frames {
                    scene.wire("eth0").send(frame);
                }
                scene.settle("eth0");
                let after = counts();
                for reason in Reason::COUNTED {
                    let counted: u64 = (0..=NO_SERVICE)
                        .map(|service| {
                            let packets = |counts: &Counts| counts.of(service, reason).packets;
                            packets(&after) - packets(&before)
                        })
                        .sum();
                    let expected = sequence.frames.iter();
                    let expected = expected.filter(|(_, it)| it.reason == reason).count();
                    assert_eq!(
                        counted,
                        expected as u64,
                        "{mode}, {}: {}",
                        sequence.name,
                        reason.name()
                    );
                }
            }
        });
    }
}

/// A datagram in as many fragments as a cable asks for.
fn fragments(scene: &Scene, source: &str, payload: &[u8]) -> Vec<Frame> {
    let whole = bare().ip(source).udp(5060).payload(payload);
    let header = bare().ip(source).header_length();
    let contents = &whole.bytes()[header..];
    let pieces = contents.chunks(1440);
    let last = pieces.len() - 1;
    let frames = pieces.enumerate().map(|(place, piece)| {
        let offset = u16::try_from(place * 1440 / 8).expect("a short datagram");
        let frame = scene.frame("eth0", source);
        frame.fragment(offset, place < last).raw(0, 17, piece)
    });
    frames.collect()
}

/// Large datagrams of unlisted sources fill the kernel's room for fragments, which is made small here, and a listed peer's large ones go on
/// arriving. Without the memory of what was dropped none of them does.
#[test]
fn a_listed_peers_large_datagrams_arrive_beside_others() {
    const FROM_THE_PEER: usize = 100;
    for (mode, v6) in [
        ("native", false),
        ("native", true),
        ("tc", false),
        ("tc", true),
    ] {
        sandbox(|sandbox| {
            let scene = Scene::new(sandbox, &["eth0"]);
            scene.gateway.enter(|| {
                let folder = if v6 { "ipv6/ip6frag" } else { "ipv4/ipfrag" };
                for (limit, bytes) in [("low", 100_000), ("high", 200_000)] {
                    let path = format!("/proc/sys/net/{folder}_{limit}_thresh");
                    fs::write(&path, bytes.to_string())
                        .unwrap_or_else(|error| panic!("{path}: {error}"));
                }
            });
            configure(&scene, mode, &Config::Usual.text());
            let server = scene.gateway.enter(|| bind(5060));
            server.set_nonblocking(true).expect("an option of sockets");
            let peer = if v6 { "2001:db8:100::5" } else { PROVIDER };
            let mut arrived = 0;
            let mut buffer = vec![0; 10_000];
            for turn in 0..FROM_THE_PEER {
                for number in 0..4 {
                    let unlisted = if v6 {
                        format!("2001:db8:ffff::{turn:x}:{number}")
                    } else {
                        format!("10.9.{turn}.{number}")
                    };
                    for frame in fragments(&scene, &unlisted, &[0; 8000]) {
                        scene.wire("eth0").send(&frame.bytes());
                    }
                    scene.settle("eth0");
                }
                let payload: Vec<u8> = iter::repeat_n(turn.to_be_bytes(), 1000).flatten().collect();
                let id = u16::try_from(turn).expect("few");
                for frame in fragments(&scene, peer, &payload) {
                    scene.wire("eth0").send(&frame.identified(id).bytes());
                }
                scene.settle("eth0");
                arrived += usize::from(
                    server
                        .recv(&mut buffer)
                        .is_ok_and(|length| buffer[..length] == payload),
                );
            }
            assert!(
                arrived * 100 >= FROM_THE_PEER * 99,
                "{mode}, IPv6 {v6}: {arrived} of {FROM_THE_PEER}"
            );
        });
    }
}

/// A service that is only watched drops neither a first fragment nor the others, but counts both, and the whole arrives.
#[test]
fn what_is_watched_only_arrives() {
    for mode in ["native", "tc"] {
        sandbox(|sandbox| {
            let scene = Scene::new(sandbox, &["eth0"]);
            let text = "[services.sip]\nudp = [5060]\nmode = \"monitor\"\n\
                        [services.web]\ntcp = [80]\n";
            configure(&scene, mode, text);
            let server = scene.gateway.enter(|| bind(5060));
            server.set_nonblocking(true).expect("an option of sockets");
            for source in [SCANNER, "2001:db8:ffff::7"] {
                let payload = [7; 4000];
                for frame in fragments(&scene, source, &payload) {
                    scene.wire("eth0").send(&frame.bytes());
                }
                scene.settle("eth0");
                let length = server.recv(&mut [0; 8000]).expect("it arrives");
                assert_eq!(length, payload.len());
            }
            let counts = counts();
            assert_eq!(counts.of(0, Reason::Unlisted).packets, 2);
            assert_eq!(counts.of(0, Reason::Orphan).packets, 4);
        });
    }
}
