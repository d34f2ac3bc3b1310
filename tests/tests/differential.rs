//! A stack with the filter delivers what a stack without it delivers, less what the policy forbids. Nothing more is lost (no
//! collateral), nothing that is forbidden gets through (no leak).
//!
//! `SIPGUARD_CASES` says how many cases [`cable`] runs, and the other tests a part of it; `SIPGUARD_SEED` says which ones.

use std::{
    collections::BTreeMap,
    env, fs, iter,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use sipguard::datapath;
use sipguard_ebpf::abi::{NO_SERVICE, Reason};
use sipguard_tests::{
    compiled::{Compiled, NOW},
    differential::{
        CONFIG, Carrier, Case, Delivery, Exemption, FRAMES, Mutation, Recipe, Transport, Way,
        World, compiled, forbidden, minimised, rows,
    },
    frame::eth,
    netns::{SCRATCH, Sandbox, sandbox, stay_on_this_cpu},
    random::Random,
    reference::{Memory, Model, expected},
};

/// What the fall-back from native mode is called.
const FALL_BACK: &str = "tc";

/// Both modes see the same frames, and must let the same through.
#[test]
fn cable() {
    run(Carrier::Cable, &["native", FALL_BACK], cases(), false);
}

/// Devices that native mode knows nothing of. Some are modules, and run by `cargo xtask kernels`.
mod without_ethernet_header {
    use super::*;

    #[test]
    fn tun() {
        run(Carrier::Tun, &[FALL_BACK], cases() / 4, false);
    }

    #[test]
    fn tun_with_packet_information() {
        run(Carrier::TunInformation, &[FALL_BACK], cases() / 4, false);
        every_number(Carrier::TunInformation);
    }

    #[cfg(feature = "modules")]
    #[test]
    fn gre() {
        run(Carrier::Gre, &[FALL_BACK], cases() / 4, false);
        every_number(Carrier::Gre);
    }

    #[cfg(feature = "modules")]
    #[test]
    fn gre_from_anybody() {
        run(Carrier::GreFromAnybody, &[FALL_BACK], cases() / 4, false);
    }

    #[cfg(feature = "modules")]
    #[test]
    fn gre_to_whom_each_route_says() {
        run(Carrier::GreExternal, &[FALL_BACK], cases() / 4, false);
    }

    #[cfg(feature = "modules")]
    #[test]
    fn ip6gre() {
        run(Carrier::Ip6Gre, &[FALL_BACK], cases() / 4, false);
        every_number(Carrier::Ip6Gre);
    }

    #[cfg(feature = "modules")]
    #[test]
    fn ipip() {
        run(Carrier::Ipip, &[FALL_BACK], cases() / 4, false);
    }

    #[cfg(feature = "modules")]
    #[test]
    fn sit() {
        run(Carrier::Sit, &[FALL_BACK], cases() / 4, false);
    }

    #[cfg(feature = "modules")]
    #[test]
    fn ip6tnl() {
        run(Carrier::Ip6Tnl, &[FALL_BACK], cases() / 4, false);
    }

    #[cfg(feature = "modules")]
    #[test]
    fn wireguard() {
        run(Carrier::Wireguard, &[FALL_BACK], cases() / 4, false);
    }

    #[cfg(feature = "modules")]
    #[test]
    fn ppp() {
        run(Carrier::Ppp, &[FALL_BACK], cases() / 4, false);
    }
}

/// Fragments are put together by connection tracking, before the stack's own code sees them.
#[test]
fn with_connection_tracking() {
    run(Carrier::Cable, &["native", FALL_BACK], cases() / 2, true);
}

/// This test can fail: a filter that guards too little leaks, one that guards too much loses, and both are told with the one plain packet
/// that shows it.
#[test]
fn faults_are_found_and_minimised() {
    for (right, wrong, fault) in [
        ("\nudp = [5060, 5061]", "\nudp = [5061]", "Leak"),
        ("\nudp = [80]", "\nudp = [80, 6000]", "Collateral"),
    ] {
        let said = sandbox(|sandbox| {
            let config = CONFIG.replacen(right, wrong, 1);
            assert_ne!(config, CONFIG);
            let mut worlds = Worlds::new(sandbox, Carrier::Cable, &["native"], &config);
            // The same cases each time: some show a fault by a mutation only.
            let mut random = Random::new(1);
            let found = catch_unwind(AssertUnwindSafe(|| {
                while worlds.identity < 10_000 {
                    let batch = worlds.batch(&mut random, u64::MAX);
                    worlds.hold(&batch, &mut Tally::default());
                }
            }));
            let said = found.expect_err("a fault is found").downcast::<String>();
            *said.expect("a message")
        });
        let (_, least) = said.split_once("at the least with []").expect("minimised");
        let rows: Vec<_> = least.lines().skip(1).collect();
        assert_eq!(rows.len(), 1, "{said}");
        let row = format!("rows.add(\"{}-1\", &Frame::wire(", fault.to_lowercase());
        assert!(rows[0].starts_with(&row), "{said}");
    }
}

fn cases() -> u64 {
    env::var("SIPGUARD_CASES").map_or(120_000, |cases| {
        cases.parse().expect("SIPGUARD_CASES is a number")
    })
}

fn run(carrier: Carrier, modes: &[&str], cases: u64, tracked: bool) {
    sandbox(|sandbox| {
        let mut worlds = Worlds::new(sandbox, carrier, modes, CONFIG);
        if tracked {
            for world in iter::once(&worlds.open).chain(&worlds.guarded) {
                world.track_connections();
            }
        }
        println!("{carrier:?}, {modes:?}: {}", worlds.open.ways);
        let mut tally = Tally::default();
        let mut random = Random::seeded();
        while worlds.identity < cases {
            let batch = worlds.batch(&mut random, cases);
            worlds.hold(&batch, &mut tally);
        }
        println!("{tally}");
        tally.is_worth_something(&worlds.open, carrier);
        worlds.orphans_are_counted();
    });
}

/// Each number that a tunnel's header can carry, with packets and tags behind it: nothing gets through that is forbidden, and nothing
/// else is lost. Those that mean something come first; where there is time for few cases, not all of the others follow.
fn every_number(carrier: Carrier) {
    const MEANINGFUL: [u16; 16] = [
        0x0800, 0x86dd, 0x8100, 0x88a8, 0x9100, 0x9200, 0x88e5, 0x8864, 0x8863, 0x8847, 0x8848,
        0x6558, 0x88be, 0x22eb, 0x883e, 0x0806,
    ];
    let all = (0..=u16::MAX).filter(|number| !MEANINGFUL.contains(number));
    let many = usize::try_from(cases()).expect("fewer");
    let numbers: Vec<u16> = MEANINGFUL.into_iter().chain(all).take(many).collect();
    sandbox(|sandbox| {
        let mut worlds = Worlds::new(sandbox, carrier, &[FALL_BACK], CONFIG);
        let mut delivered = 0;
        for some in numbers.chunks(FRAMES / 8) {
            let frames: Vec<_> = some.iter().flat_map(|number| behind(*number)).collect();
            let open = worlds.open.deliver(frames.iter().map(Vec::as_slice));
            let guarded = worlds.guarded[0].deliver(frames.iter().map(Vec::as_slice));
            delivered += open.len();
            let leak = guarded.iter().find(|delivery| forbidden(delivery));
            assert_eq!(leak, None, "behind one of {some:04x?}");
            let lost = less(&open, &guarded).find(|delivery| !forbidden(delivery));
            assert_eq!(lost, None, "behind one of {some:04x?}");
        }
        println!(
            "{carrier:?}: {} numbers, {delivered} delivered",
            numbers.len()
        );
        assert!(delivered > 0, "{carrier:?} led nowhere");
    });
}

/// Packets of an unlisted source to a guarded and to another port, bare, tagged, and with a tag in the tag.
fn behind(number: u16) -> Vec<Vec<u8>> {
    let [high, low] = number.to_be_bytes();
    let (v4, v6) = (
        format!("10.9.{high}.{low}"),
        format!("2001:db8:bad::{number:x}"),
    );
    let sources = [v4, v6];
    let shapes = sources.iter().flat_map(|source| {
        [(5060, 0), (6000, 0), (5060, 1), (5060, 2)].map(|(port, tags)| {
            // The first tag's number is what the tunnel's header carries.
            let tagged = (0..tags).fold(eth(), |frame, _| frame.vlan(0));
            tagged.ether_type(number).ip(source).udp(port).bytes()
        })
    });
    shapes.collect()
}

struct Worlds {
    open: World,
    /// One for each mode.
    guarded: Vec<World>,
    model: Compiled,
    /// What became of first fragments, by the naive model, and how many others it takes for orphans.
    memory: Memory,
    orphans: u64,
    carrier: Carrier,
    /// Of the next case.
    identity: u64,
}

/// What is wrong with a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Something forbidden was delivered.
    Leak,
    /// Something else was not.
    Collateral,
    /// One mode lets through what another does not.
    Disagreement,
}

