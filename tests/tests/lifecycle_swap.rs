//! Every apply is one swap: of the same policy none at all, under traffic without a gap, with counters that go on.

use std::{
    env,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use sipguard::{
    datapath::{self, Attachment, Counts},
    device::{self, Hook},
    lifecycle::{self, Applied, Live},
};
use sipguard_ebpf::abi::Reason;
use sipguard_tests::{
    netns::sandbox,
    scene::{PROVIDER, SCANNER, Scene, bind, link_id, pins},
};

fn apply(scene: &Scene) -> Applied {
    scene.gateway.enter(|| {
        lifecycle::apply(&scene.config(), None).unwrap_or_else(|error| panic!("apply: {error}"))
    })
}

fn live(scene: &Scene) -> Live {
    let live = scene
        .gateway
        .enter(|| lifecycle::live().expect("the kernel answers"));
    live.expect("something is in force")
}

/// The program on an interface, and where it runs.
fn attached(scene: &Scene, interface: &str) -> (u32, Hook) {
    let device = scene
        .gateway
        .enter(|| device::named(interface))
        .expect("netlink works");
    let xdp = device.expect("the interface is there").xdp;
    assert_eq!(xdp.len(), 1, "one program on {interface}");
    (xdp[0].program, xdp[0].hook)
}

fn counts(interface: &str) -> Counts {
    let counts = datapath::counts(interface).expect("counters can be read");
    counts.expect("the interface has counters")
}

fn policy(interfaces: &str, services: &[(&str, u16)]) -> String {
    let services = services.iter().map(|(name, port)| {
        format!("[services.{name}]\nudp = [{port}]\nallow = [\"providers\"]\n")
    });
    let services: String = services.collect();
    format!("{interfaces}\n[sources]\nproviders = [\"{PROVIDER}\"]\n{services}")
}

const ETH0: &str = r#"interfaces = ["eth0"]"#;

#[test]
fn again_changes_nothing() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0", "wan.100"]);
        let interfaces = r#"interfaces = ["eth0", "wan.100"]"#;
        scene.configure(&policy(interfaces, &[("sip", 5060)]));
        let first = apply(&scene);
        assert!(first.changed);
        let before = (live(&scene).links, pins(), attached(&scene, "eth0"));
        for _ in 0..2 {
            let again = apply(&scene);
            assert!(!again.changed);
            assert_eq!(again.generation, first.generation);
        }
        // Nor does the same config with other words: what it means is what counts.
        scene.configure(&format!(
            "# words\n\n{}",
            policy(interfaces, &[("sip", 5060)])
        ));
        let said = scene.sipguard(["apply"]).succeeded().stdout;
        assert!(said.contains("unchanged"), "{said}");
        assert_eq!(
            (live(&scene).links, pins(), attached(&scene, "eth0")),
            before
        );
    });
}

/// The pinned link stays what it is, so that the interface is never without a program.
#[test]
fn a_changed_config_is_another_program_on_the_same_link() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(&policy(ETH0, &[("sip", 5060)]));
        apply(&scene);
        let link = |live: &Live| -> (Attachment, u32) {
            let [link] = live.links.as_slice() else {
                panic!("{:?}", live.links)
            };
            (link.clone(), link_id("eth0"))
        };
        let (before, id) = link(&live(&scene));
        let generation = live(&scene).number;

        scene.configure(&policy(ETH0, &[("sip", 5061)]));
        let applied = apply(&scene);
        assert!(applied.changed);
        let (after, same) = link(&live(&scene));
        assert_eq!(id, same, "the link");
        assert_ne!(before.program, after.program);
        assert!(
            applied.generation > Some(generation),
            "numbers are never used again"
        );
        assert_eq!(attached(&scene, "eth0").0, after.program);
        assert!(scene.passes("eth0", SCANNER, 5060));
        assert!(!scene.passes("eth0", SCANNER, 5061));
    });
}

#[test]
fn counters_go_on_and_stay_with_their_service() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let dropped = |name: &str| {
            let description = live(&scene).generation.description;
            let slot = description.service(name).expect("a service").slot;
            counts("eth0").of(slot, Reason::Unlisted).packets
        };
        scene.configure(&policy(ETH0, &[("sip", 5060), ("web", 5080)]));
        apply(&scene);
        for _ in 0..3 {
            assert!(!scene.passes("eth0", SCANNER, 5060));
        }
        assert!(!scene.passes("eth0", SCANNER, 5080));
        assert_eq!((dropped("sip"), dropped("web")), (3, 1));

        // One goes, another one that sorts before it comes: what is left keeps its counts, and the new one begins at nothing.
        scene.configure(&policy(ETH0, &[("admin", 5070), ("web", 5080)]));
        apply(&scene);
        assert_eq!((dropped("admin"), dropped("web")), (0, 1));
        assert!(!scene.passes("eth0", SCANNER, 5070));
        assert_eq!((dropped("admin"), dropped("web")), (1, 1));

        // It comes back, and so do its counts.
        scene.configure(&policy(
            ETH0,
            &[("admin", 5070), ("sip", 5060), ("web", 5081)],
        ));
        apply(&scene);
        assert_eq!(
            (dropped("admin"), dropped("sip"), dropped("web")),
            (1, 3, 1)
        );

        // `down` is the end of them.
        scene.sipguard(["down"]).succeeded();
        apply(&scene);
        assert_eq!(
            (dropped("admin"), dropped("sip"), dropped("web")),
            (0, 0, 0)
        );
    });
}

