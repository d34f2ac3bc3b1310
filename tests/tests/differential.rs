//! A stack with the filter delivers what a stack without it delivers, less what the policy forbids. Nothing more is lost (no
//! collateral), nothing that is forbidden gets through (no leak).
//!
//! `SIPGUARD_CASES` says how many cases each test runs, `SIPGUARD_SEED` which ones.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, net::IpAddr, path::Path};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use sipguard_ebpf::abi::{LinkKind, Reason};
use sipguard_tests::{
    compiled::{Compiled, NOW},
    differential::{CONFIG, Case, Delivery, FRAMES, Mutation, World, compiled, forbidden},
    netns::{SCRATCH, sandbox},
    random::Random,
};

#[test]
fn native() {
    run("native", 130_000, false);
}

#[test]
fn generic() {
    run("generic", 30_000, false);
}

/// Fragments are put together by connection tracking, before the stack's own code sees them.
#[test]
fn with_connection_tracking() {
    run("native", 60_000, true);
}

fn run(mode: &str, cases: u64, tracked: bool) {
    let cases = env::var("SIPGUARD_CASES").map_or(cases, |cases| {
        cases.parse().expect("SIPGUARD_CASES is a number")
    });
    sandbox(|sandbox| {
        stay_on_this_cpu();
        let mut both = Both {
            open: World::new(sandbox),
            guarded: World::new(sandbox),
            model: compiled(),
        };
        let config = Path::new(SCRATCH).join("differential.toml");
        let text = CONFIG.replace(
            "interfaces = [\"eth0\"]",
            &format!("interface = [{{ name = \"eth0\", mode = \"{mode}\" }}]"),
        );
        fs::write(&config, text).expect("the scratch folder is writable");
        let config = config.to_str().expect("UTF-8");
        both.guarded
            .receiver
            .sipguard(["--config", config, "apply"])
            .succeeded();
        if tracked {
            both.open.track_connections();
            both.guarded.track_connections();
        }
        let mut tally = Tally::default();
        let mut random = Random::seeded();
        let mut identity = 0;
        while identity < cases {
            let mut batch = Vec::new();
            let mut frames = 0;
            while frames < FRAMES && identity < cases {
                let case = Case::new(random.number(), identity);
                frames += case.frames.len();
                batch.push(case);
                identity += 1;
            }
            both.hold(&batch, &mut tally, &mut identity);
        }
        println!("{tally}");
        tally.is_worth_something();
    });
}

/// The kernel keeps the order of frames that one processor sends.
fn stay_on_this_cpu() {
    let allowed = sched_getaffinity(None).expect("this thread has processors");
    let first = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu));
    let mut one = CpuSet::new();
    one.set(first.expect("at least one"));
    sched_setaffinity(None, &one).expect("one of ours");
}

struct Both {
    open: World,
    guarded: World,
    model: Compiled,
}

/// What is wrong with a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Something forbidden was delivered.
    Leak,
    /// Something else was not.
    Collateral,
}

impl Both {
    fn hold(&mut self, batch: &[Case], tally: &mut Tally, identity: &mut u64) {
        let frames = || batch.iter().flat_map(|case| &case.frames);
        let open = self.open.deliver(frames().map(Vec::as_slice));
        let guarded = self.guarded.deliver(frames().map(Vec::as_slice));
        for case in batch {
            tally.count(case, |sums| sums.cases += 1);
        }
        for delivery in &open {
            let case = owner(batch, delivery);
            tally.count(case, |sums| sums.delivered += 1);
            if forbidden(delivery.source, delivery.port) {
                tally.count(case, |sums| sums.forbidden += 1);
            }
        }
        for delivery in &guarded {
            if forbidden(delivery.source, delivery.port) {
                self.fail(Fault::Leak, owner(batch, delivery), delivery, identity);
            }
        }
        for delivery in less(&open, &guarded) {
            if forbidden(delivery.source, delivery.port) {
                continue;
            }
            let case = owner(batch, delivery);
            let reasons = self.reasons(case);
            if reasons.contains(&Reason::TooDeep) {
                tally.count(case, |sums| sums.too_deep += 1);
            } else if case.source.is_ipv6()
                && case.in_fragments()
                && reasons.contains(&Reason::Malformed)
            {
                // RFC 7112 forbids first fragments that don't show the ports. Linux takes some; nobody could judge them.
                tally.count(case, |sums| sums.hidden += 1);
            } else if case.in_fragments() && reasons.contains(&Reason::Unlisted) {
                // One of several first fragments of one identification is forbidden. What is left is put together in another way.
                tally.count(case, |sums| sums.entangled += 1);
            } else {
                self.fail(Fault::Collateral, case, delivery, identity);
            }
        }
    }

    fn reasons(&self, case: &Case) -> Vec<Reason> {
        let frames = case.frames.iter();
        let judge = |frame: &Vec<u8>| self.model.judge(frame, LinkKind::Ethernet, NOW.boot_ns);
        frames.map(|frame| judge(frame).reason).collect()
    }

