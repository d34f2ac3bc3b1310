//! Rule sets at random, for [`netfilter`](crate::netfilter): chains that jump and go to each other, sets, negations, marks, states, ports,
//! interfaces, verdict maps, several tables with priorities, both families.

use std::fmt::Write as _;

use crate::{netfilter::RuleSet, random::Random};

/// Prefixes that lie in and beside each other.
const V4: [&str; 11] = [
    "203.0.113.0/24",
    "203.0.113.64/26",
    "203.0.113.66/32",
    "203.0.113.128/25",
    "198.51.100.0/25",
    "198.51.100.10/32",
    "198.51.100.11/32",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "100.64.0.0/10",
    "128.0.0.0/1",
];
const V6: [&str; 6] = [
    "2001:db8:100::/48",
    "2001:db8:100:5::/64",
    "2001:db8:100::7/128",
    "2001:db8:bad::/48",
    "fd00::/8",
    "2000::/3",
];
const RANGES: [&str; 2] = ["203.0.113.60-203.0.113.70", "198.51.100.5-198.51.100.21"];
const RANGES6: [&str; 1] = ["2001:db8:100::5-2001:db8:100::9"];

/// Everything that generated rules name.
pub fn words() -> impl Iterator<Item = &'static str> {
    V4.into_iter().chain(V6).chain(RANGES).chain(RANGES6)
}

fn prefixes(v6: bool) -> &'static [&'static str] {
    if v6 { &V6 } else { &V4 }
}

/// A rule set for `iptables-restore`, `ip6tables-restore` and `ipset restore`.
pub fn iptables(random: &mut Random) -> RuleSet {
    let mut rules = RuleSet::default();
    let has_sets = random.below(2) == 0;
    if has_sets {
        rules.sets = ipsets(random);
    }
    rules.v4 = tables(random, false, has_sets);
    if random.below(2) == 0 {
        rules.v6 = tables(random, true, has_sets);
    }
    rules
}

fn ipsets(random: &mut Random) -> Vec<String> {
    let mut lines = Vec::new();
    for v6 in [false, true] {
        let suffix = if v6 { "6" } else { "4" };
        let family = if v6 { "inet6" } else { "inet" };
        for (name, kind) in [
            ("net", "hash:net"),
            ("more", "hash:net"),
            ("port", "hash:net,port"),
        ] {
            lines.push(format!("create {name}{suffix} {kind} family {family}"));
            for _ in 0..=random.below(4) {
                let prefix = *random.choose(prefixes(v6));
                let line = if kind == "hash:net" {
                    format!("add {name}{suffix} {prefix}")
                } else {
                    let protocol = *random.choose(&["udp", "tcp"]);
                    let port = *random.choose(&["5060", "5061", "80"]);
                    format!("add {name}{suffix} {prefix},{protocol}:{port}")
                };
                // ipset refuses what is there already.
                if !lines.iter().any(|known| known.starts_with(&line)) {
                    let except = kind == "hash:net" && random.below(4) == 0;
                    lines.push(line + if except { " nomatch" } else { "" });
                }
            }
        }
        lines.push(format!("create seen{suffix} hash:ip family {family}"));
        lines.push(format!("create both{suffix} list:set"));
        lines.push(format!("add both{suffix} net{suffix}"));
        lines.push(format!("add both{suffix} more{suffix}"));
    }
    lines.push("create ports bitmap:port range 0-65535".to_owned());
    lines.push(format!(
        "add ports {}",
        random.choose(&["5060-5061", "80", "5060"])
    ));
    lines
}

