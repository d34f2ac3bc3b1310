//! Devices and protocols that are modules: run on other kernels than this machine's, by `cargo xtask kernels`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    os::fd::OwnedFd,
    process::Command,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, accept, bind,
        connect, ipproto, listen, recv, sendto, socket_with,
    },
};
use sipguard::{datapath, kernel::at_least};
use sipguard_ebpf::abi::{NO_SERVICE, Reason};
use sipguard_tests::{
    differential::ways::session,
    frame::{Frame, bare, eth},
    netns::{Host, SCRATCH, sandbox, stay_on_this_cpu, until},
    scene::{self, PROVIDER, SCANNER, Scene},
    way_in::{FAMILIES, V4, one_line, policy},
};

/// What the fall-back from native mode is called.
const FALL_BACK: &str = "tc";

/// The two ends of what carries tunnels.
const NEAR: &str = "10.9.0.1";
const FAR: &str = "10.9.0.2";
const NEAR_V6: &str = "fd00:9::1";
const FAR_V6: &str = "fd00:9::2";
/// Ethernet addresses of the two ends of what is carried.
const NEAR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const FAR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0f];
const NEAR_MAC_TEXT: &str = "02:00:00:00:00:01";

fn on_a_gateway(test: impl FnOnce(&mut Scene) + Send) {
    sandbox(|sandbox| {
        let scene = &mut Scene::new(sandbox, &["eth0"]);
        for (host, v4, v6) in [
            (&scene.gateway, NEAR, NEAR_V6),
            (&scene.outside, FAR, FAR_V6),
        ] {
            host.ip(&format!("address add {v4}/24 dev eth0"));
            host.ip(&format!("address add {v6}/64 dev eth0 nodad"));
        }
        test(scene);
    });
}

/// Makes a device of the gateway's; frames that come in by it begin so on `eth0`.
fn made(scene: &mut Scene, name: &str, kind: &str, begin: Frame) {
    scene.gateway.ip(&format!("link add {name} {kind}"));
    scene.gateway.ip(&format!("link set {name} up"));
    let wire = scene.outside.wire("eth0");
    scene.lead(name, begin, wire);
}

fn tc(kind: &str) -> String {
    format!("tc (a {kind} device has no native XDP)")
}

#[test]
fn vlan() {
    for kind in [
        "id 7",
        "proto 802.1ad id 7",
        // The tag stays in the frame.
        "id 7 reorder_hdr off",
    ] {
        on_a_gateway(|scene| {
            let begin = scene.begin("eth0");
            let begin = if kind.contains("802.1ad") {
                begin.service_tag(7)
            } else {
                begin.vlan(7)
            };
            made(
                scene,
                "eth0.7",
                &format!("link eth0 type vlan {kind}"),
                begin.clone(),
            );
            scene.is_guarded("eth0.7", &tc("vlan"));
            // Below it the same packets are seen with their tags, and in the driver.
            scene.guard(&["eth0"]);
            assert!(!scene.passes("eth0.7", SCANNER, 5060));
            assert!(scene.passes("eth0.7", PROVIDER, 5060));
            scene.sipguard(["down"]).succeeded();
            // A tag in a tag.
            let begin = begin.vlan(8);
            made(scene, "inner", "link eth0.7 type vlan id 8", begin);
            scene.is_guarded("inner", &tc("vlan"));
            scene.guard(&["eth0"]);
            assert!(!scene.passes("inner", SCANNER, 5060));
            assert!(scene.passes("inner", PROVIDER, 5060));
        });
    }
}

/// A driver may have taken the tag away and tell it beside the frame, as veth does with what a VLAN device sends.
#[test]
fn vlan_tags_that_are_gone() {
    on_a_gateway(|scene| {
        for host in [&scene.gateway, &scene.outside] {
            host.ip("link add eth0.7 link eth0 type vlan id 7");
            host.ip("link set eth0.7 up");
        }
        let wire = scene.outside.wire("eth0.7");
        let begin = scene.begin("eth0");
        scene.lead("eth0.7", begin, wire);
        scene.is_guarded("eth0.7", &tc("vlan"));
        scene.guard(&["eth0"]);
        assert!(!scene.passes("eth0.7", SCANNER, 5060));
        assert!(scene.passes("eth0.7", PROVIDER, 5060));
    });
}

