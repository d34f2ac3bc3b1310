//! At TC ingress: what only the kernel says of a packet is heeded, other people's programs are left alone and never before ours for long,
//! and an interface moves between the driver and there without a gap.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use sipguard::{datapath, kernel::at_least};
use sipguard_ebpf::abi::{NO_SERVICE, Reason};
use sipguard_tests::{
    foreign::{self, Foreign, detach},
    frame::{Frame, bare},
    netns::{BPFFS, sandbox, stay_on_this_cpu, until},
    scene::{PROVIDER, SCANNER, Scene, bind, link_id, pinned},
    tun::Tun,
    way_in::policy,
};

/// TCX came with it; before, there is `clsact`.
fn has_links() -> bool {
    at_least(6, 6)
}

fn on_a_gateway(test: impl FnOnce(&mut Scene) + Send) {
    sandbox(|sandbox| {
        stay_on_this_cpu();
        test(&mut Scene::new(sandbox, &["eth0"]));
    });
}

/// The usual policy, `eth0` in this mode.
fn in_mode(mode: &str) -> String {
    let text = policy(&[]).replace("interfaces = []\n", "");
    format!("{text}\n[[interface]]\nname = \"eth0\"\nmode = \"{mode}\"\n")
}

/// Puts the policy in force at TC ingress.
fn apply(scene: &Scene) {
    scene.configure(&in_mode("tc"));
    let said = scene.sipguard(["apply"]).succeeded().stdout;
    assert!(said.starts_with("eth0: tc"), "{said}");
}

/// And sees with packets that it is.
fn guard(scene: &Scene) {
    apply(scene);
    assert!(is_guarded(scene));
}

fn is_guarded(scene: &Scene) -> bool {
    assert!(scene.passes("eth0", PROVIDER, 5060));
    !scene.passes("eth0", SCANNER, 5060)
}

fn dropped(interface: &str, reason: Reason) -> u64 {
    let counts = datapath::counts(interface).expect("counters can be read");
    let counts = counts.expect("the interface has counters");
    let service = if reason == Reason::Unlisted {
        0
    } else {
        NO_SERVICE
    };
    counts.of(service, reason).packets
}

/// Everything that makes a packet of an interface without an Ethernet header: its protocol is said beside it, and tags may come first.
#[test]
fn a_protocol_that_is_said_beside_the_packet() {
    on_a_gateway(|scene| {
        let wire = scene.gateway.tun("tun0", Tun::Information);
        // What the kernel calls packet information is laid out like a tag: two bytes, and the EtherType of what follows.
        let begin = || bare().vlan(0);
        scene.lead("tun0", begin(), wire);
        scene.is_guarded("tun0", "tc (a tun device has no native XDP)");
        scene.guard(&["tun0"]);
        for (listed, unlisted) in [(PROVIDER, SCANNER), ("2001:db8:100::5", "2001:db8:ffff::7")] {
            // Linux takes priority tags off before it delivers.
            for begin in [begin().vlan(0), begin().service_tag(0)] {
                let frame = |source: &str| begin.clone().ip(source);
                assert!(scene.delivers("tun0", &frame(listed).udp(5060), 5060));
                let before = dropped("tun0", Reason::Unlisted);
                assert!(!scene.delivers("tun0", &frame(unlisted).udp(5060), 5060));
                scene.wire("tun0").send(&frame(unlisted).tcp(5060).bytes());
                assert!(scene.delivers("tun0", &frame(unlisted).udp(16_384), 16_384));
                assert_eq!(dropped("tun0", Reason::Unlisted), before + 2, "{unlisted}");
            }
        }
        // What is neither IPv4 nor IPv6 is nobody's business, whatever its first byte looks like: an MPLS label.
        let before = dropped("tun0", Reason::Malformed);
        for first in [0x45, 0x60, 0x00] {
            let mpls = [0, 0, 0x88, 0x47, first, 0x01, 0x01, 0x40, 1, 2, 3, 4];
            scene.wire("tun0").send(&mpls);
        }
        scene.settle("tun0");
        assert_eq!(dropped("tun0", Reason::Malformed), before);
    });
}

/// One tag is taken off before TC sees the frame; as in the driver, it is one of the four that are followed.
#[test]
fn a_tag_that_was_taken_off_is_one_of_four() {
    on_a_gateway(|scene| {
        guard(scene);
        let tagged = |tags| (0..tags).fold(scene.begin("eth0"), |frame, _| Frame::vlan(frame, 0));
        let (unlisted, deep) = (
            dropped("eth0", Reason::Unlisted),
            dropped("eth0", Reason::TooDeep),
        );
        for tags in 0..=6 {
            let frame = tagged(tags).ip(SCANNER).udp(5060);
            assert!(!scene.delivers("eth0", &frame, 5060), "{tags} tags");
        }
        assert_eq!(dropped("eth0", Reason::Unlisted), unlisted + 5);
        assert_eq!(dropped("eth0", Reason::TooDeep), deep + 2);
    });
}

