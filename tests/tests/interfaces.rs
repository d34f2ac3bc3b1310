//! Every kind of interface that this kernel has: guarded, as packets that come in there tell, or refused with what to do instead.

use std::{fs, process::Command};

use sipguard_tests::{
    frame::{bare, eth},
    netns::{SCRATCH, Sandbox, sandbox},
    scene::{PROVIDER, SCANNER, Scene},
    tun::Tun,
    way_in::{FAMILIES, one_line, policy},
};

/// The other end of every cable that is made here.
const FAR: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0f];
/// The gateway's end, where it is not the cable's.
const NEAR: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const NEAR_TEXT: &str = "02:00:00:00:00:01";

fn on_a_gateway(test: impl FnOnce(&mut Scene) + Send) {
    sandbox(|sandbox: &Sandbox| test(&mut Scene::new(sandbox, &["eth0"])));
}

/// A device made on `eth0`, or from it, with an Ethernet address of its own; what goes to that address comes in by it.
fn made(scene: &mut Scene, name: &str, commands: &[&str]) {
    for command in commands {
        scene.gateway.ip(command);
    }
    scene.gateway.ip(&format!("link set {name} up"));
    let wire = scene.outside.wire("eth0");
    scene.lead(name, eth().macs(NEAR, FAR), wire);
}

#[test]
fn veth() {
    on_a_gateway(|scene| scene.is_guarded("eth0", "native"));
}

#[test]
fn tun() {
    on_a_gateway(|scene| {
        let wire = scene.gateway.tun("tun0", Tun::Ip);
        scene.lead("tun0", bare(), wire);
        scene.is_guarded("tun0", "tc (a tun device has no native XDP)");
    });
}

#[test]
fn tap() {
    on_a_gateway(|scene| {
        let wire = scene.gateway.tun("tap0", Tun::Ethernet);
        scene
            .gateway
            .ip(&format!("link set tap0 address {NEAR_TEXT}"));
        scene.lead("tap0", eth().macs(NEAR, FAR), wire);
        scene.is_guarded("tap0", "native");
    });
}

#[test]
fn bridge() {
    on_a_gateway(|scene| {
        let bridge = format!("link add br0 address {NEAR_TEXT} type bridge");
        made(scene, "br0", &[&bridge, "link set eth0 master br0"]);
        scene.is_guarded("br0", "tc (a bridge device has no native XDP)");
    });
}

#[test]
fn a_port_of_a_bridge() {
    on_a_gateway(|scene| {
        let bridge = format!("link add br0 address {NEAR_TEXT} type bridge");
        made(scene, "br0", &[&bridge, "link set eth0 master br0"]);
        scene.is_guarded("eth0", "native");
        // What comes in by the port and is for the bridge was judged at the port.
        scene.guard(&["eth0"]);
        assert!(!scene.passes("br0", SCANNER, 5060));
        assert!(scene.passes("br0", PROVIDER, 5060));
    });
}

/// A bridge leaves frames to the addresses of its own trade (IEEE 802.1Q, table 8-1) to the port that they come in by, and Linux takes IP in them
/// for any other.
#[test]
fn frames_that_stay_with_the_port_of_a_bridge() {
    on_a_gateway(|scene| {
        let bridge = format!("link add br0 address {NEAR_TEXT} type bridge");
        made(scene, "br0", &[&bridge, "link set eth0 master br0"]);
        for family in ["-4", "-6"] {
            scene
                .gateway
                .ip(&format!("{family} route add default dev br0"));
        }
        let sources = [SCANNER, "2001:db8:ffff::7"];
        let arrive = |scene: &Scene| {
            sources.map(|source| {
                let frame = eth().macs([0x01, 0x80, 0xc2, 0, 0, 0x0e], FAR);
                scene.delivers("br0", &frame.ip(source).udp(5060), 5060)
            })
        };
        // The port judges them.
        scene.guard(&["br0", "eth0"]);
        assert_eq!(arrive(scene), [false; 2]);
        // The bridge never gets them, and the check for that finds it.
        scene.guard(&["br0"]);
        assert_eq!(arrive(scene), [true; 2]);
        let said = scene.sipguard(["doctor"]).exited(1).stdout;
        let (_, mend) = said
            .split_once("its port eth0 is not")
            .expect("it is found");
        let mend = mend.lines().nth(1).expect("a command").trim();
        // The file would be this machine's.
        let file = format!("{SCRATCH}/sysctl.conf");
        let mend = mend.replace("/etc/sysctl.d/51-sipguard-ports.conf", &file);
        let mut shell = Command::new("sh");
        scene.gateway.run(shell.args(["-ec", &mend])).succeeded();
        assert_eq!(arrive(scene), [false; 2]);
        let said = scene.sipguard(["doctor"]).stdout;
        assert!(!said.contains("its port"), "{said}");
        scene.judges(&FAMILIES, "br0");
    });
}