fn bonded(scene: &mut Scene) {
    scene
        .gateway
        .ip("link add bond0 type bond mode active-backup");
    scene.gateway.ip("link set eth0 down");
    scene.gateway.ip("link set eth0 master bond0");
    scene.gateway.ip("link set bond0 up");
    let (begin, wire) = (scene.begin("eth0"), scene.outside.wire("eth0"));
    scene.lead("bond0", begin, wire);
}

#[test]
fn bond() {
    on_a_gateway(|scene| {
        bonded(scene);
        // Bonds hand a native program on to their ports, since 5.15.
        let mode = if at_least(5, 15) {
            "native".to_owned()
        } else {
            tc("bond")
        };
        scene.is_guarded("bond0", &mode);
        scene.is_guarded("eth0", "native");
        // Whichever the config names first, the port is first.
        let said = scene.guard(&["bond0", "eth0"]);
        assert!(said.contains("eth0: native\n"), "{said}");
        assert!(said.contains("bond0: tc"), "{said}");
        scene.judges(&FAMILIES, "eth0");
    });
}

/// The bond's program shows on its ports, too; it stays the bond's.
#[test]
fn a_port_of_a_bond_that_is_guarded() {
    on_a_gateway(|scene| {
        bonded(scene);
        scene.guard(&["bond0"]);
        scene.configure(&policy(&["bond0", "eth0"]));
        one_line(
            &scene.sipguard(["apply"]).exited(1),
            &["can't attach to eth0: bond0, which is above it"],
        );
        scene.judges(&FAMILIES, "bond0");
        let status = scene.sipguard(["status"]).succeeded().stdout;
        assert!(status.contains("bond0      native"), "{status}");
    });
}

/// At TC ingress a bond does not get what comes in by a port that it does not use, and frames to the group of link-local addresses stay there.
/// Natively it is filtered in all ports' drivers.
#[test]
fn a_port_that_a_bond_does_not_use() {
    on_a_gateway(|scene| {
        stay_on_this_cpu();
        scene.connect("eth1");
        bonded(scene);
        scene.gateway.ip("link set eth1 down");
        scene.gateway.ip("link set eth1 master bond0");
        scene.await_link("bond0");
        let sip = scene.gateway.enter(|| scene::bind(5060));
        sip.set_nonblocking(true).expect("an option of sockets");
        let arrive = |scene: &Scene| {
            for source in [SCANNER, "2001:db8:ffff::7"] {
                let frame = eth().macs([0x01, 0x80, 0xc2, 0, 0, 0x0e], FAR_MAC);
                scene.wire("eth1").send(&frame.ip(source).udp(5060).bytes());
            }
            scene.settle("bond0");
            (0..2).filter(|_| sip.recv(&mut [0; 64]).is_ok()).count()
        };
        let guard = |scene: &Scene, mode: &str| {
            let text = policy(&[]).replace("interfaces = []\n", "");
            scene.configure(&format!(
                "{text}\n[[interface]]\nname = \"bond0\"\nmode = \"{mode}\"\n"
            ));
            scene.sipguard(["apply"]).succeeded();
            scene.await_link("bond0");
        };
        guard(scene, "tc");
        assert_eq!(arrive(scene), 2);
        let said = scene.sipguard(["doctor"]).exited(1).stdout;
        assert!(said.contains("its ports eth0 and eth1 are not"), "{said}");
        if at_least(5, 15) {
            guard(scene, "auto");
            assert_eq!(arrive(scene), 0);
            let said = scene.sipguard(["doctor"]).stdout;
            assert!(!said.contains("its port"), "{said}");
        }
    });
}

