//! `check --pcap --explain` says what Linux would do with a packet that sipguard did not stop. A stack without a filter gets each of them, and
//! does so: rows of the verdict table, and packets that nobody thought of.

use std::{
    fs, iter,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use serde_json::Value;
use sipguard_ebpf::abi::LinkKind;
use sipguard_tests::{
    capture_file::{CaptureFile, Format, Order},
    differential::{
        CONFIG, Carrier, Case, Delivery, Mutation, OPEN, Recipe, Transport, Way, World,
    },
    frame::{GATEWAY_V4, GATEWAY_V6},
    netns::{SCRATCH, Sandbox, sandbox, stay_on_this_cpu},
    random::Random,
    verdict_table::{Config, rows},
};

/// So many of those that nobody thought of.
const CHANGED: usize = 600;
/// Everybody in the network of the receiver.
const NETWORK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 255);

#[test]
fn what_linux_would_do_is_what_it_does() {
    sandbox(|sandbox| {
        stay_on_this_cpu();
        let mut world = World::new(sandbox, Carrier::Cable);
        println!("{}", world.ways);
        // Answers to a neighbour go to that one itself.
        world
            .receiver
            .ip("neighbour add 192.0.2.99 lladdr 02:00:00:00:00:02 dev eth0");
        let frames = frames();
        let said = said(sandbox, &mut world, &frames);
        let mut wrong = Vec::new();
        let (mut certain, mut arrived) = (0, 0);
        for (sent, said) in frames.iter().zip(&said) {
            let delivered = world.deliver(iter::once(sent.frame.as_slice()));
            let mut claim = Claim::of(said, &world);
            if claim == Claim::Delivered(Transport::Tcp) && !sent.is_answered {
                claim = Claim::Perhaps(Transport::Tcp);
            }
            if !claim.holds(&delivered) {
                let Sent { name, frame, .. } = sent;
                wrong.push(format!("{name}: {said}\n  {delivered:?}\n  {frame:02x?}"));
            }
            certain += u32::from(!matches!(claim, Claim::Perhaps(_)));
            arrived += u32::from(matches!(claim, Claim::Delivered(_)));
        }
        let all = frames.len();
        println!("{certain} of {all} are certain, {arrived} of these arrive");
        assert!(
            wrong.is_empty(),
            "{} of {all}\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        assert!(certain > 1500 && arrived > 200);
    });
}

struct Sent {
    name: String,
    frame: Vec<u8>,
    /// Where it is of TCP and arrives: it asks for a connection.
    is_answered: bool,
}

fn frames() -> Vec<Sent> {
    let rows = rows()
        .into_iter()
        .filter(|row| row.link == LinkKind::Ethernet && row.config == Config::Usual);
    // What is longer no cable carries.
    let mut frames: Vec<_> = rows
        .filter(|row| (14..1500).contains(&row.frame.len()))
        .map(|row| Sent {
            name: row.name,
            frame: row.frame,
            is_answered: true,
        })
        .collect();
    let mut random = Random::seeded();
    let cases =
        (0..).map(|identity| Case::new(Recipe::new(random.number(), Carrier::Cable), identity));
    // Whose Ethernet address it is, no capture knows.
    let single = cases.filter(
        |case| matches!(&case.frames[..], [frame] if frame.starts_with(&[0x02, 0, 0, 0, 0, 0x01])),
    );
    frames.extend(single.take(CHANGED).map(|case| {
        let flags = [Mutation::Flags, Mutation::Byte, Mutation::Random];
        Sent {
            name: format!("{:?}", case.recipe),
            frame: case.frames.concat(),
            is_answered: !flags.iter().any(|it| case.recipe.has(*it)),
        }
    }));
    frames
}

fn said(_: &Sandbox, world: &mut World, frames: &[Sent]) -> Vec<String> {
    let [config, path] = ["explain.toml", "explain.pcap"].map(|name| Path::new(SCRATCH).join(name));
    fs::write(&config, CONFIG).expect("there is room");
    let mut capture = CaptureFile::new(Format::Micro, Order::Little, 1);
    for sent in frames {
        capture.add(&sent.frame);
    }
    fs::write(&path, capture.bytes()).expect("there is room");
    let [config, path] = [config, path].map(|it| it.to_string_lossy().into_owned());
    (1..=frames.len())
        .map(|number| {
            let words = [
                "check",
                "--config",
                &config,
                "--pcap",
                &path,
                "--json",
                "--explain",
                &number.to_string(),
            ];
            let told = world.receiver.sipguard(words).succeeded().stdout;
            let told: Value = serde_json::from_str(&told).expect("JSON");
            told["linux"].as_str().expect("a sentence").to_owned()
        })
        .collect()
}

/// What a sentence says, as far as it can be seen.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    Delivered(Transport),
    /// Where something else holds that can't be seen here.
    Perhaps(Transport),
    Nothing,
}

impl Claim {
    fn of(said: &str, world: &World) -> Self {
        let thrown = [
            "thrown away",
            "kept until",
            "handed to whoever takes such frames",
        ];
        if thrown.iter().any(|begin| said.starts_with(begin)) {
            return Self::Nothing;
        }
        let Some(rest) = said.strip_prefix("handed to whoever has ") else {
            assert!(said.starts_with("taken in for "), "{said}");
            return Self::Nothing;
        };
        let (what, conditions) = rest.split_once(", if ").unwrap_or((rest, ""));
        let conditions = conditions.trim_end_matches(", and routed on if it routes");
        let words: Vec<_> = what.split(' ').collect();
        let [
            "TCP" | "UDP" | "UDP-Lite" | "SCTP",
            "port",
            port,
            "of",
            to,
            "open",
        ] = words[..]
        else {
            panic!("{said}");
        };
        let port: u16 = port.parse().expect("a port");
        let to: IpAddr = to.parse().expect("an address");
        let mut devices = Vec::new();
        let mut is_certain = true;
        for condition in conditions
            .split(" and ")
            .filter(|condition| !condition.is_empty())
        {
            if let Some((_, device)) = condition.split_once("there is a device for VLAN ") {
                devices.push(device);
            } else if condition == "that is an address of this host" {
                // Of the network that it is in, the last one is everybody's.
                if to == NETWORK {
                    is_certain = false;
                } else if to != GATEWAY_V4 && to != GATEWAY_V6 {
                    return Self::Nothing;
                }
            } else if condition.starts_with("PPPoE session ") && !world.ways.has(Way::Session) {
                return Self::Nothing;
            } else {
                is_certain = false;
            }
        }
        let known = [
            &[][..],
            &["7"],
            &["7 (802.1ad)"],
            &["7", "8"],
            &["7 (802.1ad)", "8"],
        ];
        if !known.contains(&devices.as_slice()) || !devices.is_empty() && !world.ways.has(Way::Vlan)
        {
            return Self::Nothing;
        }
        let transport = match words[0] {
            // A port that nobody listens on answers, too.
            "TCP" => Transport::Tcp,
            _ if !OPEN.contains(&port) => return Self::Nothing,
            "UDP" => Transport::Udp,
            "UDP-Lite" => Transport::UdpLite,
            _ => Transport::Sctp,
        };
        if is_certain {
            Self::Delivered(transport)
        } else {
            Self::Perhaps(transport)
        }
    }

    fn holds(&self, delivered: &[Delivery]) -> bool {
        match self {
            Self::Delivered(transport) => delivered.iter().map(|it| it.transport).eq([*transport]),
            Self::Nothing => delivered.is_empty(),
            Self::Perhaps(transport) => delivered.iter().all(|it| it.transport == *transport),
        }
    }
}