    /// Leaves out what the fault does not need, says what is left, and fails.
    fn fail(&mut self, fault: Fault, case: &Case, delivery: &Delivery, identity: &mut u64) -> ! {
        let mut kept: Vec<usize> = (0..case.frames.len()).collect();
        let again = self.shows(fault, case, &kept, identity);
        let mut place = 0;
        while again && place < kept.len() {
            let mut fewer = kept.clone();
            fewer.remove(place);
            if self.shows(fault, case, &fewer, identity) {
                kept = fewer;
            } else {
                place += 1;
            }
        }
        let mut text = String::new();
        for index in kept {
            let frame = &case.frames[index];
            let verdict = self.model.judge(frame, LinkKind::Ethernet, NOW.boot_ns);
            writeln!(text, "  {:?} {frame:02x?}", verdict.reason).expect("memory");
        }
        panic!(
            "{fault:?}: {delivery:02x?}\nby the case of seed {} ({:?}){}, frames:\n{text}",
            case.seed,
            case.mutations,
            if again {
                ""
            } else {
                ", but not when sent again"
            },
        );
    }

    /// Whether these frames of a case alone show the fault, sent from an address that was not used before.
    fn shows(&mut self, fault: Fault, case: &Case, kept: &[usize], identity: &mut u64) -> bool {
        *identity += 1;
        let fresh = Case::new(case.seed, *identity);
        let frames = || kept.iter().map(|index| fresh.frames[*index].as_slice());
        let open = self.open.deliver(frames());
        let guarded = self.guarded.deliver(frames());
        let bad = |delivery: &Delivery| forbidden(delivery.source, delivery.port);
        match fault {
            Fault::Leak => guarded.iter().any(bad),
            Fault::Collateral => less(&open, &guarded).any(|delivery| !bad(delivery)),
        }
    }
}

/// What is in `all` and not in `some`, each counted as often as it is there; both are sorted.
fn less<'d>(all: &'d [Delivery], some: &'d [Delivery]) -> impl Iterator<Item = &'d Delivery> {
    let mut some = some.iter().peekable();
    all.iter().filter(move |delivery| {
        while some.next_if(|other| other < delivery).is_some() {}
        some.next_if_eq(delivery).is_none()
    })
}

/// The case that a delivery belongs to: by its address, or where that was changed by its payload or by its frames.
fn owner<'c>(batch: &'c [Case], delivery: &Delivery) -> &'c Case {
    let by_address = |case: &&Case| case.source == delivery.source;
    let by_bytes = |case: &&Case| {
        let address = match delivery.source {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let has = |frame: &Vec<u8>| frame.windows(address.len()).any(|it| it == address);
        case.frames.iter().any(has)
    };
    let by_payload = |case: &&Case| {
        let identity = delivery.what.first_chunk();
        identity.is_some_and(|bytes| u64::from_be_bytes(*bytes) == case.identity)
    };
    let found = batch.iter().find(by_address);
    let found = found.or_else(|| batch.iter().find(by_payload));
    let found = found.or_else(|| batch.iter().find(by_bytes));
    found.unwrap_or_else(|| panic!("{delivery:02x?} comes from no case"))
}

#[derive(Default)]
struct Tally {
    all: Sums,
    mutations: BTreeMap<Mutation, Sums>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    cases: u64,
    delivered: u64,
    forbidden: u64,
    too_deep: u64,
    hidden: u64,
    entangled: u64,
}

impl Tally {
    fn count(&mut self, case: &Case, add: impl Fn(&mut Sums)) {
        add(&mut self.all);
        for mutation in &case.mutations {
            add(self.mutations.entry(*mutation).or_default());
        }
    }

    /// The generator makes all kinds of cases, and enough of them are good packets.
    fn is_worth_something(&self) {
        for mutation in Mutation::ALL {
            let sums = self.mutations.get(mutation).copied().unwrap_or_default();
            assert!(sums.cases > 0, "no case with {mutation:?}");
        }
        let Sums {
            cases,
            delivered,
            forbidden,
            ..
        } = self.all;
        assert!(delivered * 5 > cases && forbidden * 10 > cases, "{self}");
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            text,
            "{:<20} {:>9} {:>10} {:>10} {:>9} {:>13} {:>10}",
            "mutation", "cases", "delivered", "forbidden", "too deep", "ports hidden", "entangled"
        )?;
        let rows = self.mutations.iter();
        let rows = rows.map(|(mutation, sums)| (format!("{mutation:?}"), sums));
        for (name, sums) in rows.chain([("all".to_owned(), &self.all)]) {
            writeln!(
                text,
                "{name:<20} {:>9} {:>10} {:>10} {:>9} {:>13} {:>10}",
                sums.cases,
                sums.delivered,
                sums.forbidden,
                sums.too_deep,
                sums.hidden,
                sums.entangled
            )?;
        }
        Ok(())
    }
}