#[test]
fn team() {
    on_a_gateway(|scene| {
        scene.gateway.ip("link add team0 type team");
        scene.gateway.ip("link set eth0 down");
        scene.gateway.ip("link set eth0 master team0");
        for device in ["team0", "eth0"] {
            scene.gateway.ip(&format!("link set {device} up"));
        }
        let (begin, wire) = (scene.begin("eth0"), scene.outside.wire("eth0"));
        scene.lead("team0", begin, wire);
        scene.is_guarded("team0", &tc("team"));
        scene.guard(&["eth0"]);
        assert!(!scene.passes("team0", SCANNER, 5060));
        assert!(scene.passes("team0", PROVIDER, 5060));
    });
}

/// The port of a VRF, whose sockets hear of it in another table of routes.
#[test]
fn a_port_of_a_vrf() {
    on_a_gateway(|scene| {
        scene.gateway.ip("link add vrf7 type vrf table 7");
        scene.gateway.ip("link set vrf7 up");
        scene.gateway.ip("link set eth0 master vrf7");
        scene.gateway.ip("address add 192.0.2.1/32 dev vrf7");
        scene
            .gateway
            .ip("address add 2001:db8::1/128 dev vrf7 nodad");
        scene.gateway.enter(|| {
            let accept = "/proc/sys/net/ipv4/udp_l3mdev_accept";
            fs::write(accept, "1").expect("a kernel with VRF");
        });
        scene.is_guarded("eth0", "native");
    });
}

/// Below it, what is encrypted is no IP.
#[test]
fn macsec() {
    on_a_gateway(|scene| {
        let address = |host: &Host| {
            let shown = host.ip("link show eth0").stdout;
            let (_, rest) = shown.split_once("link/ether ").expect("it is Ethernet");
            rest[..17].to_owned()
        };
        let keys = [
            "00112233445566778899aabbccddeeff",
            "ffeeddccbbaa99887766554433221100",
        ];
        for (host, peer, [own, other]) in [
            (&scene.gateway, &scene.outside, keys),
            (&scene.outside, &scene.gateway, [keys[1], keys[0]]),
        ] {
            let peer = address(peer);
            for words in [
                "link add link eth0 name macsec0 type macsec encrypt on",
                &format!("macsec add macsec0 tx sa 0 pn 1 on key 00 {own}"),
                &format!("macsec add macsec0 rx address {peer} port 1"),
                &format!("macsec add macsec0 rx address {peer} port 1 sa 0 pn 1 on key 01 {other}"),
                "link set macsec0 up",
            ] {
                host.ip(words);
            }
        }
        let (begin, wire) = (scene.begin("eth0"), scene.outside.wire("macsec0"));
        scene.lead("macsec0", begin, wire);
        scene.guard(&["eth0"]);
        assert!(scene.passes("macsec0", SCANNER, 5060));
        scene.sipguard(["down"]).succeeded();
        scene.is_guarded("macsec0", &tc("macsec"));
    });
}

/// What replaces a veth pair for containers since Linux 6.7.
#[test]
fn netkit() {
    on_a_gateway(|scene| {
        scene.gateway.ip("link add nk7 type netkit");
        let shown = scene.gateway.ip("-oneline link show").stdout;
        // `3: nk0@nk7: <…>`
        let mut names = shown.lines().filter_map(|line| line.split(": ").nth(1));
        let other = names.find_map(|name| name.strip_suffix("@nk7"));
        let other = other.expect("it has another end");
        let to = scene.outside.namespace();
        scene.gateway.ip(&format!("link set {other} netns {to}"));
        scene.gateway.ip("link set nk7 up");
        scene.outside.ip(&format!("link set {other} up"));
        // In layer 3, as it is by default, it has an Ethernet header with nothing in it.
        let wire = scene.outside.wire(other);
        scene.lead("nk7", eth().macs([0; 6], [0; 6]), wire);
        scene.is_guarded("nk7", &tc("netkit"));
    });
}

