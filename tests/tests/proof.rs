//! Whether what is attached filters: told from what arrives, not from what the kernel says is attached.

use std::{
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
    netns::{End, Host, join, sandbox},
    scene::{MARK, PROVIDER, Scene},
};

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
                .enter(|| watch(&[(eth0, on.id), (eth0, elsewhere.id)]));
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
        let proofs = scene.gateway.enter(|| watch(&[(eth0, on.id)]));
        assert_eq!(proofs.expect("it counts"), [Proof::Quiet]);
    });
}

/// A router that is silent answers when it is asked whether it is there.
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
        let eth0 = index(&gateway, "eth0");
        let proofs = gateway.enter(|| watch(&[(eth0, on.id)]));
        assert_eq!(proofs.expect("it counts"), [Proof::Runs]);
    });
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
