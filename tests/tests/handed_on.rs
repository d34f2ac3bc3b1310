//! Packets that come to a guarded interface by other ways than a frame from its line: handed on by somebody's rules, or its own host's,
//! looped back. The fall-back judges them as it judges all others.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    process::Command,
};

use rustix::net::netdevice;
use sipguard_tests::{
    foreign::Foreign,
    netns::{End, Host, Sandbox, join, sandbox},
    scene::{PROVIDER, Scene},
    way_in::{FAMILIES, policy},
};

/// What the fall-back from native mode is called.
const FALL_BACK: &str = "tc";

fn guard(scene: &Scene, interface: &str, mode: &str) {
    let text = policy(&[]).replace("interfaces = []\n", "");
    scene.configure(&format!(
        "{text}\n[[interface]]\nname = \"{interface}\"\nmode = \"{mode}\"\n"
    ));
    scene.sipguard(["apply"]).succeeded();
}

fn run(host: &Host, words: &str) {
    let mut words = words.split_ascii_whitespace();
    let program = words.next().expect("a program");
    host.run(Command::new(program).args(words)).succeeded();
}

/// A host behind the outside, and what it sends there on `eth9`; frames for the gateway's `eth0` begin as from the outside.
fn behind(sandbox: &Sandbox, scene: &mut Scene) -> Host {
    let behind = sandbox.host();
    let end = |host| End {
        host,
        interface: "eth9",
        addresses: &[],
    };
    join(end(&scene.outside), end(&behind));
    let (begin, wire) = (scene.begin("eth0"), behind.wire("eth9"));
    scene.lead("eth0", begin, wire);
    behind
}

fn on_a_gateway(test: impl FnOnce(&Sandbox, &mut Scene) + Send) {
    sandbox(|sandbox| test(sandbox, &mut Scene::new(sandbox, &["eth0"])));
}

/// The kernel marks what `mirred` handed on, and generic XDP passes over it.
#[test]
fn by_mirred_on_the_other_end() {
    on_a_gateway(|sandbox, scene| {
        let _behind = behind(sandbox, scene);
        run(&scene.outside, "tc qdisc add dev eth9 clsact");
        run(
            &scene.outside,
            "tc filter add dev eth9 ingress protocol all u32 match u32 0 0 \
             action mirred egress redirect dev eth0",
        );
        for mode in [FALL_BACK, "native"] {
            guard(scene, "eth0", mode);
            scene.judges(&FAMILIES, "eth0");
        }
    });
}

/// As [`by_mirred_on_the_other_end`].
#[test]
fn by_fwd_on_the_other_end() {
    on_a_gateway(|sandbox, scene| {
        let _behind = behind(sandbox, scene);
        let rules = "table netdev onward {
            chain each { type filter hook ingress device eth9 priority 0; fwd to \"eth0\"; }
        }";
        scene
            .outside
            .run(Command::new("nft").arg(rules))
            .succeeded();
        for mode in [FALL_BACK, "native"] {
            guard(scene, "eth0", mode);
            scene.judges(&FAMILIES, "eth0");
        }
    });
}

/// Past the driver, natively; at TC ingress they are judged.
#[test]
fn by_redirect_peer() {
    on_a_gateway(|sandbox, scene| {
        let _behind = behind(sandbox, scene);
        let _program = Foreign::to_the_other_end_of(&scene.outside, "eth9", "eth0");
        guard(scene, "eth0", FALL_BACK);
        scene.judges(&FAMILIES, "eth0");
    });
}

/// From another interface of the gateway's, as if they had come in by the guarded one. Native mode has no part in that.
#[test]
fn by_mirred_on_the_gateway() {
    on_a_gateway(|_, scene| {
        scene.connect("eth1");
        run(&scene.gateway, "tc qdisc add dev eth1 clsact");
        run(
            &scene.gateway,
            "tc filter add dev eth1 ingress protocol all u32 match u32 0 0 \
             action mirred ingress redirect dev eth0",
        );
        let (begin, wire) = (scene.begin("eth1"), scene.outside.wire("eth1"));
        scene.lead("eth0", begin, wire);
        guard(scene, "eth0", FALL_BACK);
        scene.judges(&FAMILIES, "eth0");
    });
}

/// What the gateway sends to a group or to everybody, it gets itself: such packets begin at the IP header, without an Ethernet header,
/// and their addresses must not be taken for one. The first of these would be IPv4 behind an Ethernet header, the others IPv6 and a tag.
#[test]
fn own_packets_to_many() {
    let sources = [
        "8.0.0.1",
        "134.221.0.1",
        "129.0.0.1",
        "192.0.2.77",
        PROVIDER,
    ];
    on_a_gateway(|_, scene| {
        for source in sources {
            scene
                .gateway
                .ip(&format!("address add {source}/24 dev eth0"));
        }
        scene
            .gateway
            .ip("address add 2001:db8:800::1/64 dev eth0 nodad");
        scene
            .gateway
            .ip("address add 2001:db8:100::5/64 dev eth0 nodad");
        scene.gateway.ip("route add default dev eth0");
        for mode in ["", FALL_BACK, "native"] {
            if !mode.is_empty() {
                guard(scene, "eth0", mode);
            }
            for source in sources {
                let group = "224.0.1.75";
                for to in [group, "255.255.255.255"] {
                    let heard = loops_back(scene, source, to, 6000);
                    assert!(heard, "{mode}: {source} to {to}");
                }
                let heard = loops_back(scene, source, group, 5060);
                let judged = mode == FALL_BACK && source != PROVIDER;
                assert_eq!(heard, !judged, "{mode}: {source} to a guarded port");
            }
            for (source, listed) in [("2001:db8:800::1", false), ("2001:db8:100::5", true)] {
                let group = "ff02::1:75";
                assert!(loops_back(scene, source, group, 6000), "{mode}: {source}");
                let heard = loops_back(scene, source, group, 5060);
                let judged = mode == FALL_BACK && !listed;
                assert_eq!(heard, !judged, "{mode}: {source} to a guarded port");
            }
        }
    });
}

/// Whether the gateway hears itself.
fn loops_back(scene: &Scene, source: &str, to: &str, port: u16) -> bool {
    let (source, to): (IpAddr, IpAddr) = (
        source.parse().expect("an address"),
        to.parse().expect("an address"),
    );
    scene.gateway.enter(|| {
        let any: IpAddr = match to {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let server = UdpSocket::bind((any, port)).expect("a free port");
        let client = UdpSocket::bind((source, 0)).expect("the gateway's address");
        client.set_broadcast(true).expect("an option of sockets");
        let index = netdevice::name_to_index(&client, "eth0").expect("it is there");
        let target = match (to, source) {
            (IpAddr::V4(group), IpAddr::V4(source)) => {
                if group.is_multicast() {
                    server.join_multicast_v4(&group, &source).expect("a group");
                }
                SocketAddr::from((group, port))
            }
            (IpAddr::V6(group), _) => {
                server.join_multicast_v6(&group, index).expect("a group");
                std::net::SocketAddrV6::new(group, port, 0, index).into()
            }
            _ => unreachable!("one family"),
        };
        client.send_to(b"all", target).expect("sent");
        // What is looped back goes through a queue of this processor's: a packet by the loopback device goes behind it.
        let mark = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = mark.local_addr().expect("bound");
        mark.send_to(b"mark", address).expect("sent");
        mark.recv(&mut [0; 8]).expect("the mark");
        server.set_nonblocking(true).expect("an option of sockets");
        match server.recv(&mut [0; 8]) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    })
}