#[test]
fn ipvlan() {
    for mode in ["l2", "l3"] {
        on_a_gateway(|scene| {
            let begin = scene.begin("eth0");
            let kind = format!("link eth0 type ipvlan mode {mode}");
            made(scene, "ipvl0", &kind, begin);
            scene.gateway.ip("address add 192.0.2.1/32 dev ipvl0");
            scene
                .gateway
                .ip("address add 2001:db8::1/128 dev ipvl0 nodad");
            scene.is_guarded("ipvl0", &tc("ipvlan"));
            // Its mode can be changed at any time, and status does not say that all is as it was.
            scene.guard(&["ipvl0"]);
            let l3s = "link set ipvl0 type ipvlan mode l3s";
            scene.gateway.ip(l3s);
            let said = scene.sipguard(["status"]).succeeded().stdout;
            assert!(said.contains("not judged any more"), "{said}");
        });
    }
    on_a_gateway(|scene| {
        scene
            .gateway
            .ip("link add ipvl0 link eth0 type ipvlan mode l3s");
        scene.refuses("ipvl0", &["gets its packets behind XDP", "mode l2 or l3"]);
    });
}

#[test]
fn wireguard() {
    on_a_gateway(|scene| {
        let shell = |host: &Host, text: &str| {
            let mut command = Command::new("sh");
            host.run(command.args(["-ec", text])).succeeded().stdout
        };
        let key = |name: &str| {
            let file = format!("{SCRATCH}/{name}");
            let text = format!("umask 077; wg genkey > {file}; wg pubkey < {file}");
            let public = shell(&scene.gateway, &text);
            (file, public.trim().to_owned())
        };
        let (near, far) = (key("near"), key("far"));
        for (host, own, other, address) in [
            (&scene.gateway, &near, &far, FAR),
            (&scene.outside, &far, &near, NEAR),
        ] {
            host.ip("link add wg0 type wireguard");
            let (file, _) = own;
            let (_, peer) = other;
            shell(
                host,
                &format!(
                    "wg set wg0 listen-port 51820 private-key {file} \
                     peer {peer} allowed-ips 0.0.0.0/0,::/0 endpoint {address}:51820"
                ),
            );
            host.ip("link set wg0 up");
        }
        let wire = scene.outside.wire("wg0");
        scene.lead("wg0", bare(), wire);
        // Below it a tunnel is somebody's UDP to a port that is not guarded.
        scene.guard(&["eth0"]);
        assert!(scene.passes("wg0", SCANNER, 5060));
        scene.sipguard(["down"]).succeeded();
        scene.is_guarded("wg0", &tc("wireguard"));
    });
}

/// A session on `eth0`: judged there, and on the device of the session.
#[test]
fn ppp() {
    on_a_gateway(|scene| {
        // Before the session, which does not outlive a change; it is with the sender of frames that say nothing else.
        scene
            .gateway
            .ip(&format!("link set eth0 address {NEAR_MAC_TEXT}"));
        let _session = scene.gateway.enter(session).expect("a kernel with PPPoE");
        scene.gateway.ip("link set ppp0 up");
        let wire = scene.outside.wire("eth0");
        scene.lead("ppp0", eth().pppoe(), wire);
        scene.is_guarded("ppp0", &tc("ppp"));
        scene.guard(&["eth0"]);
        assert!(!scene.passes("ppp0", SCANNER, 5060));
        assert!(scene.passes("ppp0", PROVIDER, 5060));
    });
}

/// A tunnel whose packets begin so on `eth0`.
fn tunnel(kind: &str, settings: &str, begin: fn(Frame) -> Frame) {
    on_a_gateway(|scene| {
        let begin = begin(scene.begin("eth0"));
        made(scene, "tun7", &format!("type {kind} {settings}"), begin);
        let families = match kind {
            "ipip" => &[V4][..],
            _ => &FAMILIES,
        };
        scene.is_guarded_in(families, "tun7", &tc(kind));
    });
}

