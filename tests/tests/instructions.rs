//! How many instructions of byte code a packet of each class takes, and how many calls of the kernel's helpers.
//!
//! These are instructions as they are compiled: the kernel leaves out what the policy's constants rule out, and reads arrays in line.
//! No machine and no load changes them, but a compiler may. A change that fails here makes the packet path dearer: it needs a reason, and
//! new figures from `cargo test -p sipguard-tests --test instructions -- --nocapture`.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    path::Path,
};

use aya_obj::{
    Object, Program,
    generated::{self as bpf, bpf_func_id, bpf_insn},
};
use sipguard::{
    config,
    datapath::object_bytes,
    events::{Event, Names},
    policy::Action,
    prefix,
};
use sipguard_ebpf::{
    abi::{
        LinkKind, Protocol,
        Reason::{
            self, Allowed, Denied, Fragment, Malformed, None as Unguarded, Open, TooDeep, Unlisted,
        },
    },
    event::{DROPS, GRANT_LASTS, Grant, Record},
};
use sipguard_tests::{
    byte_code::{ByteCode, Filtered},
    compiled::{Compiled, NOW},
    frame::{Frame, Link, bare, eth},
    reference::{Banned, Own, Verdict},
};

/// The figures are those of rustc 1.96 with LLVM 22. This is what another compiler may add, in per cent. A call more is never let through.
const HEADROOM: u32 = 5;

/// Prefixes of three lengths in each family, longest first, and one that is denied within.
const CONFIG: &str = r#"
[sources]
listed = ["198.51.100.7", "198.18.0.8/29", "203.0.113.0/24", "2001:db8:7::7", "2001:db9:8::/64", "2001:dba:9::/48"]
blocked = ["203.0.113.66", "2001:dba:9::66"]

[services.sip]
udp = [5060, 5061, 50600]
tcp = [5060, 5061, 50600]
allow = ["listed"]
deny = ["blocked"]

[services.blocklist]
udp = [4000]
default = "allow"
"#;

