//! Every apply is one swap: of the same policy none at all, under traffic without a gap, with counters that go on. Nor does traffic notice
//! entries that come and go.

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use jiff::Timestamp;
use sipguard::{
    clock,
    datapath::{self, Attachment, Counts},
    device::{self, Hook},
    host::Host,
    lifecycle::{self, Applied, Live, NewEntry, Options},
    policy::Action,
    state::Store,
};
use sipguard_ebpf::abi::Reason;
use sipguard_tests::{
    flood::{Traffic, flooded},
    found::Found,
    netns::{BPFFS, sandbox},
    scene::{PROVIDER, SCANNER, Scene, link_id, pins},
};

fn apply(scene: &Scene) -> Applied {
    scene.gateway.enter(|| {
        lifecycle::apply(&Host::system(), &scene.config(), Options::default())
            .unwrap_or_else(|error| panic!("apply: {error}"))
    })
}

fn live(scene: &Scene) -> Live {
    let live = scene
        .gateway
        .enter(|| lifecycle::live(&Host::system()).expect("the kernel answers"));
    live.expect("something is in force")
}

/// The program on an interface, and where it runs.
fn attached(scene: &Scene, interface: &str) -> (u32, Hook) {
    scene.gateway.enter(|| {
        let device = device::named(interface).expect("netlink works");
        let device = device.expect("the interface is there");
        let links = datapath::attachments(clock::now()).expect("pins can be read");
        let links: Vec<_> = links
            .iter()
            .filter(|it| it.interface == interface)
            .collect();
        let [link] = links[..] else {
            panic!("on {interface}: {links:?}");
        };
        (link.program, link.hook(&device).expect("it is attached"))
    })
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
fn applies_under_a_flood_at_tc_ingress() {
    under_a_flood(20, Hook::Tc);
}

/// `SIPGUARD_APPLIES` says how many times something is changed where each takes long.
fn times(otherwise: usize) -> usize {
    env::var("SIPGUARD_APPLIES").map_or(otherwise, |times| {
        times.parse().expect("SIPGUARD_APPLIES is a number")
    })
}

fn under_a_flood(applies: usize, hook: Hook) {
    let applies = times(applies);
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
        let Traffic {
            flow,
            arrived,
            flood,
            leaked,
        } = flooded(&scene, &[SCANNER], applies, |turn| {
            scene.configure(&policies[turn % 2]);
            assert!(apply(&scene).changed);
            let now = (sum(Reason::Unlisted), sum(Reason::Allowed));
            assert!(now.0 > last.0 && now.1 > last.1, "{last:?} became {now:?}");
            last = now;
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

/// What the version before left is replaced like anything else: on the same link, with the counters, what the command line said and what is
/// banned. Nothing is lost, and nothing let in.
#[test]
fn an_upgrade_is_one_swap_under_a_flood() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(&policy(ETH0, &[("sip", 5060), ("web", 80)]));
        apply(&scene);
        for line in [
            "allow 192.0.2.7 --service sip",
            "deny 192.0.2.8 --for 1h --service web",
            "ban 192.0.2.66 --for 1h --by jail",
            // The provider's address was forged until somebody has noticed.
            "ban 203.0.113.5 --for 1h",
        ] {
            scene.sipguard(line.split(' ')).succeeded();
        }
        let (link, state) = (link_id("eth0"), Store::system().load().expect("a state"));
        let Traffic {
            flow,
            arrived,
            flood,
            leaked,
        } = flooded(&scene, &[SCANNER], 5, |turn| {
            // A description that nobody can read, and maps of other sizes.
            let generations = Path::new(BPFFS).join("sipguard/generations");
            let generation = generations.join(live(&scene).number.to_string());
            for (of, becomes) in [("lengths", "description"), ("entries4", "revision")] {
                fs::rename(generation.join(of), generation.join(becomes))
                    .expect("pins can be renamed");
            }
            let applied = apply(&scene);
            assert!(applied.changed, "in turn {turn}");
            assert_eq!(link_id("eth0"), link, "the link in turn {turn}");
        });
        assert_eq!(leaked, 0, "unlisted frames were let through");
        assert_eq!(arrived, flow, "frames of the allowlisted flow were lost");
        let counts = counts("eth0");
        let sum = |reason| -> u64 { (0..16).map(|slot| counts.of(slot, reason).packets).sum() };
        assert_eq!((sum(Reason::Unlisted), sum(Reason::Allowed)), (flood, flow));
        let after = Store::system().load().expect("a state");
        assert_eq!(after.entries, state.entries);
        assert!(scene.passes("eth0", "192.0.2.7", 5060));
        assert!(!scene.passes("eth0", "192.0.2.66", 5060));
        let listed = scene.sipguard(["list"]).succeeded().stdout;
        for told in ["192.0.2.7", "192.0.2.8", "192.0.2.66", "banned by jail"] {
            assert!(listed.contains(told), "{told}: {listed}");
        }
    });
}

/// Each look-up takes several steps, between which an entry can come or go. Whatever is said of prefixes around, inside and beside those of
/// the two senders, and of their own, as long as it is the same for them.
#[test]
fn entries_come_and_go_under_a_flood() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let network = "203.0.113.0/24";
        scene.configure(&format!(
            "{ETH0}\n[sources]\nproviders = [\"{network}\"]\n\
             [services.sip]\nudp = [5060]\nallow = [\"providers\"]\n[services.web]\nudp = [80]\n"
        ));
        apply(&scene);
        let words = [
            // Denied inside of what is allowed, and around it; the provider's own address and network once more.
            ("sip", Action::Deny, "203.0.113.66/32"),
            ("sip", Action::Deny, "203.0.113.4/32"),
            ("sip", Action::Deny, "203.0.112.0/23"),
            ("sip", Action::Allow, "203.0.113.5/32"),
            ("sip", Action::Allow, network),
            // Beside the scanner, in lengths that no other entry has; the scanner itself.
            ("sip", Action::Allow, "198.51.100.6/32"),
            ("sip", Action::Allow, "198.51.100.0/30"),
            ("sip", Action::Deny, "198.51.100.4/30"),
            ("sip", Action::Deny, "198.51.100.7/32"),
            // They fill a service's part of the prefilter, which is made anew behind them.
            ("sip", Action::Deny, "0.0.0.0/0"),
            ("sip", Action::Allow, "::/0"),
            ("web", Action::Allow, "0.0.0.0/0"),
        ];
        let say = |(service, action, prefix): (&str, Action, &str), until: Option<Timestamp>| {
            let prefix = [prefix.parse().expect("a prefix")];
            let word = NewEntry {
                action,
                end: until.map(lifecycle::End::At),
                comment: None,
            };
            scene.gateway.enter(|| {
                lifecycle::add(&Host::system(), &prefix, Some(service), &word).expect("added")
            });
        };
        let take_back = |(service, _, prefix): (&str, Action, &str)| {
            let prefix = [prefix.parse().expect("a prefix")];
            scene.gateway.enter(|| {
                lifecycle::remove(&Host::system(), &prefix, Some(service)).expect("removed")
            });
        };
        let traffic = flooded(&scene, &[SCANNER], times(40), |round| {
            // Each is taken back at once, or behind the next, or the one after that. Every other round they have an end.
            let until = (round % 2 == 0).then(|| Timestamp::now() + Duration::from_hours(1));
            let overlap = round % 3;
            for turn in 0..words.len() + overlap {
                if let Some(&word) = words.get(turn) {
                    say(word, until);
                }
                if let Some(&word) = turn.checked_sub(overlap).and_then(|turn| words.get(turn)) {
                    take_back(word);
                }
            }
        });
        println!(
            "{} of {} listed frames passed, {} of {} unlisted ones",
            traffic.arrived, traffic.flow, traffic.leaked, traffic.flood
        );
        assert_eq!(traffic.leaked, 0, "unlisted frames were let through");
        assert_eq!(traffic.arrived, traffic.flow, "listed frames were lost");
    });
}