fn between(outer: Frame) -> Frame {
    outer.ip(FAR).to(NEAR)
}

fn between_v6(outer: Frame) -> Frame {
    outer.ip(FAR_V6).to(NEAR_V6)
}

#[test]
fn ipip() {
    tunnel("ipip", &format!("local {NEAR} remote {FAR}"), between);
    tunnel("ipip", &format!("local {NEAR}"), between);
}

#[test]
fn sit() {
    tunnel(
        "sit",
        &format!("local {NEAR} remote {FAR} mode any"),
        between,
    );
    tunnel("sit", &format!("local {NEAR} mode any"), between);
}

#[test]
fn ip6tnl() {
    let settings = format!("local {NEAR_V6} remote {FAR_V6} mode any");
    tunnel("ip6tnl", &settings, between_v6);
}

#[test]
fn gre() {
    let gre = |outer| between(outer).gre();
    tunnel("gre", &format!("local {NEAR} remote {FAR}"), gre);
    tunnel("gre", "external", gre);
    // What comes in by such a one still has the outer header in front.
    tunnel("gre", &format!("local {NEAR}"), gre);
}

#[test]
fn ip6gre() {
    let gre = |outer| between_v6(outer).gre();
    tunnel("ip6gre", &format!("local {NEAR_V6} remote {FAR_V6}"), gre);
    tunnel("ip6gre", &format!("local {NEAR_V6}"), gre);
}

#[test]
fn gretap() {
    for remote in [true, false] {
        on_a_gateway(|scene| {
            for (host, own, other) in [(&scene.gateway, NEAR, FAR), (&scene.outside, FAR, NEAR)] {
                let other = if remote || own == FAR {
                    format!("remote {other}")
                } else {
                    String::new()
                };
                host.ip(&format!("link add tap7 type gretap local {own} {other}"));
                host.ip("link set tap7 up");
            }
            scene
                .gateway
                .ip(&format!("link set tap7 address {NEAR_MAC_TEXT}"));
            let wire = scene.outside.wire("tap7");
            scene.lead("tap7", eth().macs(NEAR_MAC, FAR_MAC), wire);
            scene.is_guarded("tap7", &tc("gretap"));
        });
    }
}

/// The header of GRE names a protocol of its own: with a tag first, which Linux takes off, and what is no IP.
fn other_protocols_in(kind: &str, settings: &str, begin: fn(Frame) -> Frame) {
    on_a_gateway(|scene| {
        let begin = begin(scene.begin("eth0"));
        let made_with = format!("type {kind} {settings}");
        made(scene, "tun7", &made_with, begin.clone());
        scene.guard(&["tun7"]);
        for (listed, unlisted) in [(PROVIDER, SCANNER), ("2001:db8:100::5", "2001:db8:ffff::7")] {
            for begin in [begin.clone().vlan(0), begin.clone().service_tag(0)] {
                let frame = |source: &str| begin.clone().ip(source);
                assert!(scene.delivers("tun7", &frame(listed).udp(5060), 5060));
                assert!(!scene.delivers("tun7", &frame(unlisted).udp(5060), 5060));
                assert!(scene.delivers("tun7", &frame(unlisted).udp(16_384), 16_384));
            }
        }
        let malformed = || {
            let counts = datapath::counts("tun7").expect("counters can be read");
            let counts = counts.expect("the interface has counters");
            counts.of(NO_SERVICE, Reason::Malformed).packets
        };
        let before = malformed();
        // An MPLS label that looks like an IP header.
        let label = [0x45, 0x01, 0x01, 0x40, 1, 2, 3, 4];
        let mpls = begin.raw(0x8847, 0, &label).bytes();
        scene.wire("tun7").send(&mpls);
        scene.settle("tun7");
        assert_eq!(malformed(), before);
    });
}