impl Worlds {
    fn new(sandbox: &Sandbox, carrier: Carrier, modes: &[&str], config: &str) -> Self {
        stay_on_this_cpu();
        let guarded = modes
            .iter()
            .map(|mode| guarded(sandbox, carrier, mode, config));
        Self {
            open: World::new(sandbox, carrier),
            guarded: guarded.collect(),
            model: compiled(),
            memory: Memory::default(),
            orphans: 0,
            carrier,
            identity: 0,
        }
    }

    /// As many cases as are sent at once, up to the last of so many.
    fn batch(&mut self, random: &mut Random, cases: u64) -> Vec<Case> {
        let mut batch = Vec::new();
        let mut frames = 0;
        while frames < FRAMES && self.identity < cases {
            let recipe = Recipe::new(random.number(), self.carrier);
            let case = Case::new(recipe, self.identity);
            frames += case.frames.len();
            batch.push(case);
            self.identity += 1;
        }
        batch
    }

    fn hold(&mut self, batch: &[Case], tally: &mut Tally) {
        let frames = || batch.iter().flat_map(|case| &case.frames);
        let open = self.open.deliver(frames().map(Vec::as_slice));
        let guarded: Vec<_> = self
            .guarded
            .iter_mut()
            .map(|world| world.deliver(frames().map(Vec::as_slice)))
            .collect();
        for case in batch {
            tally.count(case, |sums| sums.cases += 1);
        }
        self.remember(batch);
        for delivery in &open {
            let case = owner(batch, delivery);
            tally.count(case, |sums| sums.delivered += 1);
            if forbidden(delivery) {
                tally.count(case, |sums| sums.forbidden += 1);
            }
            *tally.by.entry(delivery.transport).or_default() += 1;
        }
        for guarded in &guarded {
            if let Some(delivery) = guarded.iter().find(|delivery| forbidden(delivery)) {
                self.fail(Fault::Leak, owner(batch, delivery), delivery);
            }
            for delivery in less(&open, guarded).filter(|delivery| !forbidden(delivery)) {
                let case = owner(batch, delivery);
                if self.exemption(case).is_none() {
                    self.fail(Fault::Collateral, case, delivery);
                }
            }
        }
        if let Some(delivery) = disagreement(&guarded) {
            self.fail(Fault::Disagreement, owner(batch, delivery), delivery);
        }
        let least = guarded.first().map_or(&[][..], Vec::as_slice);
        for delivery in less(&open, least).filter(|delivery| !forbidden(delivery)) {
            let case = owner(batch, delivery);
            let exemption = self.exemption(case).expect("seen above");
            tally.count(case, |sums| sums.exempt[exemption as usize] += 1);
        }
    }

