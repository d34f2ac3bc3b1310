//! Every row of the verdict table, judged on the host and by the loaded program; and no frame whatever makes the parser panic.

use sipguard_ebpf::{
    abi::{LinkKind, Reason},
    parse::parse,
};
use sipguard_tests::{
    byte_code::{ByteCode, Filtered},
    compiled::{Compiled, NOW},
    random::Random,
    reference::Verdict,
    verdict_table::{Config, Expected, Row, rows},
};

#[test]
fn rows_on_the_host() {
    for config in Config::ALL {
        let compiled = config.compiled();
        for row in rows_of(config) {
            hold(
                &row,
                &compiled,
                compiled.judge(&row.frame, row.link, NOW.boot_ns),
            );
        }
    }
}

#[test]
fn rows_in_the_kernel() {
    for config in Config::ALL {
        let compiled = config.compiled();
        for link in [LinkKind::Ethernet, LinkKind::Ip] {
            let mut loaded = compiled.loaded(link);
            for row in rows_of(config).filter(|row| row.link == link) {
                hold(&row, &compiled, loaded.judge(&row.frame));
            }
        }
    }
}

/// Frames without an Ethernet header get one that says of them what the kernel would say.
#[test]
fn rows_at_tc_ingress() {
    for config in Config::ALL {
        let compiled = config.compiled();
        let mut loaded = compiled.loaded_at_tc();
        for mut row in rows_of(config) {
            if row.link == LinkKind::Ip {
                let kind = match row.frame.first().map(|first| first >> 4) {
                    Some(4) if row.frame.len() > 1 => 0x0800_u16,
                    Some(6) if row.frame.len() > 1 => 0x86dd,
                    _ => 0x88b5,
                };
                let header = [[0; 12].as_slice(), &kind.to_be_bytes()].concat();
                row.frame.splice(0..0, header);
            }
            hold(&row, &compiled, loaded.judge(&row.frame));
        }
    }
}

/// The byte code, too, reaches nothing but the frame and its tables, wherever the frame's first piece ends. Frames that are shorter than
/// what the kernel runs a program on are among these.
#[test]
fn rows_of_the_byte_code() {
    for config in Config::ALL {
        let compiled = config.compiled();
        for link in [LinkKind::Ethernet, LinkKind::Ip] {
            let program = |name| ByteCode::new(&compiled, name, link);
            let [mut check, mut check_frags] = ["check", "check_frags"].map(program);
            let [mut filter, mut filter_frags] = ["filter", "filter_frags"].map(program);
            for row in rows_of(config).filter(|row| row.link == link) {
                let whole = row.frame.len();
                hold(&row, &compiled, check.check(&row.frame, whole));
                filters(&row, &compiled, &mut filter, whole);
                // Long frames are long in the middle.
                let pieces = (0..=whole).filter(|first| *first < 100 || whole - first < 100);
                for first in pieces {
                    hold(&row, &compiled, check_frags.check(&row.frame, first));
                    filters(&row, &compiled, &mut filter_frags, first);
                }
            }
        }
    }
}

fn filters(row: &Row, compiled: &Compiled, program: &mut ByteCode<'_>, first: usize) {
    let Filtered { verdict, bytes, .. } = program.filter(&row.frame, first);
    let mut row = row.clone();
    row.expected.length = None;
    row.expected.layer = None;
    hold(&row, compiled, verdict);
    let guarded = compiled.tables.constants.protocols;
    let packet = parse(row.frame.as_slice(), row.link, guarded);
    let wanted = if verdict.reason == Reason::None {
        0
    } else if packet.is_ok_and(|packet| packet.last < first) {
        // A packet that ends in the first piece is taken to be the whole frame.
        first
    } else {
        row.frame.len()
    };
    assert_eq!(bytes, wanted as u64, "{} in pieces of {first}", row.name);
}

/// The kernel's program and the host agree on frames that nobody thought of, too.
#[test]
fn random_frames_in_the_kernel() {
    let rows = rows();
    let mut random = Random::seeded();
    let compiled = Config::Wide.compiled();
    let mut at_tc = compiled.loaded_at_tc();
    for link in [LinkKind::Ethernet, LinkKind::Ip] {
        let mut loaded = compiled.loaded(link);
        for _ in 0..20_000 {
            let mut frame = random.choose(&rows).frame.clone();
            random.mutate(&mut frame);
            let verdict = compiled.judge(&frame, link, NOW.boot_ns);
            assert_eq!(loaded.judge(&frame), verdict, "{link:?} {frame:02x?}");
            if link == LinkKind::Ethernet {
                assert_eq!(at_tc.judge(&frame), verdict, "TC {frame:02x?}");
            }
        }
    }
}