#[test]
fn macvlan() {
    for mode in ["bridge", "private", "vepa", "passthru"] {
        on_a_gateway(|scene| {
            let macvlan = match mode {
                // It has the address of the device below.
                "passthru" => format!("link add mac0 link eth0 type macvlan mode {mode}"),
                _ => {
                    format!("link add mac0 link eth0 address {NEAR_TEXT} type macvlan mode {mode}")
                }
            };
            made(scene, "mac0", &[&macvlan]);
            if mode == "passthru" {
                scene
                    .gateway
                    .ip(&format!("link set mac0 address {NEAR_TEXT}"));
            }
            scene.is_guarded("mac0", "tc (a macvlan device has no native XDP)");
            // Below it the same packets are seen, and in the driver.
            scene.guard(&["eth0"]);
            assert!(!scene.passes("mac0", SCANNER, 5060));
            assert!(scene.passes("mac0", PROVIDER, 5060));
        });
    }
}

#[test]
fn vxlan() {
    on_a_gateway(|scene| {
        for (host, own, other) in [
            (&scene.gateway, "10.9.0.1", "10.9.0.2"),
            (&scene.outside, "10.9.0.2", "10.9.0.1"),
        ] {
            host.ip(&format!("address add {own}/24 dev eth0"));
            host.ip(&format!(
                "link add vx0 type vxlan id 5 remote {other} local {own} dstport 4789 dev eth0"
            ));
            host.ip("link set vx0 up");
        }
        scene
            .gateway
            .ip(&format!("link set vx0 address {NEAR_TEXT}"));
        let wire = scene.outside.wire("vx0");
        scene.lead("vx0", eth().macs(NEAR, FAR), wire);
        // Below it a tunnel is somebody's UDP to a port that is not guarded.
        scene.guard(&["eth0"]);
        assert!(scene.passes("vx0", SCANNER, 5060));
        scene.sipguard(["down"]).succeeded();
        scene.is_guarded("vx0", "tc (a vxlan device has no native XDP)");
    });
}

/// To everybody on the line: the kernel copies such frames for a bridge and for a macvlan.
#[test]
fn broadcasts() {
    on_a_gateway(|scene| {
        let bridge = format!("link add br0 address {NEAR_TEXT} type bridge");
        made(scene, "br0", &[&bridge, "link set eth0 master br0"]);
        let everybody = || eth().macs([0xff; 6], FAR);
        let wire = scene.outside.wire("eth0");
        scene.lead("br0", everybody(), wire);
        scene.is_guarded("br0", "tc (a bridge device has no native XDP)");
        scene.gateway.ip("link delete br0");

        let macvlan =
            format!("link add mac0 link eth0 address {NEAR_TEXT} type macvlan mode bridge");
        made(scene, "mac0", &[&macvlan]);
        let wire = scene.outside.wire("eth0");
        scene.lead("mac0", everybody(), wire);
        scene.guard(&["mac0"]);
        // The device below takes its own copy, which nobody judges: only the copy of the macvlan is counted.
        let before = dropped("mac0");
        let frame = scene.frame("mac0", SCANNER).udp(5060);
        scene.wire("mac0").send(&frame.bytes());
        sipguard_tests::netns::until("the macvlan's copy is judged", || {
            dropped("mac0") == before + 1
        });
    });
}

fn dropped(interface: &str) -> u64 {
    let counts = sipguard::datapath::counts(interface).expect("counters can be read");
    let counts = counts.expect("the interface has counters");
    counts.of(0, sipguard_ebpf::abi::Reason::Unlisted).packets
}

#[test]
fn loopback_is_refused() {
    on_a_gateway(|scene| {
        scene.refuses(
            "lo",
            &[
                "lo can't be guarded: only this host talks to itself there",
                "name the interface that leads to the internet",
            ],
        );
    });
}