/// A program that comes before ours, and ends the chain, makes ours blind. That is said, and the next apply puts ours first again.
#[test]
fn somebody_elses_program_before_ours() {
    if !has_links() {
        println!("not on this kernel: links at TC ingress (6.6)");
        return;
    }
    on_a_gateway(|scene| {
        let earlier = Foreign::before_all(&scene.gateway, "eth0", 0);
        guard(scene);
        let later = Foreign::before_all(&scene.gateway, "eth0", 0);
        assert!(!is_guarded(scene), "the other one lets everything pass");
        let said = scene.sipguard(["status"]).succeeded().stdout;
        let named = format!(
            "the TC program {} (id {}) runs before it",
            foreign::NAME,
            later.id
        );
        assert!(said.contains(&named), "{said}");
        assert!(!said.contains(&format!("id {}", earlier.id)), "{said}");
        let told = scene.sipguard(["status", "--json"]).succeeded().stdout;
        let before = format!(
            "\"before\":[{{\"id\":{},\"name\":\"{}\"}}]",
            later.id,
            foreign::NAME
        );
        assert!(told.contains(&before), "{told}");
        let doctor = scene.sipguard(["doctor"]).exited(1).stdout;
        assert!(
            doctor.contains("runs before sipguard's on eth0"),
            "{doctor}"
        );
        assert!(doctor.contains("    sipguard apply\n"), "{doctor}");

        scene.sipguard(["apply"]).succeeded();
        assert!(is_guarded(scene));
        let said = scene.sipguard(["status"]).succeeded().stdout;
        assert!(!said.contains("before it"), "{said}");
        // A swap leaves it there.
        let link = link_id("eth0");
        scene.configure(&in_mode("tc").replace("[5060]", "[5060, 5061]"));
        scene.sipguard(["apply"]).succeeded();
        assert_eq!(link_id("eth0"), link);
        assert!(is_guarded(scene));
        scene.sipguard(["down"]).succeeded();
        assert!(earlier.is_there() && later.is_there());
    });
}

/// What passes goes to whoever is next.
#[test]
fn somebody_elses_program_behind_ours() {
    if !has_links() {
        println!("not on this kernel: links at TC ingress (6.6)");
        return;
    }
    on_a_gateway(|scene| {
        guard(scene);
        scene.sipguard(["down"]).succeeded();
        let other = Foreign::before_all(&scene.gateway, "eth0", 2);
        let frame = scene.frame("eth0", PROVIDER).udp(5060);
        scene.configure(&in_mode("tc"));
        scene.sipguard(["apply"]).succeeded();
        scene.wire("eth0").send(&frame.bytes());
        // It drops all that ours lets pass.
        until("ours lets it pass", || {
            let counts = datapath::counts("eth0").expect("counters can be read");
            counts.is_some_and(|counts| counts.of(0, Reason::Allowed).packets == 1)
        });
        assert!(other.is_there());
        other.detach();
        assert!(is_guarded(scene));
    });
}

/// Somebody ends what holds our program; nobody is told of it, but it is seen.
#[test]
fn what_somebody_has_detached_is_missed() {
    on_a_gateway(|scene| {
        guard(scene);
        let tc = |words: &str| {
            let mut command = Command::new("tc");
            scene.gateway.run(command.args(words.split(' ')))
        };
        // There since the guard, or not yet.
        let _ = tc("qdisc add dev eth0 clsact");
        tc("qdisc del dev eth0 clsact").succeeded();
        if has_links() {
            assert!(is_guarded(scene));
            detach(&pinned(&format!("{BPFFS}/sipguard/tc-links/eth0")));
        }
        assert!(!is_guarded(scene));
        let said = scene.sipguard(["status"]).succeeded().stdout;
        // Where nothing is pinned for an interface, nothing is left of the only one.
        let missed = if has_links() {
            "eth0       not filtered"
        } else {
            "nothing is in force"
        };
        assert!(said.contains(missed), "{said}");
        scene.sipguard(["apply"]).succeeded();
        assert!(is_guarded(scene));
        scene.sipguard(["down"]).succeeded();
        assert!(scene.passes("eth0", SCANNER, 5060));
    });
}

/// An XDP program is in nobody's way there.
#[test]
fn behind_somebody_elses_xdp_program() {
    on_a_gateway(|scene| {
        let other = Foreign::attach(&scene.gateway, "eth0");
        scene.configure(&in_mode("auto"));
        let refused = scene.sipguard(["apply"]).exited(1).stderr;
        assert!(refused.contains(foreign::NAME), "{refused}");
        guard(scene);
        let said = scene.sipguard(["status"]).succeeded().stdout;
        let named = format!(
            "the XDP program {} (id {}) is there",
            foreign::NAME,
            other.id
        );
        assert!(said.contains(&named), "{said}");
        assert!(other.is_there());
    });
}

