//! A dry run on the host says what the kernel's program says: of every row of the verdict table, and of a million frames that nobody thought of.

use std::thread;

use sipguard::{
    capture::{Begins, Frame},
    rehearsal::{Compiled, Rehearsal},
};
use sipguard_ebpf::abi::LinkKind;
use sipguard_tests::{
    compiled::NOW,
    random::Random,
    verdict_table::{Config, rows},
};

/// The same policy, judged here and there.
fn both(config: Config) -> [Rehearsal; 2] {
    let compiled = config.compiled();
    let compiled = || Compiled {
        tables: compiled.tables.clone(),
        description: compiled.description(),
    };
    [
        Rehearsal::on_host(compiled(), NOW),
        Rehearsal::in_kernel(compiled()),
    ]
}

fn agree([host, kernel]: &mut [Rehearsal; 2], begins: Begins, bytes: &[u8]) {
    let frame = Frame { begins, bytes };
    let there = kernel
        .judge(&frame)
        .unwrap_or_else(|error| panic!("these tests need root: {error}"));
    let here = host.judge(&frame).expect("the host refuses nothing");
    assert_eq!(here, there, "{begins:?} {bytes:02x?}");
}

const fn begins(link: LinkKind) -> Begins {
    match link {
        LinkKind::Ethernet => Begins::Ethernet,
        LinkKind::Ip => Begins::Ip,
    }
}

#[test]
fn on_every_row() {
    for config in Config::ALL {
        let mut both = both(config);
        for row in rows().into_iter().filter(|row| row.config == config) {
            agree(&mut both, begins(row.link), &row.frame);
            // As captures have it that are not of Ethernet's.
            if let (LinkKind::Ethernet, Some((header, packet))) =
                (row.link, row.frame.split_at_checked(14))
            {
                let kind = u16::from_be_bytes([header[12], header[13]]);
                agree(&mut both, Begins::Network(kind), packet);
            }
        }
    }
}

/// Two processors have some ten seconds' work with it, most of which is the kernel's.
#[test]
fn on_a_million_changed_frames() {
    let turn = |link: LinkKind| {
        let rows: Vec<_> = rows().into_iter().filter(|row| row.link == link).collect();
        let mut random = Random::seeded();
        let mut both = both(Config::Wide);
        for _ in 0..500_000 {
            let mut frame = random.choose(&rows).frame.clone();
            random.mutate(&mut frame);
            agree(&mut both, begins(link), &frame);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| turn(LinkKind::Ip));
        turn(LinkKind::Ethernet);
    });
}