fn tables(random: &mut Random, v6: bool, has_sets: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut table = |name: &str, chains: &[&str], count: usize, random: &mut Random| {
        lines.push(format!("*{name}"));
        for chain in chains {
            let drops = name == "filter" && random.below(3) > 0;
            let policy = if drops { "DROP" } else { "ACCEPT" };
            lines.push(format!(":{chain} {policy} [0:0]"));
        }
        let own = random.below(5);
        for number in 0..own {
            lines.push(format!(":c{number} - [0:0]"));
        }
        for chain in chains
            .iter()
            .copied()
            .map(|chain| (chain.to_owned(), 0))
            .chain((0..own).map(|number| (format!("c{number}"), number + 1)))
        {
            let (chain, next) = chain;
            if chain == "INPUT" && name == "filter" && random.below(2) == 0 {
                // Somebody who may come in, as there is in most of them.
                let prefix = *random.choose(prefixes(v6));
                lines.push(format!(
                    "-A INPUT -s {prefix} -p udp -m udp --dport 5060 -j ACCEPT"
                ));
            }
            for _ in 0..=random.below(count) {
                let rule = iptables_rule(random, v6, has_sets, name, next..own);
                lines.push(format!("-A {chain}{rule}"));
            }
        }
        lines.push("COMMIT".to_owned());
    };
    if random.below(4) == 0 {
        table("raw", &["PREROUTING"], 2, random);
    }
    if random.below(3) == 0 {
        table("mangle", &["PREROUTING", "INPUT"], 3, random);
    }
    if random.below(6) == 0 {
        table("nat", &["PREROUTING"], 2, random);
    }
    table("filter", &["INPUT"], 7, random);
    lines
}

/// ` MATCHES -j TARGET`.
#[expect(clippy::too_many_lines, reason = "one row a match")]
fn iptables_rule(
    random: &mut Random,
    v6: bool,
    has_sets: bool,
    table: &str,
    chains: std::ops::Range<usize>,
) -> String {
    let mut rule = String::new();
    let not = |random: &mut Random| if random.below(4) == 0 { "! " } else { "" };
    if random.below(2) == 0 {
        let prefix = *random.choose(prefixes(v6));
        let _ = write!(rule, " {}-s {prefix}", not(random));
    }
    if random.below(4) == 0 {
        let name = *random.choose(&["eth0", "eth0", "eth+", "lo", "eth1"]);
        let _ = write!(rule, " {}-i {name}", not(random));
    }
    let mut tcp = false;
    if random.below(3) > 0 {
        let protocol = *random.choose(&["udp", "udp", "tcp"]);
        tcp = protocol == "tcp";
        let _ = write!(rule, " -p {protocol}");
        match random.below(6) {
            0 => {}
            1 => {
                let ports =
                    *random.choose(&["5060,5061", "80,5060:5070,10000:20000", "5061,50600"]);
                let _ = write!(rule, " -m multiport {}--dports {ports}", not(random));
            }
            2 => {
                let _ = write!(rule, " -m {protocol} --dport 5060:5061");
            }
            _ => {
                let port = *random.choose(&["5060", "5061", "50600", "80", "10000:20000"]);
                let _ = write!(rule, " -m {protocol} {}--dport {port}", not(random));
            }
        }
        if random.below(8) == 0 {
            let ports = *random.choose(&["1024:65535", "5060", "0:1023"]);
            let _ = write!(rule, " -m {protocol} --sport {ports}");
        }
        if tcp && random.below(4) == 0 {
            rule += *random.choose(&[" --syn", " ! --syn", " --tcp-flags ALL NONE"]);
        }
    }
    for _ in 0..random.below(3) {
        match random.below(20) {
            0..=3 => {
                let states = *random.choose(&[
                    "NEW",
                    "RELATED,ESTABLISHED",
                    "INVALID",
                    "NEW,ESTABLISHED",
                    "UNTRACKED",
                ]);
                let not = not(random);
                let _ = if random.below(2) == 0 && states != "UNTRACKED" {
                    write!(rule, " -m state {not}--state {states}")
                } else {
                    write!(rule, " -m conntrack {not}--ctstate {states}")
                };
            }
            4..=6 => {
                let mark = *random.choose(&["0x1", "0x1/0x1", "0x2/0x3", "0x0/0x1", "0x10/0xf0"]);
                let _ = write!(rule, " -m mark {}--mark {mark}", not(random));
            }
            7 => {
                let mark = *random.choose(&["0x1", "0x0/0x1"]);
                let _ = write!(rule, " -m connmark {}--mark {mark}", not(random));
            }
            8..=10 if has_sets => {
                let suffix = if v6 { "6" } else { "4" };
                let (name, directions) = *random.choose(&[
                    ("net", "src"),
                    ("more", "src"),
                    ("seen", "src"),
                    ("both", "src"),
                    ("port", "src,dst"),
                    ("ports", "dst"),
                ]);
                let suffix = if name == "ports" { "" } else { suffix };
                let _ = write!(
                    rule,
                    " -m set {}--match-set {name}{suffix} {directions}",
                    not(random)
                );
            }
            11 => {
                let range = if v6 {
                    RANGES6[0]
                } else {
                    *random.choose(&RANGES)
                };
                let _ = write!(rule, " -m iprange {}--src-range {range}", not(random));
            }
            12 => {
                let kind = *random.choose(&["--dst-type LOCAL", "--dst-type MULTICAST"]);
                let _ = write!(rule, " -m addrtype {}{kind}", not(random));
            }
            13 if !v6 => {
                let _ = write!(rule, " -m pkttype {}--pkt-type unicast", not(random));
            }
            14 => rule += " -m limit --limit 10000/sec --limit-burst 10000",
            15 => {
                rule += " -m hashlimit --hashlimit-above 9000/sec --hashlimit-burst 9000 --hashlimit-mode srcip --hashlimit-name h";
            }
            16 => rule += " -m statistic --mode random --probability 0.5",
            17 => rule += " -m string --algo bm --string friendly-scanner",
            18 => {
                let _ = write!(rule, " -m length {}--length 0:20", not(random));
            }
            _ => rule += " -m comment --comment \"some of them -j DROP\"",
        }
    }
    rule += &iptables_target(random, v6, has_sets, table, &chains, tcp);
    rule
}

