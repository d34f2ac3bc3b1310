//! What one packet costs, over an empty program, in BPF_PROG_TEST_RUN: the program that `sipguard apply` has pinned, as it is.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{
    Effort,
    bpf::{Program, Source},
    frames,
    guard::{self, Mode},
    lists::{self, Prefix, UNLISTED},
};
use crate::netns::{End, Sandbox, join};

/// Two hosts of a network for documentation.
const TARGETS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 2)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2)),
];

const SIP: u16 = 5060;
const RTP: u16 = 16384;

/// One measured case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) filter: String,
    pub(super) case: String,
    pub(super) entries: usize,
    /// Nanoseconds a packet, best of several rounds.
    pub(super) ns: u32,
    /// The same, less the empty program's in this run.
    pub(super) ns_over_empty: i64,
    /// What is aimed at, over the empty program.
    pub(super) target: i64,
}

struct Case {
    name: String,
    frame: Vec<u8>,
    /// For small, 1,000, 100,000, 1,000,000 entries.
    targets: [i64; 4],
    random: Option<Source>,
    /// By the list by hand, 0, or banned, 1.
    program: usize,
}

pub(super) fn run(sandbox: &Sandbox, effort: &Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &entries in effort.micro_sizes {
        rows.extend(at(sandbox, effort, entries)?);
    }
    Ok(rows)
}

fn at(sandbox: &Sandbox, effort: &Effort, entries: usize) -> Result<Vec<Row>> {
    let (host, peer) = (sandbox.host(), sandbox.host());
    join(
        End {
            host: &host,
            interface: guard::INTERFACE,
            addresses: &[],
        },
        End {
            host: &peer,
            interface: guard::INTERFACE,
            addresses: &[],
        },
    );
    let list = lists::mixed(entries);
    let program = |listed: &[Prefix], banned: &[Prefix]| -> Result<Program> {
        let guard = guard::Guard::new(&lists::text(listed), Mode::Native)?;
        guard::ban(banned)?;
        let program = guard.program(&host);
        guard::ban(&[])?;
        program
    };
    let programs = [program(&list, &[])?, program(&[], &list)?];
    measure(effort, entries, &list, &programs)
}

/// Of programs with the list by hand, and with the list banned.
fn measure(
    effort: &Effort,
    entries: usize,
    list: &[Prefix],
    programs: &[Program; 2],
) -> Result<Vec<Row>> {
    let empty = Program::empty()?;
    let column = match entries {
        ..100 => 0,
        100..10_000 => 1,
        10_000..1_000_000 => 2,
        _ => 3,
    };
    let wrapped = |next| -> Result<_> {
        Ok([
            Program::random_source(Source::V4, next)?,
            Program::random_source(Source::V6, next)?,
        ])
    };
    let wrapped_empty = wrapped(&empty)?;
    let [by_hand, live] = programs;
    let wrapped_programs = [wrapped(by_hand)?, wrapped(live)?];
    let cases = cases(list);
    let mut best = vec![(u32::MAX, u32::MAX); cases.len()];
    // In turn, so that what slows the machine down for a while slows all of them down.
    for _ in 0..effort.micro_rounds {
        for (case, (limit, cost)) in cases.iter().zip(&mut best) {
            let (empty, sipguard) = match case.random {
                None => (&empty, &programs[case.program]),
                Some(source) => {
                    let family = usize::from(matches!(source, Source::V6));
                    (
                        &wrapped_empty[family],
                        &wrapped_programs[case.program][family],
                    )
                }
            };
            *limit = empty.time(&case.frame, effort.micro_repeat)?.min(*limit);
            *cost = sipguard.time(&case.frame, effort.micro_repeat)?.min(*cost);
        }
    }
    let plain = cases
        .iter()
        .zip(&best)
        .filter(|(case, _)| case.random.is_none());
    let limit = plain
        .map(|(_, (limit, _))| *limit)
        .min()
        .unwrap_or_default();
    let mut rows = vec![Row {
        filter: "empty".to_owned(),
        case: "any".to_owned(),
        entries,
        ns: limit,
        ns_over_empty: 0,
        target: 0,
    }];
    for (case, (own, cost)) in cases.into_iter().zip(best) {
        let limit = if case.random.is_some() { own } else { limit };
        rows.push(Row {
            filter: "sipguard".to_owned(),
            case: case.name,
            entries,
            ns: cost,
            ns_over_empty: i64::from(cost) - i64::from(limit),
            target: case.targets[column],
        });
    }
    Ok(rows)
}

fn cases(list: &[Prefix]) -> Vec<Case> {
    let frame = |source: IpAddr, port, tag| {
        let target = TARGETS[usize::from(source.is_ipv6())];
        frames::udp([[2; 6], [4; 6]], source, target, port, tag, &[])
    };
    let mut cases = Vec::new();
    let mut add = |name: &str, frame, targets, random| {
        cases.push(Case {
            name: name.to_owned(),
            frame,
            targets,
            random,
            program: 0,
        });
    };
    let [v4, v6] = UNLISTED;
    add(
        "drop, unlisted, IPv4",
        frame(v4, SIP, false),
        [12, 12, 12, 14],
        None,
    );
    add(
        "drop, unlisted, IPv4, random",
        frame(v4, SIP, false),
        [14, 14, 20, 40],
        Some(Source::V4),
    );
    add(
        "drop, unlisted, IPv4, tagged",
        frame(v4, SIP, true),
        [16, 16, 16, 18],
        None,
    );
    add(
        "drop, unlisted, IPv6",
        frame(v6, SIP, false),
        [20, 20, 20, 25],
        None,
    );
    add(
        "drop, unlisted, IPv6, random",
        frame(v6, SIP, false),
        [20, 20, 25, 45],
        Some(Source::V6),
    );
    add("pass, RTP, IPv4", frame(v4, RTP, false), [10; 4], None);
    add(
        "pass, RTP, IPv4, tagged",
        frame(v4, RTP, true),
        [14; 4],
        None,
    );
    add("pass, RTP, IPv6", frame(v6, RTP, false), [12; 4], None);
    for (length, targets) in [
        (32, [45, 50, 60, 80]),
        (29, [45, 50, 60, 80]),
        (24, [45, 50, 60, 80]),
        (128, [60, 70, 80, 110]),
        (64, [60, 70, 80, 110]),
        (48, [60, 70, 80, 110]),
    ] {
        let Some(prefix) = list.iter().find(|prefix| prefix.length == length) else {
            continue;
        };
        let source = prefix.host();
        let family = if source.is_ipv4() { "IPv4" } else { "IPv6" };
        let name = format!("pass, allowed, {family} by its /{length}");
        add(&name, frame(source, SIP, false), targets, None);
    }
    // The same of what moves by itself; where the list is asked for, the one by hand has been asked before.
    let banned: Vec<_> = cases
        .iter()
        .filter(|case| !case.name.starts_with("pass, RTP"))
        .map(|case| {
            let is_listed = case.name.starts_with("pass, allowed");
            let name = case.name.replace("pass, allowed", "drop, banned");
            Case {
                name: if is_listed {
                    name
                } else {
                    format!("{name}, live")
                },
                frame: case.frame.clone(),
                targets: if is_listed {
                    case.targets.map(|target| target + 15)
                } else {
                    case.targets
                },
                random: case.random,
                program: 1,
            }
        })
        .collect();
    cases.extend(banned);
    cases
}