/// So does the byte code, which reaches nothing but the frame and its tables with these either.
#[test]
fn random_frames_of_the_byte_code() {
    let rows = rows();
    let mut random = Random::seeded();
    let compiled = Config::Wide.compiled();
    for link in [LinkKind::Ethernet, LinkKind::Ip] {
        let mut check = ByteCode::new(&compiled, "check", link);
        let mut check_frags = ByteCode::new(&compiled, "check_frags", link);
        // These have a way of their own for what is plain.
        let [mut filter, mut filter_frags] =
            ["filter", "filter_frags"].map(|name| ByteCode::new(&compiled, name, link));
        for _ in 0..20_000 {
            let mut frame = random.choose(&rows).frame.clone();
            random.mutate(&mut frame);
            let verdict = compiled.judge(&frame, link, NOW.boot_ns);
            let first = random.below(frame.len() + 1);
            assert_eq!(
                check.check(&frame, frame.len()),
                verdict,
                "{link:?} {frame:02x?}"
            );
            let in_pieces = check_frags.check(&frame, first);
            assert_eq!(in_pieces, verdict, "{link:?} {first} {frame:02x?}");
            let whole = filter.filter(&frame, frame.len()).verdict;
            let in_pieces = filter_frags.filter(&frame, first).verdict;
            for filtered in [whole, in_pieces] {
                // What was dropped before decides of fragments, too.
                if filtered.reason == Reason::Orphan {
                    assert_eq!(verdict.reason, Reason::Fragment, "{link:?} {frame:02x?}");
                    continue;
                }
                let wanted = Verdict {
                    length: None,
                    layer: None,
                    ..verdict
                };
                assert_eq!(filtered, wanted, "{link:?} {first} {frame:02x?}");
            }
        }
    }
}

fn rows_of(config: Config) -> impl Iterator<Item = Row> {
    rows().into_iter().filter(move |row| row.config == config)
}

fn hold(row: &Row, compiled: &Compiled, verdict: Verdict) {
    let services = &compiled.policy.services;
    let named = verdict.service.map(|index| services[index].name.as_str());
    let Expected {
        action,
        reason,
        service,
        length,
        layer,
    } = row.expected;
    assert_eq!(
        (
            verdict.action,
            verdict.reason,
            named,
            verdict.length,
            verdict.layer
        ),
        (action, reason, service, length, layer),
        "{}: {:02x?}",
        row.name,
        row.frame
    );
}

/// What guards less judges the same where both guard.
#[test]
fn rows_of_the_usual_policy_are_judged_the_same_with_more_guarded() {
    let wide = Config::Wide.compiled();
    for row in rows() {
        // Short frames of protocols that only the wide policy guards are malformed there.
        if row.config != Config::Usual || row.name.contains("sctp") || row.name.contains("udplite")
        {
            continue;
        }
        let verdict = wide.judge(&row.frame, row.link, NOW.boot_ns);
        assert_eq!(verdict.reason, row.expected.reason, "{}", row.name);
    }
}

#[test]
fn no_truncation_panics() {
    let compiled = Config::Wide.compiled();
    for row in rows() {
        for length in 0..=row.frame.len() {
            for link in [LinkKind::Ethernet, LinkKind::Ip] {
                let _ = compiled.judge(&row.frame[..length], link, NOW.boot_ns);
            }
        }
    }
}

#[test]
fn no_random_frame_panics() {
    let compiled = Config::Wide.compiled();
    let rows = rows();
    let mut random = Random::seeded();
    for turn in 0..1_000_000 {
        let frame = if turn % 8 == 0 {
            random.bytes(120)
        } else {
            let mut frame = random.choose(&rows).frame.clone();
            random.mutate(&mut frame);
            frame
        };
        let link = *random.choose(&[LinkKind::Ethernet, LinkKind::Ip]);
        let _ = compiled.judge(&frame, link, NOW.boot_ns);
    }
}