fn iptables_target(
    random: &mut Random,
    v6: bool,
    has_sets: bool,
    table: &str,
    chains: &std::ops::Range<usize>,
    tcp: bool,
) -> String {
    if !chains.is_empty() && random.below(3) == 0 {
        let chain = chains.start + random.below(chains.len());
        let word = *random.choose(&["-j", "-j", "-g"]);
        return format!(" {word} c{chain}");
    }
    let marks = [
        "MARK --set-xmark 0x1/0xffffffff",
        "MARK --set-xmark 0x2/0x3",
        "MARK --or-mark 0x10",
        "MARK --and-mark 0xfffffffe",
        "MARK --xor-mark 0x1",
        "CONNMARK --set-mark 0x1",
        "CONNMARK --save-mark",
        "CONNMARK --restore-mark",
    ];
    match (table, random.below(12)) {
        ("raw", 0..=2) => " -j CT --notrack".to_owned(),
        ("nat", 0..=3) if tcp => " -j REDIRECT --to-ports 5061".to_owned(),
        ("raw" | "mangle", 3..=7) => format!(" -j {}", random.choose(&marks)),
        ("nat", _) | ("raw" | "mangle", 8..=10) | ("filter", 0..=3) => " -j ACCEPT".to_owned(),
        ("filter", 4..=6) => " -j DROP".to_owned(),
        ("filter", 7) => " -j REJECT".to_owned(),
        (_, 8) => " -j RETURN".to_owned(),
        (_, 9) => format!(" -j {}", random.choose(&marks[..5])),
        (_, 10) if has_sets => {
            let suffix = if v6 { "6" } else { "4" };
            // Into one of hosts: one of networks takes in the whole network around.
            format!(" -j SET --add-set seen{suffix} src --exist")
        }
        _ => String::new(),
    }
}

/// A rule set for `nft -f`.
pub fn nftables(random: &mut Random) -> RuleSet {
    let mut lines = Vec::new();
    for number in 0..=random.below(3) {
        let family = if number == 0 {
            "inet"
        } else {
            *random.choose(&["ip", "ip6", "inet"])
        };
        table(random, family, number, &mut lines);
    }
    RuleSet {
        nft: lines,
        ..RuleSet::default()
    }
}