    fn exemption(&self, case: &Case) -> Option<Exemption> {
        let reasons = case.frames.iter().map(|frame| self.reason(frame, case));
        let reasons: Vec<Reason> = reasons.collect();
        Exemption::of(&case.frames, &reasons, case.recipe.carrier)
    }

    /// What became of a case's first fragments decides about the others.
    fn remember(&mut self, batch: &[Case]) {
        let model = Model {
            policy: &self.model.policy,
            own: &[],
            bans: &[],
            now: NOW.boot_ns,
        };
        let frames = batch.iter().flat_map(|case| &case.frames);
        for frame in frames.filter(|frame| self.carrier.brings(frame)) {
            let verdict = self.memory.expected(frame, self.carrier.link(), &model);
            self.orphans += u64::from(verdict.reason == Reason::Orphan);
        }
    }

    /// The last world counts as many orphans as the naive model; of its memory's few places two datagrams may want the same.
    fn orphans_are_counted(&self) {
        let counts = datapath::counts(self.carrier.interface());
        let counts = counts.expect("counters can be read").expect("it has some");
        let counted: u64 = (0..=NO_SERVICE)
            .map(|service| counts.of(service, Reason::Orphan).packets)
            .sum();
        println!("{counted} orphans, {} by the model", self.orphans);
        let few = self.orphans / 20 + 2;
        // Each processor has a memory of its own, and WireGuard deals with what comes in on any of them.
        let at_least = match self.carrier {
            Carrier::Wireguard => 1,
            _ => self.orphans.saturating_sub(few),
        };
        assert!(
            (at_least..=self.orphans + few).contains(&counted) && self.orphans > 0,
            "{counted} orphans, not {}",
            self.orphans
        );
    }