/// From the driver to TC ingress, back, and to what is in force in the end: at each moment at least one of the two filters.
#[test]
fn no_packet_sees_a_change_of_mode() {
    sandbox(|sandbox| {
        let scene = &Scene::new(sandbox, &["eth0"]);
        scene.configure(&in_mode("native"));
        scene.sipguard(["apply"]).succeeded();
        let leaked = under_a_flood(scene, || {
            for mode in ["tc", "native", "generic", "auto", "native", "tc", "native"] {
                scene.configure(&in_mode(mode));
                scene.sipguard(["apply"]).succeeded();
            }
        });
        assert_eq!(leaked, 0);
        let said = scene.sipguard(["status"]).succeeded().stdout;
        assert!(said.contains("eth0       native"), "{said}");
    });
}

/// Versions before this one fell back to generic XDP, and had no other program. An upgrade moves what they left to TC ingress.
#[test]
fn an_upgrade_from_generic_xdp() {
    for mode in ["auto", "generic", "native"] {
        sandbox(|sandbox| {
            let scene = &Scene::new(sandbox, &["eth0"]);
            apply(scene);
            let pins = Path::new(BPFFS).join("sipguard");
            let generation = fs::read_dir(pins.join("generations")).expect("readable");
            let generation = generation.last().expect("one").expect("readable").path();
            let program = generation.join("program-eth0").display().to_string();
            let link = pins.join("links/eth0").display().to_string();
            foreign::pin_generic(&scene.gateway, "eth0", &pinned(&program), &link);
            scene.sipguard(["status"]).succeeded();
            if has_links() {
                fs::remove_dir_all(pins.join("tc-links")).expect("a folder");
            } else {
                let mut tc = Command::new("tc");
                let words = "qdisc del dev eth0 clsact".split(' ');
                scene.gateway.run(tc.args(words)).succeeded();
            }
            fs::remove_file(generation.join("tc-program-eth0")).expect("a pin");
            until("the kernel has let go of the link", || {
                let said = scene.sipguard(["status"]).succeeded().stdout;
                said.contains("eth0       generic")
            });
            scene.configure(&in_mode(mode));
            let leaked = under_a_flood(scene, || {
                scene.sipguard(["apply"]).succeeded();
            });
            assert_eq!(leaked, 0, "{mode}");
            let said = scene.sipguard(["status"]).succeeded().stdout;
            // What the driver did not take, or was never asked to, it is asked to now.
            let now = if mode == "generic" { "tc" } else { "native" };
            assert!(said.contains(&format!("eth0       {now}")), "{said}");
            assert!(!Path::new(&link).exists() || mode != "generic");
            assert!(is_guarded(scene));
        });
    }
}

/// Ends a flood, also where the change fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends unlisted frames while `change` changes something; how many got through.
fn under_a_flood(scene: &Scene, change: impl FnOnce()) -> u64 {
    let socket = scene.gateway.enter(|| bind(5060));
    let frame = scene.frame("eth0", SCANNER).udp(5060);
    let frame = frame.payload(b"scan").bytes();
    let (ended, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    scene.wire("eth0").send(&frame);
                }
                sent.fetch_add(64, Ordering::Relaxed);
            }
        });
        let _over = Over(&ended);
        let flows = || sent.load(Ordering::Relaxed);
        until("the flood has begun", || flows() > 1_000);
        change();
        let now = flows();
        until("the flood goes on", || flows() > now + 1_000);
    });
    println!("{} sent", sent.load(Ordering::Relaxed));
    scene.await_link("eth0");
    scene.settle("eth0");
    socket.set_nonblocking(true).expect("an option of sockets");
    let mut leaked = 0;
    while socket.recv(&mut [0; 64]).is_ok() {
        leaked += 1;
    }
    leaked
}

/// Behind the driver because the config said so is no reason to stay there.
#[test]
fn whoever_wanted_it_behind_the_driver_gets_it_back_into_it() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let text = policy(&[]).replace("interfaces = []\n", "");
        let configure = |mode| {
            let interface = format!("[[interface]]\nname = \"eth0\"\nmode = \"{mode}\"\n");
            scene.configure(&[text.clone(), interface].concat());
        };
        configure("tc");
        let said = scene.sipguard(["apply"]).succeeded().stdout;
        assert!(said.starts_with("eth0: tc"), "{said}");
        configure("auto");
        let said = scene.sipguard(["apply"]).succeeded().stdout;
        assert!(said.starts_with("eth0: native"), "{said}");
        assert!(!scene.passes("eth0", SCANNER, 5060));
    });
}
