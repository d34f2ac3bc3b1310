//! Whether what is attached filters: told from what arrives, not from what the kernel says is attached.

use std::{
    net::UdpSocket,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use sipguard::{
    datapath::{Proof, watch},
    device::{self, NativeXdp, refusal},
};
use sipguard_tests::{
    foreign::Foreign,
    frame::eth,
    netns::{End, Host, Sandbox, join, sandbox},
    scene::{MARK, PROVIDER, SCANNER, Scene, bind},
};

/// Some time of the boot clock.
const NOW: u64 = 1_000_000_000;

fn index(host: &Host, interface: &str) -> u32 {
    let found = host.enter(|| device::named(interface));
    found.expect("netlink works").expect("it is there").index
}

/// What is proven of two programs, where packets arrive all the while: one that is on the interface and one that is on another.
#[test]
fn a_program_that_does_not_run_is_told_from_one_that_does() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0", "eth1"]);
        let on = Foreign::attach(&scene.gateway, "eth0");
        let elsewhere = Foreign::attach(&scene.gateway, "eth1");
        // Or IPv6 says hello there.
        scene.outside.ip("link set eth1 down");
        let eth0 = index(&scene.gateway, "eth0");
        let frame = scene.frame("eth0", PROVIDER).udp(MARK).bytes();
        let enough = AtomicBool::new(false);
        let proofs = thread::scope(|threads| {
            threads.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    scene.wire("eth0").send(&frame);
                    thread::sleep(Duration::from_millis(5));
                }
            });
            let proofs = scene
                .gateway
                .enter(|| watch(&[(eth0, on.id), (eth0, elsewhere.id)], NOW));
            enough.store(true, Ordering::Relaxed);
            proofs
        });
        assert_eq!(proofs.expect("it counts"), [Proof::Runs, Proof::Blind]);
    });
}

#[test]
fn nothing_is_proven_where_nothing_arrives() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let on = Foreign::attach(&scene.gateway, "eth0");
        let eth0 = index(&scene.gateway, "eth0");
        // Or IPv6 says hello.
        scene.outside.ip("link set eth0 down");
        let proofs = scene.gateway.enter(|| watch(&[(eth0, on.id)], NOW));
        assert_eq!(proofs.expect("it counts"), [Proof::Quiet]);
    });
}

/// A router that is silent answers when it is asked whether it is there, which is enough for either proof.
#[test]
fn a_neighbour_is_asked_where_nothing_arrives() {
    sandbox(|sandbox| {
        let (gateway, router) = (sandbox.host(), sandbox.host());
        let [_, mac] = join(
            End {
                host: &gateway,
                interface: "eth0",
                addresses: &["192.0.2.1/24"],
            },
            End {
                host: &router,
                interface: "eth0",
                addresses: &["192.0.2.2/24"],
            },
        );
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        gateway.ip(&format!(
            "neighbour add 192.0.2.2 lladdr {mac} dev eth0 nud stale"
        ));
        let on = Foreign::attach(&gateway, "eth0");
        gateway.ip("link add eth1 type veth peer eth2");
        let elsewhere = Foreign::attach(&gateway, "eth1");
        let eth0 = index(&gateway, "eth0");
        for (program, proof) in [(on.id, Proof::Runs), (elsewhere.id, Proof::Blind)] {
            let proofs = gateway.enter(|| watch(&[(eth0, program)], NOW));
            assert_eq!(proofs.expect("it counts"), [proof]);
        }
    });
}