#[test]
fn other_protocols_in_gre() {
    let gre = |outer| between(outer).gre();
    other_protocols_in("gre", &format!("local {NEAR} remote {FAR}"), gre);
    other_protocols_in("gre", &format!("local {NEAR}"), gre);
    let gre = |outer| between_v6(outer).gre();
    let settings = format!("local {NEAR_V6} remote {FAR_V6}");
    other_protocols_in("ip6gre", &settings, gre);
}

#[test]
fn ipsec_devices_are_refused() {
    on_a_gateway(|scene| {
        scene
            .gateway
            .ip("link add ipsec0 type xfrm dev eth0 if_id 7");
        scene.refuses("ipsec0", &["what comes in by xfrm", "nftables"]);
        scene.gateway.ip(&format!(
            "link add vti7 type vti local {NEAR} remote {FAR} key 7"
        ));
        scene.refuses("vti7", &["what comes in by vti", "nftables"]);
    });
}

#[test]
fn devices_that_nothing_comes_in_by_are_refused() {
    on_a_gateway(|scene| {
        for (name, kind) in [("dummy7", "dummy"), ("vrf7", "vrf table 7")] {
            scene.gateway.ip(&format!("link add {name} type {kind}"));
            scene.refuses(name, &["no frame comes in by a", "name the interface"]);
        }
    });
}

/// The ports behind an authentication header are seen, as Linux sees them.
#[test]
fn authentication_headers() {
    on_a_gateway(|scene| {
        for (from, to) in [("0.0.0.0", "192.0.2.1"), ("::", "2001:db8::1")] {
            let words = format!("xfrm state add src {from} dst {to} proto ah spi 0x1000");
            let words = words.split(' ').chain(["mode", "transport"]);
            let mut command = Command::new("ip");
            command.args(words).args(["auth", "digest_null", ""]);
            scene.gateway.run(&mut command).succeeded();
        }
        let server = scene.gateway.enter(|| scene::bind(5060));
        let patience = Some(Duration::from_secs(20));
        server.set_read_timeout(patience).expect("a timeout");
        let send = |source: &str| {
            let frame = scene.frame("eth0", source).ah(16).udp(5060);
            let frame = frame.payload(source.as_bytes());
            scene.wire("eth0").send(&frame.bytes());
        };
        // Behind the header Linux goes on at its leisure, but in order.
        let arrives = |source: &str| {
            let mut buffer = [0; 64];
            let length = server.recv(&mut buffer).expect("a datagram");
            assert_eq!(str::from_utf8(&buffer[..length]), Ok(source));
        };
        for source in [SCANNER, "2001:db8:ffff::7"] {
            send(source);
            arrives(source);
        }
        scene.guard(&["eth0"]);
        for (unlisted, listed) in [(SCANNER, PROVIDER), ("2001:db8:ffff::7", "2001:db8:100::5")] {
            send(unlisted);
            send(listed);
            arrives(listed);
        }
        assert_eq!(unlisted(), 2);
    });
}