fn table(random: &mut Random, family: &str, number: usize, lines: &mut Vec<String>) {
    lines.push(format!("table {family} t{number} {{"));
    if family != "ip6" {
        set(random, "nets", false, lines);
        set(random, "more", false, lines);
        lines.push("map verdicts { type ipv4_addr : verdict; flags interval; elements = { 203.0.113.66 : drop, 198.51.100.0/25 : accept } }".to_owned());
        lines.push("set pairs { type ipv4_addr . inet_service; flags interval; elements = { 203.0.113.0/24 . 5060-5061, 198.51.100.10 . 80 } }".to_owned());
    }
    if family != "ip" {
        set(random, "nets6", true, lines);
    }
    lines.push(
        "set dports { type inet_service; flags interval; elements = { 5060-5061, 50600 } }"
            .to_owned(),
    );
    let chains = random.below(4);
    for chain in (0..chains).rev() {
        // Chains must be there before rules that name them.
        lines.push(format!("chain c{chain} {{"));
        for _ in 0..=random.below(4) {
            let rule = nft_rule(random, family, "filter", chain + 1..chains);
            lines.push(rule);
        }
        lines.push("}".to_owned());
    }
    for base in 0..=random.below(2) {
        let (hook, priority) = match random.below(6) {
            0 => ("prerouting", *random.choose(&["raw", "mangle", "-190"])),
            1 => ("input", *random.choose(&["-10", "filter - 1"])),
            2 => ("input", "filter + 10"),
            _ => ("input", "filter"),
        };
        // Several chains that drop leave nobody.
        let policy = if hook == "input" && number == 0 && base == 0 && random.below(4) > 0 {
            "drop"
        } else {
            "accept"
        };
        lines.push(format!("chain base{base} {{"));
        lines.push(format!(
            "type filter hook {hook} priority {priority}; policy {policy};"
        ));
        if hook == "input" && family != "ip6" && random.below(2) == 0 {
            let prefix = *random.choose(&V4[..10]);
            lines.push(format!("ip saddr {prefix} udp dport 5060 accept"));
        }
        for _ in 0..2 + random.below(6) {
            let rule = nft_rule(random, family, hook, 0..chains);
            lines.push(rule);
        }
        lines.push("}".to_owned());
    }
    lines.push("}".to_owned());
}

fn set(random: &mut Random, name: &str, v6: bool, lines: &mut Vec<String>) {
    let kind = if v6 { "ipv6_addr" } else { "ipv4_addr" };
    // Prefixes that don't overlap.
    let choices: &[&str] = if v6 {
        &["2001:db8:100::/48", "2001:db8:bad::/48", "fd00::/8"]
    } else {
        &[
            "203.0.113.0/24",
            "198.51.100.10",
            "198.51.100.4-198.51.100.7",
            "10.0.0.0/8",
            "100.64.0.0/10",
        ]
    };
    let mut elements: Vec<&str> = choices
        .iter()
        .copied()
        .filter(|_| random.below(2) == 0)
        .collect();
    if elements.is_empty() {
        elements.push(choices[0]);
    }
    lines.push(format!(
        "set {name} {{ type {kind}; flags interval; elements = {{ {} }} }}",
        elements.join(", ")
    ));
}