    /// The naive model's, which must be the product's.
    fn reason(&self, frame: &[u8], case: &Case) -> Reason {
        let link = case.recipe.carrier.link();
        let model = Model {
            policy: &self.model.policy,
            own: &[],
            bans: &[],
            now: NOW.boot_ns,
        };
        let expected = expected(frame, link, &model);
        assert_eq!(self.model.judge(frame, link, NOW.boot_ns), expected);
        expected.reason
    }

    /// Leaves out what the fault does not need, says what is left, and fails.
    fn fail(&mut self, fault: Fault, case: &Case, delivery: &Delivery) -> ! {
        let (recipe, carrier) = (&case.recipe, case.recipe.carrier);
        let name = format!("{fault:?} in {recipe:?}: {delivery:02x?}");
        let all: Vec<usize> = (0..case.frames.len()).collect();
        if !self.shows(fault, recipe, &all) {
            let frames = rows(&name, &case.frames, carrier);
            panic!("{name}\nbut not when it is sent again alone:\n{frames}");
        }
        let (fewer, kept) = minimised(recipe, self.identity, |recipe, kept| {
            self.shows(fault, recipe, kept)
        });
        let fewer = Case::new(fewer, case.identity);
        let left: Vec<_> = kept.iter().map(|at| fewer.frames[*at].clone()).collect();
        for frame in &left {
            println!("{:?}: {frame:02x?}", self.reason(frame, &fewer));
        }
        let mutations = &fewer.recipe.mutations;
        panic!(
            "{name}\nat the least with {mutations:?}, as rows of the verdict table:\n{}",
            rows(&format!("{fault:?}-{mutations:?}"), &left, carrier),
        );
    }

    /// Whether these frames of a case alone show the fault, sent from an address that was not used before.
    fn shows(&mut self, fault: Fault, recipe: &Recipe, kept: &[usize]) -> bool {
        self.identity += 1;
        let fresh = Case::new(recipe.clone(), self.identity);
        let frames = || kept.iter().map(|index| fresh.frames[*index].as_slice());
        let open = self.open.deliver(frames());
        let mut guarded = self.guarded.iter_mut();
        let guarded: Vec<_> = guarded.by_ref().map(|it| it.deliver(frames())).collect();
        match fault {
            Fault::Leak => guarded.iter().flatten().any(forbidden),
            Fault::Collateral => {
                let lost = |guarded| less(&open, guarded).any(|delivery| !forbidden(delivery));
                guarded.iter().any(|guarded| lost(guarded)) && self.exemption(&fresh).is_none()
            }
            Fault::Disagreement => disagreement(&guarded).is_some(),
        }
    }
}