/// Of a long list half a thousand entries go and as many come, each time in place. The provider is on it all the time and the scanner never.
#[test]
fn a_live_list_changes_under_a_flood() {
    let entries = env::var("SIPGUARD_ENTRIES").map_or(50_000, |entries| {
        entries.parse().expect("SIPGUARD_ENTRIES is a number")
    });
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(&format!(
            "{ETH0}\n[sources]\nknown = {{ url = \"https://feeds.example/voip.txt\" }}\n\
             [services.sip]\nudp = [5060]\nallow = [\"known\"]\n"
        ));
        let mut found = Found::url("known", "https://feeds.example/voip.txt");
        let mut list = |turn: u32| {
            let far =
                (0..entries).map(|place| Ipv4Addr::from_bits(0x1000_0000 + turn * 400 + place));
            // Neighbours of both.
            let near = (turn * 50..turn * 50 + 100).flat_map(|place| {
                let host = u8::try_from(20 + place % 200).expect("a byte");
                [
                    Ipv4Addr::new(203, 0, 113, host),
                    Ipv4Addr::new(198, 51, 100, host),
                ]
            });
            let provider = PROVIDER.parse().expect("an address");
            let all = far.chain(near).chain([provider]);
            found.all(all.map(|address| IpNet::from(IpAddr::from(address))));
        };
        list(0);
        scene.sipguard(["apply", "--offline"]).succeeded();
        let number = live(&scene).number;
        let traffic = flooded(&scene, &[SCANNER], times(10), |turn| {
            list(u32::try_from(turn).expect("few"));
            let refreshed = scene.sipguard(["refresh", "--offline"]).succeeded();
            assert!(
                refreshed.stdout.contains(", 500 new, 500 gone"),
                "{refreshed:?}"
            );
        });
        assert_eq!(live(&scene).number, number, "all of it in place");
        println!(
            "{} of {} listed frames passed, {} of {} unlisted ones",
            traffic.arrived, traffic.flow, traffic.leaked, traffic.flood
        );
        assert_eq!(traffic.leaked, 0, "unlisted frames were let through");
        assert_eq!(traffic.arrived, traffic.flow, "listed frames were lost");
    });
}