/// What IPsec brings in transport mode is behind what any filter of ours sees: whoever has the key sends as anybody. What it takes out of a
/// tunnel comes in once more, behind the driver.
#[test]
fn what_ipsec_brings() {
    for mode in [FALL_BACK, "native"] {
        on_a_gateway(|scene| {
            // The first is what the tunnel's packets are held against, the others what is in them.
            let states = [
                ("0.0.0.0", "192.0.2.1", "transport"),
                ("::", "2001:db8::1", "transport"),
                (FAR, NEAR, "tunnel"),
            ];
            for (from, to, kind) in states {
                let words = format!("xfrm state add src {from} dst {to} proto esp spi 0x2000");
                let words = words.split(' ').chain(["mode", kind]);
                let mut command = Command::new("ip");
                command.args(words).args(["enc", "ecb(cipher_null)", ""]);
                command.args(["auth", "digest_null", ""]);
                scene.gateway.run(&mut command).succeeded();
            }
            // What comes in a tunnel is taken only where a policy asks for one.
            scene.gateway.ip(&format!(
                "xfrm policy add dir in src {SCANNER}/32 dst 192.0.2.1/32 \
                 tmpl src {FAR} dst {NEAR} proto esp mode tunnel level use"
            ));
            let server = scene.gateway.enter(|| scene::bind(5060));
            let patience = Some(Duration::from_secs(20));
            server.set_read_timeout(patience).expect("a timeout");
            let send = |text: &str, source: &str, tunnel: bool| {
                let inner = bare().ip(source);
                let header = inner.header_length();
                let packet = inner.udp(5060).payload(text.as_bytes()).bytes();
                let (outer, next, contents) = if tunnel {
                    (between(scene.begin("eth0")), 4, &packet[..])
                } else {
                    (scene.frame("eth0", source), 17, &packet[header..])
                };
                let frame = outer.raw(0, 50, &sealed(contents, next));
                scene.wire("eth0").send(&frame.bytes());
            };
            let arrive = |tunnel: bool, sources: &[&str]| {
                for source in sources {
                    let text = format!("{source} {tunnel}");
                    send(&text, source, tunnel);
                    let mut buffer = [0; 64];
                    let length = server.recv(&mut buffer);
                    let length = length.unwrap_or_else(|error| panic!("{mode}, {text}: {error}"));
                    assert_eq!(str::from_utf8(&buffer[..length]), Ok(&*text));
                }
            };
            let both = [SCANNER, "2001:db8:ffff::7"];
            arrive(false, &both);
            arrive(true, &[SCANNER]);
            let text = policy(&[]).replace("interfaces = []\n", "");
            scene.configure(&format!(
                "{text}\n[[interface]]\nname = \"eth0\"\nmode = \"{mode}\"\n"
            ));
            scene.sipguard(["apply"]).succeeded();
            arrive(false, &both);
            if mode == "native" {
                arrive(true, &[SCANNER]);
            } else {
                send("", SCANNER, true);
                until("what was in the tunnel is dropped", || unlisted() == 1);
            }
        });
    }
}

/// As ESP (RFC 4303) where neither cipher nor digest do anything.
fn sealed(contents: &[u8], next: u8) -> Vec<u8> {
    let mut sealed = [0x2000_u32, 1].map(u32::to_be_bytes).concat();
    sealed.extend(contents);
    let padding = (2..6).find(|more| (contents.len() + more).is_multiple_of(4));
    let padding = u8::try_from(padding.expect("one of four") - 2).expect("at most 3");
    sealed.extend(1..=padding);
    sealed.extend([padding, next]);
    sealed
}

/// A label whose first bits are an IP version is still a label.
#[test]
fn mpls_in_gre() {
    on_a_gateway(|scene| {
        let gre = format!("link add tun7 type gre local {NEAR} remote {FAR}");
        scene.gateway.ip(&gre);
        scene.gateway.ip("link set tun7 up");
        scene.gateway.enter(|| {
            for (setting, value) in [("platform_labels", "1048575"), ("conf/tun7/input", "1")] {
                let path = format!("/proc/sys/net/mpls/{setting}");
                fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
            }
        });
        let labels = [4_u32, 6, 0].map(|nibble| nibble << 16 | 0x17);
        for label in labels {
            scene.gateway.ip(&format!(
                "-f mpls route add {label} as {} via inet {FAR} dev eth0",
                label + 1
            ));
        }
        scene.gateway.ip(&format!(
            "neighbour add {FAR} lladdr 02:00:00:00:00:02 dev eth0"
        ));
        let answers = scene.outside.enter(|| {
            let protocol = NonZeroU32::new(0x8847_u16.to_be().into()).map(Protocol::from_raw);
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            socket_with(AddressFamily::PACKET, SocketType::RAW, flags, protocol)
        });
        let answers = answers.expect("a packet socket");
        let switched = || {
            for label in labels {
                let begin = scene.begin("eth0");
                let packet = bare().ip(SCANNER).udp(5060).bytes();
                let entry = label << 12 | 1 << 8 | 64;
                let inside = [&entry.to_be_bytes()[..], &packet].concat();
                let gre = [&[0, 0, 0x88, 0x47][..], &inside].concat();
                let frame = between(begin).raw(0, 47, &gre);
                scene.wire("eth0").send(&frame.bytes());
                let wanted = (label + 1) << 12 | 1 << 8 | 63;
                let mut buffer = [0; 128];
                until("the packet is switched", || {
                    recv(&answers, &mut buffer, RecvFlags::empty()).is_ok()
                });
                assert_eq!(buffer[14..18], wanted.to_be_bytes());
            }
        };
        switched();
        if at_least(5, 14) {
            scene.guard(&["tun7"]);
            switched();
        }
    });
}