/// A receiver that is guarded in this mode.
fn guarded(sandbox: &Sandbox, carrier: Carrier, mode: &str, config: &str) -> World {
    sandbox.begin_anew();
    let world = World::new(sandbox, carrier);
    let path = Path::new(SCRATCH).join("differential.toml");
    let interface = carrier.interface();
    let text = config.replace(
        "interfaces = [\"eth0\"]",
        &format!("interface = [{{ name = \"{interface}\", mode = \"{mode}\" }}]"),
    );
    fs::write(&path, text).expect("the scratch folder is writable");
    let path = path.to_str().expect("UTF-8");
    world
        .receiver
        .sipguard(["--config", path, "apply"])
        .succeeded();
    world
}

/// What one of them let through, and another did not.
fn disagreement(guarded: &[Vec<Delivery>]) -> Option<&Delivery> {
    let mut pairs = guarded.windows(2).flat_map(|pair| {
        let (one, other) = (&pair[0], &pair[1]);
        less(one, other).chain(less(other, one))
    });
    pairs.next()
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
    by: BTreeMap<Transport, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    cases: u64,
    delivered: u64,
    forbidden: u64,
    exempt: [u64; Exemption::ALL.len()],
}

impl Tally {
    fn count(&mut self, case: &Case, add: impl Fn(&mut Sums)) {
        add(&mut self.all);
        for mutation in &case.recipe.mutations {
            add(self.mutations.entry(*mutation).or_default());
        }
    }

    /// The generator makes all kinds of cases, enough of them are good packets, and what this kernel has was used.
    fn is_worth_something(&self, world: &World, carrier: Carrier) {
        let of = |mutation| self.mutations.get(&mutation).copied().unwrap_or_default();
        for mutation in Mutation::ALL.iter().filter(|it| it.fits(carrier)) {
            assert!(of(*mutation).cases > 0, "no case with {mutation:?}");
        }
        let mutations = [
            (Way::Vlan, Mutation::QinQ),
            (Way::Session, Mutation::Session),
            (Way::Authentication, Mutation::Authentication),
        ];
        for (way, mutation) in mutations {
            let used = of(mutation).delivered > 0;
            assert!(used || !world.ways.has(way), "{way:?} led nowhere");
        }
        let transports = [
            (true, Transport::Udp),
            (true, Transport::Tcp),
            (world.ways.has(Way::UdpLite), Transport::UdpLite),
            (world.ways.has(Way::Sctp), Transport::Sctp),
        ];
        for (there, transport) in transports {
            assert_eq!(there, self.by.contains_key(&transport), "{transport:?}");
        }
        let Sums {
            cases,
            delivered,
            forbidden,
            ..
        } = self.all;
        // Half of the cases are of a family that it does not carry.
        let share = if carrier == Carrier::Ipip { 2 } else { 1 };
        let (delivered, forbidden) = (share * delivered, share * forbidden);
        assert!(delivered * 5 > cases && forbidden * 10 > cases, "{self}");
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            text,
            "{:<20} {:>9} {:>10}",
            "mutation", "cases", "delivered"
        )?;
        write!(text, " {:>10}", "forbidden")?;
        for exemption in Exemption::ALL {
            write!(text, " {:>10}", format!("{exemption:?}"))?;
        }
        writeln!(text)?;
        let rows = self.mutations.iter();
        let rows = rows.map(|(mutation, sums)| (format!("{mutation:?}"), sums));
        for (name, sums) in rows.chain([("all".to_owned(), &self.all)]) {
            write!(text, "{name:<20} {:>9} {:>10}", sums.cases, sums.delivered)?;
            write!(text, " {:>10}", sums.forbidden)?;
            for exempt in sums.exempt {
                write!(text, " {exempt:>10}")?;
            }
            writeln!(text)?;
        }
        writeln!(text, "delivered by {:?}", self.by)
    }
}
