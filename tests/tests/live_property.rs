//! Random sequences of what can happen to entries that live, and to those by hand beside them, against a naive model of who decides. Some of
//! the commands are killed at a random moment: what is in force then is what was before or what was to be, and no third thing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    process::Command,
    thread,
    time::Duration,
};

use ipnet::IpNet;
use rustix::process::Signal;
use sipguard_tests::{
    found::Found,
    netns::{sandbox, sipguard},
    random::Random,
    scene::Scene,
};

const CONFIG: &str = r#"
interfaces = ["eth0"]
[sources]
known   = ["11.0.0.0/30"]
trunk   = ["sip.provider.example"]
blocked = { url = "https://feeds.example/voip.txt" }
[services.sip]
udp = [5060]
default = "allow"
allow = ["trunk", "known"]
deny = ["blocked"]
"#;

/// What is said. Later words on a prefix replace earlier ones of the same speaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    hand: BTreeMap<IpNet, bool>,
    names: BTreeSet<IpNet>,
    feed: BTreeSet<IpNet>,
    bans: BTreeSet<IpNet>,
}

impl Model {
    /// Whether packets from an address pass: all is looked at, and nothing is kept.
    fn passes(&self, address: IpAddr) -> bool {
        let known: IpNet = "11.0.0.0/30".parse().expect("a prefix");
        let mut by_hand: BTreeMap<IpNet, bool> = [(known, true)].into();
        by_hand.extend(&self.hand);
        let covering = |prefix: &IpNet| prefix.contains(&address);
        let longest = |prefix: &IpNet| prefix.prefix_len();
        if let Some((_, allowed)) = by_hand
            .iter()
            .filter(|(prefix, _)| covering(prefix))
            .max_by_key(|(prefix, _)| longest(prefix))
        {
            return *allowed;
        }
        let live = self.names.iter().chain(&self.feed).chain(&self.bans);
        match live
            .filter(|prefix| covering(prefix))
            .max_by_key(|prefix| longest(prefix))
        {
            Some(prefix) => self.names.contains(prefix),
            None => true,
        }
    }
}

/// Prefixes that have something to do with each other.
fn prefixes() -> Vec<IpNet> {
    let nets = [
        "11.0.0.0/16",
        "11.0.0.0/24",
        "11.0.0.0/28",
        "11.0.0.0/29",
        "11.0.0.4/30",
        "11.0.0.0/31",
        "11.0.0.1/32",
        "11.0.0.4/32",
        "11.0.0.5/32",
        "11.0.0.9/32",
        "11.0.1.0/24",
        "11.0.1.7/32",
    ];
    nets.map(|net| net.parse().expect("a prefix")).into()
}

fn addresses() -> Vec<IpAddr> {
    let hosts = [0, 1, 2, 4, 5, 6, 9, 17, 263, 300, 70_000];
    hosts
        .map(|host| Ipv4Addr::from_bits(0x0b00_0000 + host).into())
        .into()
}

/// Far from all else, to make a list long.
fn others(count: u32) -> impl Iterator<Item = IpNet> {
    (0..count).map(|place| IpAddr::from(Ipv4Addr::from_bits(0xac10_0000 + place)).into())
}

fn some(dice: &mut Random, of: &[IpNet]) -> BTreeSet<IpNet> {
    of.iter().copied().filter(|_| dice.below(3) == 0).collect()
}

/// Runs a command to its end, or kills it after so long.
fn run(scene: &Scene, line: &str, killed: Option<Duration>) {
    let mut command = Command::new(sipguard());
    command.arg("--config").arg(scene.config());
    command.args(line.split_whitespace());
    let Some(after) = killed else {
        scene.gateway.run(&mut command).succeeded();
        return;
    };
    let process = scene.gateway.spawn(&mut command);
    thread::sleep(after);
    process.signal(Signal::KILL);
    process.wait();
    // What is left of it the next command finishes.
    scene.sipguard(["clock"]).succeeded();
}