/// A veth pair's end that gets more receive queues while it has a program runs none for what comes by these.
#[test]
fn receive_queues_that_come_later() {
    sandbox(|sandbox| {
        let scene = guarded_with_queues(sandbox);
        let sip = scene.gateway.enter(|| bind(5060));
        sip.set_nonblocking(true).expect("an option of sockets");
        let enough = AtomicBool::new(false);
        thread::scope(|threads| {
            threads.spawn(|| {
                // Each source port comes by a queue of its own.
                for port in (20_000..20_064).cycle().take(10_000) {
                    let frame = scene.frame("eth0", SCANNER).udp(5060).from_port(port);
                    scene.wire("eth0").send(&frame.bytes());
                    thread::sleep(Duration::from_millis(1));
                    if enough.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let doctor = || scene.sipguard(["doctor"]).stdout;
            let queues = |number: &str| {
                for host in [&scene.gateway, &scene.outside] {
                    let words = ["-L", "eth0", "rx", number, "tx", number];
                    host.run(Command::new("ethtool").args(words)).succeeded();
                }
            };
            assert!(!doctor().contains("does not run"), "{}", doctor());
            assert_eq!(taken(&sip), 0);
            queues("4");
            let said = doctor();
            let arrived = taken(&sip);
            let found = "the program that is attached there does not run for all of them";
            // Not every kernel has forgotten them.
            assert_eq!(said.contains(found), arrived > 0, "{arrived}: {said}");
            let said = scene.sipguard(["repair"]).succeeded().stderr;
            assert_eq!(said.contains("is now: native"), arrived > 0, "{said}");
            taken(&sip);
            assert!(!doctor().contains("does not run"), "{}", doctor());
            assert_eq!(taken(&sip), 0);
            enough.store(true, Ordering::Relaxed);
        });
    });
}

/// `status` need not wait for what was seen a moment ago, unless the interface has begun anew since.
#[test]
fn what_was_seen_is_believed_until_the_interface_begins_anew() {
    sandbox(|sandbox| {
        let mut scene = Scene::new(sandbox, &["eth0"]);
        let behind = sandbox.host();
        let end = |host| End {
            host,
            interface: "eth9",
            addresses: &[],
        };
        join(end(&scene.outside), end(&behind));
        let (begin, wire) = (scene.begin("eth0"), behind.wire("eth9"));
        scene.lead("eth0", begin, wire);
        let said = scene.guard(&["eth0"]);
        assert!(said.contains("eth0: native"), "{said}");
        // Past the driver, so that what is attached there does not see it.
        let _program = Foreign::to_the_other_end_of(&scene.outside, "eth9", "eth0");
        let enough = AtomicBool::new(false);
        thread::scope(|threads| {
            threads.spawn(|| {
                let frame = scene.frame("eth0", PROVIDER).udp(MARK).bytes();
                while !enough.load(Ordering::Relaxed) {
                    scene.wire("eth0").send(&frame);
                    thread::sleep(Duration::from_millis(5));
                }
            });
            let told = |words: &[&str]| {
                // Or for none of them, where no neighbour has said anything that it sees.
                let said = scene.sipguard(words.iter().copied()).stdout;
                said.contains("does not run")
            };
            let believed = told(&["status"]);
            for up_or_down in ["down", "up"] {
                scene.gateway.ip(&format!("link set eth0 {up_or_down}"));
            }
            let anew = told(&["status"]);
            enough.store(true, Ordering::Relaxed);
            assert!(!believed, "it took its program a moment ago");
            assert!(anew);
        });
    });
}

/// A gateway whose `eth0` can have four queues, has one, and is guarded natively.
fn guarded_with_queues(sandbox: &Sandbox) -> Scene {
    let mut scene = Scene::new(sandbox, &[]);
    let (near, far) = ([0x02, 0, 0, 0, 0, 0x01], [0x02, 0, 0, 0, 0, 0x0f]);
    scene.gateway.ip(&format!(
        "link add eth0 address 02:00:00:00:00:01 numtxqueues 4 numrxqueues 4 type veth \
         peer name eth0 numtxqueues 4 numrxqueues 4 netns {}",
        scene.outside.namespace()
    ));
    for host in [&scene.gateway, &scene.outside] {
        let words = ["-L", "eth0", "rx", "1", "tx", "1"];
        // One is what there is already.
        let _ = host.run(Command::new("ethtool").args(words));
        host.ip("link set eth0 up");
    }
    let wire = scene.outside.wire("eth0");
    scene.lead("eth0", eth().macs(near, far), wire);
    let said = scene.guard(&["eth0"]);
    assert!(said.contains("eth0: native"), "{said}");
    scene
}

/// How many datagrams have arrived since.
fn taken(socket: &UdpSocket) -> usize {
    let mut buffer = [0; 64];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count()
}

#[test]
fn drivers_say_whether_they_take_programs_and_why_not() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.gateway.ip("link add br0 type bridge");
        let program = Foreign::attach(&scene.gateway, "eth0");
        let (eth0, br0) = (index(&scene.gateway, "eth0"), index(&scene.gateway, "br0"));
        scene.gateway.enter(|| {
            if sipguard::kernel::at_least(6, 3) {
                assert_eq!(NativeXdp::of(eth0), Some(NativeXdp::Yes));
                assert_eq!(NativeXdp::of(br0), Some(NativeXdp::No));
            } else {
                assert_eq!(NativeXdp::of(eth0), None);
            }
            let sentence = refusal(br0, program.descriptor()).expect("a sentence");
            assert!(sentence.contains("native mode"), "{sentence}");
        });
        // Trying leaves nothing behind.
        let bridge = scene.gateway.enter(|| device::named("br0"));
        assert!(
            bridge
                .expect("netlink works")
                .expect("there")
                .xdp
                .is_empty()
        );
    });
}