/// A listed and an unlisted address outside, and the way back to them.
fn reachable(scene: &Scene) {
    for source in [PROVIDER, SCANNER] {
        let outside = format!("address add {source}/32 dev lo");
        scene.outside.ip(&outside);
        scene
            .gateway
            .ip(&format!("route add {source}/32 via {FAR}"));
    }
    scene
        .outside
        .ip(&format!("route add 192.0.2.1/32 via {NEAR}"));
}

fn unlisted() -> u64 {
    let counts = datapath::counts("eth0").expect("counters can be read");
    let counts = counts.expect("the interface has counters");
    counts.of(0, Reason::Unlisted).packets
}

const GATEWAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5060);

fn socket(kind: SocketType, protocol: Protocol, address: SocketAddr) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, kind, flags, Some(protocol));
    let socket = socket.unwrap_or_else(|error| panic!("{protocol:?}: {error}"));
    bind(&socket, &address).expect("a free port");
    socket
}

fn from(source: &str) -> SocketAddr {
    SocketAddr::new(source.parse().expect("an address"), 0)
}

#[test]
fn udp_lite() {
    on_a_gateway(|scene| {
        reachable(scene);
        scene.configure(&policy(&["eth0"]).replace("udp =", "udplite ="));
        scene.sipguard(["apply"]).succeeded();
        let open = |address| socket(SocketType::DGRAM, ipproto::UDPLITE, address);
        let server = scene.gateway.enter(|| open(GATEWAY));
        let before = unlisted();
        let send = |source| {
            let client = scene.outside.enter(|| open(from(source)));
            let sent = sendto(&client, source.as_bytes(), SendFlags::empty(), &GATEWAY);
            sent.expect("sent");
        };
        let mut buffer = [0; 32];
        let mut receive =
            || recv(&server, &mut buffer, RecvFlags::empty()).map(|(length, _)| length);
        send(SCANNER);
        until("the unlisted one was dropped", || unlisted() > before);
        assert_eq!(receive(), Err(Errno::AGAIN));
        send(PROVIDER);
        until("the listed one arrives", || receive() == Ok(PROVIDER.len()));
    });
}

#[test]
fn sctp() {
    on_a_gateway(|scene| {
        reachable(scene);
        scene.configure(&policy(&["eth0"]).replace("tcp =", "sctp ="));
        scene.sipguard(["apply"]).succeeded();
        let open = |address| socket(SocketType::STREAM, ipproto::SCTP, address);
        let server = scene.gateway.enter(|| open(GATEWAY));
        listen(&server, 8).expect("a bound socket");
        let before = unlisted();
        let call = |source| {
            let client = scene.outside.enter(|| open(from(source)));
            assert_eq!(connect(&client, &GATEWAY), Err(Errno::INPROGRESS));
            client
        };
        let _unlisted = call(SCANNER);
        until("the unlisted one was dropped", || unlisted() > before);
        assert!(accept(&server).is_err(), "nobody has come");
        let _listed = call(PROVIDER);
        until("the listed one has come", || accept(&server).is_ok());
    });
}