#[test]
fn who_decides_is_who_should_after_whatever_happened() {
    const TURNS: usize = 120;
    sandbox(|sandbox| {
        let mut dice = Random::seeded();
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(CONFIG);
        let mut trunk = Found::name("trunk", "sip.provider.example");
        let mut blocked = Found::url("blocked", "https://feeds.example/voip.txt");
        scene.sipguard(["apply", "--offline"]).succeeded();
        trunk.all([]);
        blocked.all(others(40));
        scene.sipguard(["refresh", "--offline"]).succeeded();
        let mut model = Model::default();
        let (all, hosts) = (prefixes(), prefixes());
        let hosts: Vec<_> = hosts
            .into_iter()
            .filter(|net| net.prefix_len() == 32)
            .collect();
        for turn in 0..TURNS {
            let mut after = model.clone();
            let prefix = *dice.choose(&all);
            let line = match dice.below(10) {
                0 | 1 => {
                    after.names = some(&mut dice, &hosts);
                    trunk.all(after.names.iter().copied());
                    "refresh trunk --offline".to_owned()
                }
                2 | 3 => {
                    after.feed = some(&mut dice, &all);
                    let long = if dice.below(3) == 0 { 1_500 } else { 40 };
                    blocked.all(after.feed.iter().copied().chain(others(long)));
                    "refresh blocked trunk --offline --accept".to_owned()
                }
                4 | 5 => {
                    let allowed = dice.below(2) == 0;
                    after.hand.insert(prefix, allowed);
                    let word = if allowed { "allow" } else { "deny" };
                    format!("{word} {prefix}")
                }
                6 => match after.hand.pop_first() {
                    Some((prefix, _)) => format!("remove {prefix}"),
                    None => "clock".to_owned(),
                },
                7 => {
                    after.bans.insert(prefix);
                    format!("ban {prefix} --for never --by test")
                }
                8 => {
                    after.bans.remove(&prefix);
                    format!("unban {prefix}")
                }
                _ => {
                    let mode = if turn % 2 == 0 { "tc" } else { "native" };
                    let interface = format!("[[interface]]\nname = \"eth0\"\nmode = \"{mode}\"");
                    let config = CONFIG.replace("interfaces = [\"eth0\"]", &interface);
                    // What was taken back is not applied again until it is another text.
                    scene.configure(&format!("# {turn}\n{config}"));
                    let how = ["apply --offline", "apply --offline --confirm 60s"];
                    (*dice.choose(&how)).to_owned()
                }
            };
            let killed = dice.below(4) == 0;
            println!("{turn}: {line}{}", if killed { ", killed" } else { "" });
            let after_so_long = Duration::from_micros(dice.below(25_000) as u64);
            run(&scene, &line, killed.then_some(after_so_long));
            let is = |model: &Model| {
                let wrong = addresses().into_iter().find(|address| {
                    scene.passes("eth0", &address.to_string(), 5060) != model.passes(*address)
                });
                wrong.map_or(Ok(()), Err)
            };
            if killed {
                // Each source is what it was, or what it was to be.
                let mixed = |names: &Model, feed: &Model| Model {
                    names: names.names.clone(),
                    feed: feed.feed.clone(),
                    ..model.clone()
                };
                let possible = [
                    after.clone(),
                    model.clone(),
                    mixed(&after, &model),
                    mixed(&model, &after),
                ];
                let found = possible.iter().any(|model| is(model).is_ok());
                assert!(found, "turn {turn}, killed: {line}: {model:?} to {after:?}");
                // Packets need not tell how far it came. If it came to its end, there is nothing left of it to do.
                let _ = scene.sipguard(line.split_whitespace());
            }
            assert_eq!(is(&after), Ok(()), "turn {turn}: {line}: {after:?}");
            model = after;
            if line.contains("--confirm") {
                // Whether it was ever begun or not.
                let word = *dice.choose(&["confirm", "rollback"]);
                let _ = scene.sipguard([word]);
                assert_eq!(is(&model), Ok(()), "turn {turn}: {word}");
            }
        }
        // What the kernel holds is what is said: a comparison finds nothing to mend.
        let listed = scene.sipguard(["list", "--json"]).succeeded();
        assert!(!listed.stdout.contains("\"in_force\":false"), "{listed:?}");
    });
}