#[test]
fn two_hundred_applies_under_a_flood() {
    under_a_flood(200, Hook::Native);
}

#[test]
fn applies_under_a_flood_in_generic_mode() {
    under_a_flood(20, Hook::Generic);
}

/// How many frames of the flood go before each one of the flow, and how many of the flow's may be on their way. All of them together
/// fit into a veth's ring (256 frames), which is where they would be lost otherwise.
const FLOOD: usize = 16;
const FLOW: usize = 4;

/// `SIPGUARD_APPLIES` says how many there are where each takes long.
fn under_a_flood(applies: usize, hook: Hook) {
    let applies = env::var("SIPGUARD_APPLIES").map_or(applies, |applies| {
        applies.parse().expect("SIPGUARD_APPLIES is a number")
    });
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let interface = format!("[[interface]]\nname = \"eth0\"\nmode = \"{}\"", hook.name());
        let policies = [
            policy(&interface, &[("sip", 5060)]),
            // Not even the services' numbers stay.
            policy(&interface, &[("extra", 5070), ("phones", 5060)]),
        ];
        scene.configure(&policies[0]);
        apply(&scene);
        assert_eq!(attached(&scene, "eth0").1, hook);

        let sum = |reason| {
            let counts = counts("eth0");
            (0..16)
                .map(|slot| counts.of(slot, reason).packets)
                .sum::<u64>()
        };
        let (begin, mut last) = (Instant::now(), (0, 0));
        let ended = AtomicBool::new(false);
        let Traffic {
            flow,
            arrived,
            flood,
            leaked,
        } = thread::scope(|scope| {
            let traffic = scope.spawn(|| traffic(&scene, &ended));
            for turn in 1..=applies {
                scene.configure(&policies[turn % 2]);
                assert!(apply(&scene).changed);
                let now = (sum(Reason::Unlisted), sum(Reason::Allowed));
                assert!(now.0 > last.0 && now.1 > last.1, "{last:?} became {now:?}");
                last = now;
                if traffic.is_finished() {
                    break;
                }
            }
            ended.store(true, Ordering::Relaxed);
            traffic.join().expect("the traffic")
        });
        println!(
            "{applies} applies in {:?}: {arrived} of {flow} listed frames passed, {leaked} of {flood} unlisted ones",
            begin.elapsed()
        );
        assert_eq!(leaked, 0, "unlisted frames were let through");
        assert_eq!(arrived, flow, "frames of the allowlisted flow were lost");
        assert_eq!((sum(Reason::Unlisted), sum(Reason::Allowed)), (flood, flow));
    });
}

/// What was sent, and what became of it.
struct Traffic {
    flow: u64,
    arrived: u64,
    flood: u64,
    leaked: u64,
}

/// Sends unlisted frames as fast as it can, and between them a flow from a provider; each round waits until its part of the flow has
/// arrived. Ends early where something goes wrong.
fn traffic(scene: &Scene, ended: &AtomicBool) -> Traffic {
    let frame = |source: &str, text: &[u8]| {
        let frame = scene.frame("eth0", source).udp(5060);
        frame.payload(text).bytes()
    };
    let (unlisted, wire) = (frame(SCANNER, b"scan"), scene.wire("eth0"));
    let listed = [b"call".as_slice(); FLOW].map(|text| frame(PROVIDER, text));
    let socket = scene.gateway.enter(|| bind(5060));
    let patience = Some(Duration::from_secs(5));
    socket.set_read_timeout(patience).expect("a timeout");
    let mut done = Traffic {
        flow: 0,
        arrived: 0,
        flood: 0,
        leaked: 0,
    };
    let mut buffer = [0; 64];
    while !ended.load(Ordering::Relaxed) && done.leaked == 0 && done.arrived == done.flow {
        for listed in &listed {
            for _ in 0..FLOOD {
                wire.send(&unlisted);
            }
            wire.send(listed);
        }
        done.flow += FLOW as u64;
        done.flood += (FLOW * FLOOD) as u64;
        while done.arrived < done.flow {
            match socket.recv(&mut buffer) {
                Ok(length) if &buffer[..length] == b"scan" => done.leaked += 1,
                Ok(_) => done.arrived += 1,
                Err(_) => break,
            }
        }
    }
    scene.settle("eth0");
    socket.set_nonblocking(true).expect("an option of sockets");
    while socket.recv(&mut buffer).is_ok() {
        done.leaked += 1;
    }
    done
}