#[expect(clippy::too_many_lines, reason = "one row a match")]
fn nft_rule(
    random: &mut Random,
    family: &str,
    hook: &str,
    chains: std::ops::Range<usize>,
) -> String {
    let mut rule = String::new();
    let not = |random: &mut Random| if random.below(4) == 0 { "!= " } else { "" };
    // A rule is about one family and one protocol, or nft refuses it.
    let v6 = family == "ip6" || (family == "inet" && random.below(3) == 0);
    let (has4, has6) = (!v6, v6);
    let protocol = *random.choose(&["udp", "udp", "tcp", "th"]);
    let mut l4 = if protocol == "th" {
        "meta l4proto { tcp, udp } "
    } else {
        ""
    };
    for _ in 0..=random.below(3) {
        match random.below(22) {
            0..=3 if has4 => {
                let prefix = *random.choose(&V4[..10]);
                let _ = write!(rule, "ip saddr {}{prefix} ", not(random));
            }
            4 if has4 => {
                let set = *random.choose(&[
                    "@nets",
                    "@more",
                    "{ 203.0.113.66, 198.51.100.4-198.51.100.20 }",
                ]);
                let _ = write!(rule, "ip saddr {}{set} ", not(random));
            }
            5 | 6 if has6 => {
                let prefix = *random.choose(&["@nets6", "2001:db8:100::/48", "2001:db8:bad::/48"]);
                let _ = write!(rule, "ip6 saddr {}{prefix} ", not(random));
            }
            7..=9 => {
                rule += std::mem::take(&mut l4);
                let ports = *random.choose(&[
                    "5060",
                    "5061",
                    "80",
                    "{ 5060, 10000-20000 }",
                    "5060-5061",
                    "@dports",
                ]);
                let _ = write!(rule, "{protocol} dport {}{ports} ", not(random));
            }
            10 => {
                rule += std::mem::take(&mut l4);
                let _ = write!(rule, "{protocol} dport {}{{ 80, 5060 }} ", not(random));
            }
            11 => {
                let name =
                    *random.choose(&["\"eth0\"", "\"eth*\"", "\"lo\"", "{ \"eth0\", \"eth1\" }"]);
                let _ = write!(rule, "iifname {}{name} ", not(random));
            }
            12 | 13 => {
                let states = *random.choose(&[
                    "new",
                    "established,related",
                    "{ established, related, new }",
                    "invalid",
                ]);
                let _ = write!(rule, "ct state {}{states} ", not(random));
            }
            14 | 15 => {
                rule += *random.choose(&[
                    "meta mark 0x1 ",
                    "meta mark & 0x2 == 0x2 ",
                    "meta mark != 0x0 ",
                    "meta mark { 0x1, 0x3 } ",
                ]);
            }
            16 => {
                rule += *random.choose(&[
                    "fib daddr type local ",
                    "fib saddr . iif oif missing ",
                    "meta pkttype host ",
                    match (family, v6) {
                        ("inet", true) => "meta nfproto ipv6 ",
                        ("inet", false) => "meta nfproto ipv4 ",
                        (_, true) => "meta protocol ip6 ",
                        (_, false) => "meta protocol ip ",
                    },
                ]);
            }
            17 if protocol == "tcp" => rule += "tcp flags & (fin | syn | rst | ack) == syn ",
            18 => {
                rule += std::mem::take(&mut l4);
                rule += protocol;
                rule += *random.choose(&[" sport 1024-65535 ", " sport 5060 ", " sport != 22 "]);
            }
            19 if has4 && protocol == "th" => {
                rule += std::mem::take(&mut l4);
                let _ = write!(rule, "ip saddr . th dport {}@pairs ", not(random));
            }
            20 => rule += "limit rate 9000/second burst 9000 packets ",
            _ => {
                rule +=
                    *random.choose(&["numgen random mod 2 == 0 ", "meta length < 20 ", "counter "]);
            }
        }
    }
    if !chains.is_empty() && random.below(3) == 0 {
        let chain = chains.start + random.below(chains.len());
        let word = *random.choose(&["jump", "jump", "goto"]);
        return format!("{rule}{word} c{chain}");
    }
    let jump = if chains.is_empty() {
        "accept".to_owned()
    } else {
        format!("jump c{}", chains.start + random.below(chains.len()))
    };
    rule + &match random.below(16) {
        0..=3 => "accept".to_owned(),
        4..=6 => "drop".to_owned(),
        7 if hook == "input" => "reject".to_owned(),
        8 => "return".to_owned(),
        9 => "meta mark set 0x1".to_owned(),
        10 => {
            let set = *random.choose(&[
                "meta mark set meta mark | 0x2",
                "meta mark set meta mark & 0xfffffffe",
                "meta mark set meta mark ^ 0x1 accept",
                "ct mark set 0x1",
            ]);
            set.to_owned()
        }
        11 if protocol == "udp" => {
            format!("udp dport vmap {{ 5060 : {jump}, 5061 : drop, 10000-20000 : accept }}")
        }
        12 if has4 => "ip saddr vmap @verdicts".to_owned(),
        13 if protocol == "th" => format!("meta l4proto vmap {{ udp : {jump}, tcp : return }}"),
        14 => format!("ct state vmap {{ established : accept, new : {jump}, invalid : drop }}"),
        15 => "counter comment \"counted; { not } read\"".to_owned(),
        _ => "continue".to_owned(),
    }
}