#[test]
fn a_device_that_nothing_comes_in_by_is_refused() {
    on_a_gateway(|scene| {
        scene.gateway.ip("link add ifb7 type ifb");
        scene.refuses(
            "ifb7",
            &[
                "ifb7 can't be guarded: no frame comes in by a ifb device",
                "name the interface that they come in by",
            ],
        );
    });
}

#[test]
fn a_tunnel_of_another_kind_is_refused() {
    on_a_gateway(|scene| {
        let gpe = "link add gpe0 type vxlan dstport 4790 gpe external";
        scene.gateway.ip(gpe);
        scene.refuses(
            "gpe0",
            &["gpe0 can't be guarded", "never tried", "nftables"],
        );
    });
}

/// A device and those above it, in whatever order the config names them: the kernel takes the lower ones first or not at all.
#[test]
fn one_above_the_other() {
    on_a_gateway(|scene| {
        let bridge = format!("link add br0 address {NEAR_TEXT} type bridge");
        let upper = "link add mac0 link br0 type macvlan mode bridge";
        let tunnel = "link add vx0 type vxlan id 5 remote 10.9.0.2 dstport 4789 dev eth0";
        made(
            scene,
            "br0",
            &[&bridge, "link set eth0 master br0", upper, tunnel],
        );
        let said = scene.guard(&["mac0", "br0", "vx0", "eth0"]);
        for line in [
            "eth0: native",
            "br0: tc (a bridge device has no native XDP)",
            "mac0: tc (a macvlan device has no native XDP)",
            "vx0: tc (a vxlan device has no native XDP)",
        ] {
            assert!(said.lines().any(|it| it == line), "{line} in {said}");
        }
        scene.judges(&FAMILIES, "eth0");
        // A swap needs no order.
        scene.configure(&policy(&["mac0", "br0", "vx0", "eth0"]).replace("[5060]", "[5060, 5061]"));
        scene.sipguard(["apply"]).succeeded();
        assert!(!scene.passes("br0", SCANNER, 5061));
    });
}

/// A program at TC ingress is in nobody's way: below a device that is guarded there, another one comes into its driver.
#[test]
fn below_what_is_guarded() {
    on_a_gateway(|scene| {
        let bridge = format!("link add br0 address {NEAR_TEXT} type bridge");
        made(scene, "br0", &[&bridge, "link set eth0 master br0"]);
        scene.guard(&["br0"]);
        let said = scene.guard(&["br0", "eth0"]);
        assert!(said.contains("eth0: native\n"), "{said}");
        scene.judges(&FAMILIES, "eth0");
        assert!(!scene.passes("br0", SCANNER, 5060));
    });
}

/// A port that went away and comes back to a bridge that is guarded is guarded again by the next command.
#[test]
fn a_port_that_comes_back() {
    on_a_gateway(|scene| {
        let bridge = format!("link add br0 address {NEAR_TEXT} type bridge");
        made(scene, "br0", &[&bridge, "link set eth0 master br0"]);
        scene.guard(&["br0", "eth0"]);
        scene.gateway.ip("link delete eth0");
        scene.connect("eth0");
        scene.gateway.ip("link set eth0 master br0");
        assert!(
            !scene.passes("eth0", SCANNER, 5060),
            "the bridge is guarded"
        );
        scene
            .sipguard(["allow", SCANNER, "--service", "sip"])
            .succeeded();
        assert!(scene.passes("eth0", SCANNER, 5060));
        let status = scene.sipguard(["status"]).succeeded().stdout;
        assert!(status.contains("eth0       native"), "{status}");
    });
}

#[test]
fn mode_native_is_refused_where_there_is_none() {
    on_a_gateway(|scene| {
        let wire = scene.gateway.tun("tun0", Tun::Ip);
        scene.lead("tun0", bare(), wire);
        let text = policy(&[]).replace("interfaces = []\n", "");
        let native = "[[interface]]\nname = \"tun0\"\nmode = \"native\"\n";
        scene.configure(&format!("{text}\n{native}"));
        one_line(
            &scene.sipguard(["apply"]).exited(1),
            &[
                "tun0 can't run in native mode: a tun device has no native XDP",
                "mode = \"auto\"",
            ],
        );
        assert!(fs::exists("/sys/fs/bpf/sipguard/links/tun0").is_ok_and(|there| !there));
    });
}