/// Sources of one family.
struct Sources {
    unlisted: &'static str,
    /// By the longest prefix, the next shorter one, the shortest.
    allowed: [&'static str; 3],
    denied: &'static str,
    timed: &'static str,
}

const V4: Sources = Sources {
    unlisted: "192.0.2.7",
    allowed: ["198.51.100.7", "198.18.0.9", "203.0.113.7"],
    denied: "203.0.113.66",
    timed: "192.0.3.9",
};
const V6: Sources = Sources {
    unlisted: "2001:dbb::7",
    allowed: ["2001:db8:7::7", "2001:db9:8::7", "2001:dba:9::7"],
    denied: "2001:dba:9::66",
    timed: "2001:dbc::9",
};

/// Packets that take the same way through the program.
struct Class {
    name: &'static str,
    frame: Frame,
    reason: Reason,
    /// How many bytes can be read directly, if not all.
    first: Option<usize>,
    instructions: u32,
    /// Calls of helpers: a look-up in the prefilter, one more for each length in use down to the entry's, its service's lengths, the entry,
    /// the counter; the clock where an entry is timed; the frame's length where the packet's end is not known; reading the other pieces.
    calls: usize,
}

#[rustfmt::skip]
fn classes() -> Vec<Class> {
    let class = |name, frame, reason, instructions, calls| Class { name, frame, first: None, reason, instructions, calls };
    let in_pieces = |class| Class { first: Some(14), ..class };
    let headers = eth().ip(V6.unlisted).hop_by_hop(8).destination(16).routing(8);
    vec![
        class("ARP", eth().arp(), Unguarded, 47, 0),
        class("ICMP, IPv4", eth().ip(V4.unlisted).icmp(), Unguarded, 145, 0),
        class("ICMP, IPv6", eth().ip(V6.unlisted).icmp_v6(), Unguarded, 136, 0),
        class("RTP, IPv4", eth().ip(V4.unlisted).udp(16_384), Unguarded, 30, 0),
        class("RTP, IPv4, tagged", eth().vlan(7).ip(V4.unlisted).udp(16_384), Unguarded, 39, 0),
        class("RTP, IPv4, no Ethernet", bare().ip(V4.unlisted).udp(16_384), Unguarded, 134, 0),
        class("RTP, IPv6", eth().ip(V6.unlisted).udp(16_384), Unguarded, 30, 0),
        class("RTP, IPv6, tagged", eth().vlan(7).ip(V6.unlisted).udp(16_384), Unguarded, 39, 0),
        class("RTP, IPv6, no Ethernet", bare().ip(V6.unlisted).udp(16_384), Unguarded, 125, 0),
        class("later fragment, IPv4", eth().ip(V4.unlisted).fragment(185, false).payload(&[0; 64]), Fragment, 225, 3),
        class("later fragment, IPv6", eth().ip(V6.unlisted).fragment(185, false).payload(&[0; 64]), Fragment, 328, 3),
        class("first fragment, IPv4, unlisted", eth().ip(V4.unlisted).fragment(0, true).udp(5060), Unlisted, 348, 5),
        class("first fragment, IPv6, unlisted", eth().ip(V6.unlisted).fragment(0, true).udp(5060), Unlisted, 475, 5),
        class("malformed, IPv4", eth().ip(V4.unlisted).ihl(4).udp(5060), Malformed, 118, 2),
        class("malformed, IPv6", eth().ip(V6.unlisted).udp(5060).cut(56), Malformed, 172, 3),
        class("five tags", (0..5).fold(eth(), Frame::vlan).ip(V4.unlisted).udp(5060), TooDeep, 141, 2),
        class("unlisted, IPv4", eth().ip(V4.unlisted).udp(5060), Unlisted, 101, 2),
        class("unlisted, IPv4, TCP", eth().ip(V4.unlisted).tcp(5060), Unlisted, 101, 2),
        class("unlisted, IPv4, options", eth().ip(V4.unlisted).options(8).udp(5060), Unlisted, 236, 2),
        class("unlisted, IPv4, tagged", eth().vlan(7).ip(V4.unlisted).udp(5060), Unlisted, 110, 2),
        class("unlisted, IPv4, two tags", eth().service_tag(8).vlan(7).ip(V4.unlisted).udp(5060), Unlisted, 261, 2),
        class("unlisted, IPv4, PPPoE", eth().pppoe().ip(V4.unlisted).udp(5060), Unlisted, 272, 2),
        class("unlisted, IPv4, no Ethernet", bare().ip(V4.unlisted).udp(5060), Unlisted, 219, 2),
        class("unlisted, IPv6", eth().ip(V6.unlisted).udp(5060), Unlisted, 101, 2),
        class("unlisted, IPv6, tagged", eth().vlan(7).ip(V6.unlisted).udp(5060), Unlisted, 109, 2),
        class("unlisted, IPv6, three extension headers", headers.udp(5060), Unlisted, 456, 2),
        class("unlisted, IPv6, no Ethernet", bare().ip(V6.unlisted).udp(5060), Unlisted, 209, 2),
        class("open, IPv4", eth().ip(V4.unlisted).udp(4000), Open, 103, 2),
        class("allowed, IPv4, by its /32", eth().ip(V4.allowed[0]).udp(5060), Allowed, 191, 5),
        class("allowed, IPv4, by its /29", eth().ip(V4.allowed[1]).udp(5060), Allowed, 244, 6),
        class("allowed, IPv4, by its /24", eth().ip(V4.allowed[2]).udp(5060), Allowed, 297, 7),
        class("allowed, IPv4, by its /24, tagged", eth().vlan(7).ip(V4.allowed[2]).udp(5060), Allowed, 306, 7),
        class("allowed, IPv6, by its /128", eth().ip(V6.allowed[0]).udp(5060), Allowed, 241, 5),
        class("allowed, IPv6, by its /64", eth().ip(V6.allowed[1]).udp(5060), Allowed, 314, 6),
        class("allowed, IPv6, by its /48", eth().ip(V6.allowed[2]).udp(5060), Allowed, 388, 7),
        class("denied, IPv4", eth().ip(V4.denied).udp(5060), Denied, 187, 5),
        class("denied, IPv6", eth().ip(V6.denied).udp(5060), Denied, 239, 5),
        class("allowed for a while, IPv4", eth().ip(V4.timed).udp(5060), Allowed, 193, 6),
        class("allowed for a while, IPv6", eth().ip(V6.timed).udp(5060), Allowed, 243, 6),
        in_pieces(class("RTP, IPv4, in pieces", eth().ip(V4.unlisted).udp(16_384), Unguarded, 159, 2)),
        in_pieces(class("RTP, IPv6, in pieces", eth().ip(V6.unlisted).udp(16_384), Unguarded, 151, 2)),
        in_pieces(class("unlisted, IPv4, in pieces", eth().ip(V4.unlisted).udp(5060), Unlisted, 246, 5)),
        in_pieces(class("unlisted, IPv6, in pieces", eth().ip(V6.unlisted).udp(5060), Unlisted, 237, 5)),
    ]
}

/// Of what people have written alone.
fn compiled() -> Compiled {
    with_bans(CONFIG, &[])
}

fn with_bans(config: &str, banned: &[(&str, Option<u64>)]) -> Compiled {
    let policy = config::parse(config, Path::new("classes.toml"));
    let own = [V4, V6].map(|family| Own {
        prefix: family.timed.parse::<IpAddr>().expect("an address").into(),
        service: 0,
        action: Action::Allow,
        until: Some(NOW.boot_ns + MINUTE),
    });
    let bans = banned.iter().map(|&(prefix, until)| Banned {
        prefix: prefix::parse(prefix).expect("a prefix"),
        until,
    });
    let policy = policy.unwrap_or_else(|problems| panic!("{problems}"));
    Compiled::said(policy, own.into(), bans.collect())
}

/// In nanoseconds.
const MINUTE: u64 = 60_000_000_000;

/// What moves by itself, beside [`CONFIG`]: of three lengths in each family, one of them within what is allowed by hand.
const BANS: [(&str, Option<u64>); 9] = [
    ("198.19.0.9", None),
    ("198.19.0.10", Some(NOW.boot_ns + MINUTE)),
    ("198.19.3.0/24", None),
    ("198.51.100.7", None),
    ("203.0.112.0/23", None),
    ("2001:dbd::9", None),
    ("2001:dbd::10", Some(NOW.boot_ns + MINUTE)),
    ("2001:dbe:1::/64", None),
    ("2001:dba::/44", None),
];

/// A service that was opened to everybody by hand.
const OPENED: &str = r#"
[services.opened]
udp = [4001]
allow = ["everybody"]
"#;

/// With [`BANS`]. What an entry by hand decides, and what nobody lists, costs what it costs without; behind it are one more look-up of the lengths
/// and the markers of the live ones, and one of the lengths and the entry where something is said of `any`.
#[rustfmt::skip]
fn classes_beside_live() -> Vec<Class> {
    let class = |name, frame, reason, instructions, calls| Class { name, frame, first: None, reason, instructions, calls };
    vec![
        class("RTP, IPv4", eth().ip(V4.unlisted).udp(16_384), Unguarded, 30, 0),
        class("unlisted, IPv4", eth().ip(V4.unlisted).udp(5060), Unlisted, 101, 2),
        class("unlisted, IPv6", eth().ip(V6.unlisted).udp(5060), Unlisted, 101, 2),
        class("allowed, IPv4, by its /32, banned, too", eth().ip(V4.allowed[0]).udp(5060), Allowed, 191, 5),
        class("allowed, IPv4, by its /24, within a ban", eth().ip(V4.allowed[2]).udp(5060), Allowed, 297, 7),
        class("allowed, IPv6, by its /48, within a ban", eth().ip(V6.allowed[2]).udp(5060), Allowed, 388, 7),
        class("banned, IPv4, by its /32", eth().ip("198.19.0.9").udp(5060), Denied, 402, 9),
        class("banned, IPv4, by its /24", eth().ip("198.19.3.9").udp(5060), Denied, 457, 10),
        class("banned, IPv4, by its /23", eth().ip("203.0.112.9").udp(5060), Denied, 512, 11),
        class("banned, IPv6, by its /128", eth().ip("2001:dbd::9").udp(5060), Denied, 523, 9),
        class("banned, IPv6, by its /64", eth().ip("2001:dbe:1::9").udp(5060), Denied, 596, 10),
        class("banned, IPv6, by its /44", eth().ip("2001:dba:8::9").udp(5060), Denied, 670, 11),
        class("banned for a while, IPv4", eth().ip("198.19.0.10").udp(5060), Denied, 405, 10),
        class("banned for a while, IPv6", eth().ip("2001:dbd::10").udp(5060), Denied, 524, 10),
        class("banned, IPv4, first fragment", eth().ip("198.19.0.9").fragment(0, true).udp(5060), Denied, 667, 12),
        class("banned, IPv4, of an opened service", eth().ip("198.19.0.9").udp(4001), Denied, 238, 6),
        class("allowed, IPv4, by any", eth().ip(V4.unlisted).udp(4001), Allowed, 379, 12),
        class("allowed, IPv6, by any", eth().ip(V6.unlisted).udp(4001), Allowed, 487, 12),
    ]
}

/// Not one that needs a newer kernel. And a clock that stands still while the machine sleeps is not seen anywhere else: timed entries, and
/// applies that nobody confirms, would last longer.
#[test]
fn helpers_by_program() {
    use bpf_func_id::{
        BPF_FUNC_jiffies64 as JIFFIES, BPF_FUNC_ktime_get_boot_ns as CLOCK,
        BPF_FUNC_map_lookup_elem as LOOK_UP, BPF_FUNC_perf_event_output as OUTPUT,
        BPF_FUNC_skb_load_bytes_relative as READ, BPF_FUNC_skb_pull_data as PULL,
        BPF_FUNC_tail_call as TAIL_CALL, BPF_FUNC_xdp_get_buff_len as LENGTH,
        BPF_FUNC_xdp_load_bytes as LOAD,
    };
    let mut object = Object::parse(object_bytes()).expect("an object");
    // The functions that a program calls become part of it.
    let text: HashSet<_> = object.functions.keys().map(|key| key.0).collect();
    object.relocate_calls(&text).expect("all functions");
    let called = |program: &Program| {
        let instructions = &object.functions[&program.function_key()].instructions;
        let calls = instructions
            .iter()
            .filter(|it| u32::from(it.code) == bpf::BPF_JMP | bpf::BPF_CALL)
            .filter(|it| u32::from(it.src_reg()) != bpf::BPF_PSEUDO_CALL);
        calls.map(|call| call.imm).collect::<BTreeSet<_>>()
    };
    let programs: BTreeMap<_, _> = object
        .programs
        .iter()
        .map(|(name, program)| (name.as_str(), called(program)))
        .collect();
    let wanted = [
        ("check", vec![LOOK_UP, CLOCK]),
        ("check_frags", vec![LOOK_UP, CLOCK, LOAD]),
        ("check_tc", vec![LOOK_UP, CLOCK, READ, PULL]),
        ("filter", vec![LOOK_UP, CLOCK, JIFFIES, TAIL_CALL]),
        (
            "filter_frags",
            vec![LOOK_UP, CLOCK, JIFFIES, TAIL_CALL, LENGTH, LOAD],
        ),
        (
            "filter_tc",
            vec![LOOK_UP, CLOCK, JIFFIES, TAIL_CALL, READ, PULL],
        ),
        ("pending", vec![TAIL_CALL, CLOCK]),
        ("pending_frags", vec![TAIL_CALL, CLOCK]),
        ("pending_tc", vec![TAIL_CALL, CLOCK]),
        ("tell", vec![LOOK_UP, CLOCK, OUTPUT]),
        ("tell_frags", vec![LOOK_UP, CLOCK, OUTPUT, LENGTH, LOAD]),
        ("tell_tc", vec![LOOK_UP, CLOCK, OUTPUT, READ, PULL]),
    ]
    .map(|(name, helpers)| (name, helpers.into_iter().map(|it| it as i32).collect()));
    assert_eq!(programs, BTreeMap::from(wanted));
}

/// Kernels before 6.4 refuse a loop whose last instruction is no jump but falls into the first, which was come to by a jump before
/// (`push_insn` of kernel/bpf/verifier.c, `loop_ok`): "back-edge from insn". Where the compiler puts that is luck.
#[test]
fn no_loop_is_closed_without_a_jump() {
    let mut object = Object::parse(object_bytes()).expect("an object");
    let text: HashSet<_> = object.functions.keys().map(|key| key.0).collect();
    object.relocate_calls(&text).expect("all functions");
    let mut found = Vec::new();
    for (name, program) in &object.programs {
        let code = &object.functions[&program.function_key()].instructions;
        let mut begins = vec![0];
        begins.extend((0..code.len()).filter_map(|at| called_function(code, at)));
        for begin in begins {
            if let Some((from, to)) = fallen_into(code, begin) {
                found.push(format!("{name}: from instruction {from} into {to}"));
            }
        }
    }
    assert!(found.is_empty(), "falls into loops: {found:#?}");
}

/// The function that an instruction calls, if it calls one.
fn called_function(code: &[bpf_insn], at: usize) -> Option<usize> {
    let calls = u32::from(code[at].code) == bpf::BPF_JMP | bpf::BPF_CALL
        && u32::from(code[at].src_reg()) == bpf::BPF_PSEUDO_CALL;
    calls.then(|| (at + 1).wrapping_add_signed(code[at].imm as isize))
}

/// The first place where a loop is closed without a jump, as the kernel walks: depth first, and straight on before it follows a branch.
fn fallen_into(code: &[bpf_insn], begin: usize) -> Option<(usize, usize)> {
    /// The next instructions, and whether a jump leads there.
    fn nexts(code: &[bpf_insn], at: usize) -> Vec<(usize, bool)> {
        let number = u32::from(code[at].code);
        let target = (at + 1).wrapping_add_signed(isize::from(code[at].off));
        match (number & 7, number & 0xf0) {
            // A constant of 64 bits is two.
            (bpf::BPF_LD, _) => vec![(at + 2, false)],
            (bpf::BPF_JMP, bpf::BPF_EXIT) => Vec::new(),
            (bpf::BPF_JMP, bpf::BPF_CALL) => vec![(at + 1, false)],
            (bpf::BPF_JMP, bpf::BPF_JA) => vec![(target, true)],
            (bpf::BPF_JMP | bpf::BPF_JMP32, _) => vec![(at + 1, true), (target, true)],
            _ => vec![(at + 1, false)],
        }
    }
    let mut open = vec![begin];
    let mut followed = vec![0; code.len()];
    let mut on_the_way = vec![false; code.len()];
    on_the_way[begin] = true;
    while let Some(&at) = open.last() {
        let Some(&(next, jumps)) = nexts(code, at).get(followed[at]) else {
            on_the_way[at] = false;
            open.pop();
            continue;
        };
        followed[at] += 1;
        if on_the_way[next] && !jumps {
            return Some((at, next));
        }
        if followed[next] == 0 && !on_the_way[next] {
            on_the_way[next] = true;
            open.push(next);
        }
    }
    None
}

/// The same at TC ingress: every reading is a call.
#[rustfmt::skip]
fn classes_at_tc() -> Vec<Class> {
    let class = |name, frame, reason, instructions, calls| Class { name, frame, first: None, reason, instructions, calls };
    let in_pieces = |class| Class { first: Some(14), ..class };
    vec![
        class("ARP", eth().arp(), Unguarded, 33, 0),
        class("RTP, IPv4", eth().ip(V4.unlisted).udp(16_384), Unguarded, 36, 1),
        class("RTP, IPv4, tagged", eth().vlan(7).ip(V4.unlisted).udp(16_384), Unguarded, 36, 1),
        class("RTP, IPv6", eth().ip(V6.unlisted).udp(16_384), Unguarded, 33, 1),
        class("unlisted, IPv4", eth().ip(V4.unlisted).udp(5060), Unlisted, 105, 3),
        class("unlisted, IPv4, options", eth().ip(V4.unlisted).options(8).udp(5060), Unlisted, 221, 5),
        class("unlisted, IPv4, two tags", eth().service_tag(8).vlan(7).ip(V4.unlisted).udp(5060), Unlisted, 232, 5),
        class("unlisted, IPv6", eth().ip(V6.unlisted).udp(5060), Unlisted, 101, 3),
        class("allowed, IPv4, by its /24", eth().ip(V4.allowed[2]).udp(5060), Allowed, 301, 8),
        class("allowed, IPv6, by its /48", eth().ip(V6.allowed[2]).udp(5060), Allowed, 391, 8),
        in_pieces(class("RTP, IPv4, in pieces", eth().ip(V4.unlisted).udp(16_384), Unguarded, 153, 5)),
        in_pieces(class("unlisted, IPv6, in pieces", eth().ip(V6.unlisted).udp(5060), Unlisted, 222, 7)),
    ]
}

#[test]
fn instructions_by_class_of_packet() {
    let compiled = compiled();
    let program = |link| ByteCode::new(&compiled, "filter_frags", link);
    let mut programs = [LinkKind::Ethernet, LinkKind::Ip].map(program);
    hold(&compiled, classes(), |frame, link, first| {
        programs[link as usize].filter(frame, first)
    });
    let opened = CONFIG.replace(
        "[sources]",
        "[sources]\neverybody = [\"0.0.0.0/0\", \"::/0\"]",
    );
    let beside_live = with_bans(&[&opened, OPENED].concat(), &BANS);
    let mut program = ByteCode::new(&beside_live, "filter_frags", LinkKind::Ethernet);
    hold(&beside_live, classes_beside_live(), |frame, _, first| {
        program.filter(frame, first)
    });
    let mut at_tc = ByteCode::new(&compiled, "filter_tc", LinkKind::Ethernet);
    hold(&compiled, classes_at_tc(), |frame, _, first| {
        at_tc.filter_at_tc(frame, first)
    });
}

/// What a listener grants that wants to be told of drops.
const GRANT: Grant = Grant {
    reasons: DROPS,
    number: 1,
    events: 100,
    bytes: 128,
    seed: 7,
    second: 1,
    padding: 0,
};

/// The same drops where somebody listens: told of, left out because the source was told of in this second, because nothing is left of the
/// grant, and because a new one grants nothing. Both programs together. What passes costs what it costs without.
#[test]
fn instructions_where_somebody_listens() {
    let compiled = compiled();
    #[rustfmt::skip]
    let rows = |frame: Frame, passes: Frame, figures: [u32; 5]| {
        let class = |name, frame: &Frame, reason, instructions, calls| Class { name, frame: frame.clone(), first: None, reason, instructions, calls };
        vec![
            class("told of", &frame, Unlisted, figures[0], 12),
            class("told of before", &frame, Unlisted, figures[1], 4),
            class("nothing left", &frame, Unlisted, figures[2], 3),
            class("nothing granted", &frame, Unlisted, figures[3], 4),
            class("passes", &passes, Allowed, figures[4], 7),
        ]
    };
    let v4 = rows(
        eth().ip(V4.unlisted).udp(5060),
        eth().ip(V4.allowed[2]).udp(5060),
        [481, 172, 131, 132, 311],
    );
    let v6 = rows(
        eth().ip(V6.unlisted).udp(5060),
        eth().ip(V6.allowed[2]).udp(5060),
        [473, 172, 131, 132, 376],
    );
    for (program, classes) in [("filter_frags", v4), ("filter_frags", v6)] {
        let mut program = ByteCode::new(&compiled, program, LinkKind::Ethernet);
        let mut granted = [(100, 1), (100, 1), (0, 1), (0, 2), (100, 3)].into_iter();
        hold(&compiled, classes, |frame, _, first| {
            let (events, number) = granted.next().expect("a grant for each");
            program.grant(Grant {
                events,
                number,
                ..GRANT
            });
            program.filter(frame, first)
        });
    }
}

/// Whoever has granted and is dead takes along what it costs: a drop costs again what it does where nobody listens, though nobody has said so.
#[test]
fn what_the_dead_have_granted_comes_to_its_end() {
    let compiled = compiled();
    let frame = eth().ip(V4.unlisted).udp(5060).bytes();
    for events in [0, 1, 100] {
        let mut code = ByteCode::new(&compiled, "filter_frags", LinkKind::Ethernet);
        let nobody_listens = code.filter(&frame, frame.len()).run.instructions;
        code.grant(Grant { events, ..GRANT });
        // What the last one of many drops costs.
        let mut at = |milliseconds: u64| {
            code.set_clock(NOW.boot_ns + milliseconds * 1_000_000);
            let drops = (0..258).map(|_| code.filter(&frame, frame.len()).run.instructions);
            drops.last().expect("many")
        };
        for milliseconds in [0, GRANT_LASTS] {
            assert!(at(milliseconds) > nobody_listens, "{events}");
        }
        assert_eq!(at(GRANT_LASTS + 1), nobody_listens, "{events}");
    }
}

/// What is told is right, wherever it is met and however the frame lies there: the record, and the frame's bytes.
#[test]
fn what_is_told() {
    let compiled = compiled();
    let names = Names {
        interface: "eth0",
        service: Some("sip"),
    };
    let mut source = 0;
    for (program, cut) in [
        ("filter", usize::MAX),
        ("filter_frags", usize::MAX),
        ("filter_frags", 14),
        ("filter_tc", usize::MAX),
        ("filter_tc", 30),
    ] {
        let mut code = ByteCode::new(&compiled, program, LinkKind::Ethernet);
        code.grant(GRANT);
        for begin in [eth(), eth().vlan(7), eth().service_tag(8).vlan(7)] {
            source += 1;
            let address = format!("192.0.2.{source}");
            let frame = begin
                .ip(&address)
                .udp(5060)
                .from_port(5071)
                .payload(b"OPTIONS sip:100@192.0.2.1 SIP/2.0\r\n\r\n");
            let bytes = frame.bytes();
            let first = cut.min(bytes.len());
            let run = match program {
                "filter_tc" => code.filter_at_tc(&bytes, first).run,
                _ => code.filter(&bytes, first).run,
            };
            let [(record, follow)] = &run.events[..] else {
                panic!("{program} {frame:?}: {:?}", run.events);
            };
            // SAFETY: as long as a record, of which any bytes are one; they need not be aligned.
            let record = unsafe { record.as_ptr().cast::<Record>().read_unaligned() };
            assert_eq!(record.bytes as usize, follow.len());
            let event = Event::new(&record, follow, names, NOW);
            assert_eq!(event.bytes, bytes, "{program} {cut}: {record:?}");
            assert_eq!(event.length as usize, bytes.len(), "{program} {cut}");
            assert_eq!(event.source, Some(address.parse().expect("an address")));
            assert_eq!((event.source_port, event.port), (Some(5071), Some(5060)));
            assert_eq!(event.protocol, Some(Protocol::Udp));
            assert_eq!((event.reason, event.enforced), (Unlisted, true));
            let method = event.sip.and_then(|sip| sip.method);
            assert_eq!(method.as_deref(), Some("OPTIONS"), "{program} {cut}");
        }
    }
}

/// Has a filter judge a packet of each class, and compares with what it may cost.
fn hold(
    compiled: &Compiled,
    classes: Vec<Class>,
    mut filter: impl FnMut(&[u8], LinkKind, usize) -> Filtered,
) {
    println!("{:42} {:>12} {:>5}", "packet", "instructions", "calls");
    let mut dearer = Vec::new();
    for class in classes {
        let name = class.name;
        let frame = class.frame.bytes();
        let link = match class.frame.link() {
            Link::Ethernet => LinkKind::Ethernet,
            Link::Bare => LinkKind::Ip,
        };
        let first = class.first.unwrap_or(frame.len());
        let Filtered { verdict, run, .. } = filter(&frame, link, first);
        let expected = Verdict {
            length: None,
            layer: None,
            ..compiled.judge(&frame, link, NOW.boot_ns)
        };
        assert_eq!(
            (verdict, verdict.reason),
            (expected, class.reason),
            "{name}"
        );

        let (instructions, calls) = (run.instructions, run.helpers.len());
        println!("{name:42} {instructions:12} {calls:5}");
        let most = class.instructions + class.instructions * HEADROOM / 100;
        if instructions > most || calls > class.calls {
            dearer.push(format!(
                "{name}: {instructions} instructions and {calls} calls, not {} and {}",
                class.instructions, class.calls
            ));
        }
    }
    assert!(
        dearer.is_empty(),
        "dearer than they were:\n{}",
        dearer.join("\n")
    );
}
