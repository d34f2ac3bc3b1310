//! Random changes of entries against a model that only knows the entries in force now: on the host, with a clock that the test sets,
//! through the product's own state, tables and merging of values.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, prelude::*};
use sipguard::{
    policy::{Action, Entry, Origin, Policy, least_specific_ban},
    state::{Ban, BanLine, Bans, HOLDS, OwnEntry, Slots, State, Unban},
    tables::{
        Entries, Family, HostTables, Now, PrefixKey, Region, Tables, Word, banned, fills_cells,
        prefilter_words, value_of, with_own,
    },
};
use sipguard_ebpf::{
    abi::{self, Key, Layer, LinkKind, Value},
    verdict::judge,
};
use sipguard_tests::{
    frame::eth,
    reference::{Banned, Model, Own, expected},
};

const SECOND: u64 = 1_000_000_000;
/// By port: `sip` and `web` of the default policy.
const PORTS: [u16; 2] = [5060, 80];

/// What people and time do.
#[derive(Clone, Debug)]
enum Step {
    Say(IpNet, usize, Action, Option<u64>),
    TakeBack(IpNet, usize),
    /// One of two programs bans, or takes that back.
    Ban(IpNet, usize, Option<u64>),
    Unban(IpNet, usize),
    /// Another config file is put in force.
    Apply(Vec<(IpNet, usize, Action)>),
    /// The machine starts anew, which takes some seconds.
    Reboot(u64),
    Wait(u64),
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..4_u8, 0..4_u8).prop_map(|(third, fourth)| IpAddr::from([203, 0, third, fourth])),
        (0..4_u16, 0..4_u16)
            .prop_map(|(near, far)| { IpAddr::from([0x2001, 0xdb8, near, 0, 0, 0, 0, far]) }),
    ]
}

fn prefix() -> impl Strategy<Value = IpNet> {
    let lengths = prop_oneof![
        Just([0, 0]),
        Just([16, 32]),
        Just([22, 46]),
        Just([24, 48]),
        Just([31, 127]),
        Just([32, 128])
    ];
    (address(), lengths).prop_map(|(address, [v4, v6])| {
        let length = if address.is_ipv4() { v4 } else { v6 };
        IpNet::new_assert(address, length).trunc()
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Allow), Just(Action::Deny)]
}

fn config() -> impl Strategy<Value = Vec<(IpNet, usize, Action)>> {
    vec((prefix(), 0..2_usize, action()), 0..6)
}

fn step() -> impl Strategy<Value = Step> {
    let lasts = prop_oneof![1 => Just(None), 3 => (1..8_u64).prop_map(Some)];
    let banned = || {
        prefix().prop_filter("wide", |prefix| {
            prefix.prefix_len() >= least_specific_ban(*prefix)
        })
    };
    prop_oneof![
        4 => (banned(), 0..2_usize, lasts.clone())
            .prop_map(|(prefix, by, lasts)| Step::Ban(prefix, by, lasts)),
        2 => (banned(), 0..2_usize).prop_map(|(prefix, by)| Step::Unban(prefix, by)),
        8 => (prefix(), 0..2_usize, action(), lasts)
            .prop_map(|(prefix, service, action, lasts)| Step::Say(prefix, service, action, lasts)),
        2 => (prefix(), 0..2_usize).prop_map(|(prefix, service)| Step::TakeBack(prefix, service)),
        1 => config().prop_map(Step::Apply),
        1 => (1..5_u64).prop_map(Step::Reboot),
        6 => (1..4_u64).prop_map(Step::Wait),
    ]
}

/// A machine with its two clocks, its disk, and what is in the kernel.
struct Machine {
    now: Now,
    boots: u32,
    policy: Policy,
    slots: Slots,
    state: State,
    bans: Bans,
    tables: Tables,
}

/// Who bans.
const JAILS: [&str; 2] = ["sshd", "asterisk"];

impl Machine {
    fn new() -> Self {
        let policy = Policy {
            origins: vec![Origin {
                source: "all".to_owned(),
                file: None,
                prefixes: None,
            }],
            ..Policy::default()
        };
        let mut slots = Slots::default();
        slots.assign(["sip", "web"]).expect("two services");
        let now = Now {
            boot_ns: 1_000 * SECOND,
            wall: Timestamp::constant(1_700_000_000, 0),
        };
        let tables = Tables::compile(&policy, &slots, &[], Vec::new(), now).expect("it fits");
        Self {
            now,
            boots: 0,
            policy,
            slots,
            state: State::default(),
            bans: Bans::default(),
            tables,
        }
    }

    /// What the model's clock shows.
    fn wall(&self) -> u64 {
        u64::try_from(self.now.wall.as_nanosecond()).expect("after 1970")
    }

    fn wait(&mut self, seconds: u64) {
        self.now.boot_ns += seconds * SECOND;
        self.now.wall += SignedDuration::from_secs(seconds.cast_signed());
    }

    fn apply(&mut self) {
        self.look();
        self.state.drop_ended(self.now.boot_ns);
        self.bans.drop_ended(&self.state.clock, self.now.boot_ns);
        let State { entries, .. } = &self.state;
        let words = banned(&self.bans, self.now);
        self.tables =
            Tables::compile(&self.policy, &self.slots, entries, words, self.now).expect("it fits");
    }

    /// As `ban` and `unban` do it, for all services.
    fn ban(&mut self, line: BanLine, prefix: IpNet) {
        self.look();
        self.bans.say(line);
        let words = self.bans.of(prefix);
        let words: Vec<_> = words
            .filter_map(|ban| Word::of_ban(ban, self.now))
            .collect();
        let value = value_of(&words, 0, &[]);
        for service in 0..2 {
            let slot = self
                .slots
                .get(&self.service(service))
                .expect("a known service");
            match PrefixKey::new(prefix, slot, Layer::Live) {
                PrefixKey::V4(key) => {
                    set(&mut self.tables, |tables| &mut tables.entries4, key, value);
                }
                PrefixKey::V6(key) => {
                    set(&mut self.tables, |tables| &mut tables.entries6, key, value);
                }
            }
        }
    }

    /// The clock is always right here; see `clocks.rs`.
    fn look(&mut self) {
        let boot = self.boots.to_string();
        self.state.look_at_the_clock(self.now, &boot);
        assert_eq!(self.state.now(self.now.boot_ns), self.now);
    }

    fn service(&self, index: usize) -> String {
        self.policy.services[index].name.clone()
    }

    /// As a command does it: what has ended is forgotten, and every prefix concerned gets a new value.
    fn change(&mut self, prefix: IpNet, service: &str) {
        self.look();
        let ended = self.state.drop_ended(self.now.boot_ns);
        let ended = ended.into_iter().map(|entry| (entry.service, entry.prefix));
        let changes: Vec<_> = ended.chain([(service.to_owned(), prefix)]).collect();
        let state = self.state.clone();
        for ((service, prefix), own) in state.of(&changes) {
            let slot = self.slots.get(service).expect("a known service");
            match PrefixKey::new(prefix, slot, Layer::Hand) {
                PrefixKey::V4(key) => {
                    let value = with_own(self.tables.entries4.get(&key), own, self.now);
                    set(&mut self.tables, |tables| &mut tables.entries4, key, value);
                }
                PrefixKey::V6(key) => {
                    let value = with_own(self.tables.entries6.get(&key), own, self.now);
                    set(&mut self.tables, |tables| &mut tables.entries6, key, value);
                }
            }
            if fills_cells(prefix, self.tables.constants.prefilter_shift) {
                self.tidy(slot);
            }
        }
    }

    /// As `Generation::tidy` does it to the kernel's maps.
    fn tidy(&mut self, slot: u8) {
        let Tables {
            constants,
            entries4,
            entries6,
            prefilter,
            lengths,
        } = &mut self.tables;
        let mut region = Region::new(constants.prefilter_shift);
        let of_service = |service| service == slot;
        let keys4 = entries4.keys();
        let keys6 = entries6.keys();
        keys4
            .filter(|key| of_service(key.service()))
            .for_each(|key| region.add(key));
        keys6
            .filter(|key| of_service(key.service()))
            .for_each(|key| region.add(key));
        let first = usize::from(slot) * region.words.len();
        prefilter[first..first + region.words.len()].copy_from_slice(&region.words);
        lengths[usize::from(slot)] = region.lengths;
    }
}

/// As `Generation::set` does it to the kernel's maps: what leads to an entry stays when it goes.
fn set<A: Family>(
    tables: &mut Tables,
    entries: impl Fn(&mut Tables) -> &mut Entries<A>,
    key: Key<A>,
    value: Option<Value>,
) {
    if value.is_some() {
        for (word, bits) in prefilter_words(&key, tables.constants.prefilter_shift) {
            tables.prefilter[word as usize] |= bits;
        }
        let service = usize::from(key.service());
        A::mark_length(&mut tables.lengths[service], &key);
    }
    let said = &mut entries(tables).said;
    match (said.binary_search_by_key(&key, |&(key, _)| key), value) {
        (Ok(place), Some(value)) => said[place].1 = value,
        (Ok(place), None) => drop(said.remove(place)),
        (Err(place), Some(value)) => said.insert(place, (key, value)),
        (Err(_), None) => {}
    }
}

fn run(steps: &[Step], sources: &[IpAddr]) -> Result<(), TestCaseError> {
    let mut machine = Machine::new();
    let mut said: Vec<Own> = Vec::new();
    let mut bans = BTreeMap::new();
    for step in steps {
        match step.clone() {
            Step::Say(prefix, service, action, lasts) => {
                let until = lasts.map(|seconds| machine.wall() + seconds * SECOND);
                // The newest word wins; one with an end leaves what has none.
                said.retain(|own| {
                    (own.prefix, own.service) != (prefix, service)
                        || (until.is_some() && own.until.is_none())
                });
                said.push(Own {
                    prefix,
                    service,
                    action,
                    until,
                });
                let name = machine.service(service);
                let seconds = |seconds: u64| SignedDuration::from_secs(seconds.cast_signed());
                machine.state.add([OwnEntry {
                    prefix,
                    service: name.clone(),
                    action,
                    until: lasts.map(|lasts| machine.now.wall + seconds(lasts)),
                    lasts_in: None,
                    comment: None,
                    added: machine.now.wall,
                }]);
                machine.change(prefix, &name);
            }
            Step::TakeBack(prefix, service) => {
                said.retain(|own| (own.prefix, own.service) != (prefix, service));
                let name = machine.service(service);
                machine.state.remove(&[prefix], std::slice::from_ref(&name));
                machine.change(prefix, &name);
            }
            Step::Ban(prefix, by, lasts) => {
                let until = lasts.map(|seconds| machine.wall() + seconds * SECOND);
                bans.insert((prefix, by), Banned { prefix, until });
                let left = |seconds: u64| SignedDuration::from_secs(seconds.cast_signed());
                let ban = Ban {
                    prefix,
                    by: Some(JAILS[by].to_owned()),
                    until: lasts.map(|lasts| machine.now.wall + left(lasts)),
                    lasts_in: machine.boots.to_string(),
                    added: machine.now.wall,
                };
                machine.ban(BanLine::Ban(ban), prefix);
            }
            Step::Unban(prefix, by) => {
                bans.remove(&(prefix, by));
                let unban = Unban {
                    prefix: Some(prefix),
                    by: Some(JAILS[by].to_owned()),
                };
                machine.ban(BanLine::Unban(unban), prefix);
            }
            Step::Apply(entries) => {
                let entries = entries.into_iter().map(|(prefix, service, action)| Entry {
                    prefix,
                    service: u8::try_from(service).expect("two services"),
                    action,
                    origin: 0,
                });
                machine.policy.entries = entries.collect();
                machine.apply();
            }
            Step::Reboot(seconds) => {
                machine.wait(seconds);
                machine.now.boot_ns = 5 * SECOND;
                machine.boots += 1;
                machine.apply();
            }
            Step::Wait(seconds) => machine.wait(seconds),
        }
        let bans: Vec<_> = bans.values().copied().collect();
        hold(&machine, &said, &bans, sources, step)?;
    }
    // After the last end, what was timed is as if it had never been.
    machine.wait(100);
    machine.apply();
    // And as soon as the clock is sure.
    machine.wait(HOLDS.as_secs().unsigned_abs());
    machine.apply();
    let timed = machine.state.entries.iter().any(|own| own.until.is_some());
    let banned = machine.bans.iter().any(|ban| ban.until.is_some());
    prop_assert!(!timed && !banned);
    Ok(())
}

/// What the tables say of all sources now is what the model says.
fn hold(
    machine: &Machine,
    said: &[Own],
    bans: &[Banned],
    sources: &[IpAddr],
    step: &Step,
) -> Result<(), TestCaseError> {
    let ended = |own: &Own| own.until.is_some_and(|until| until <= machine.wall());
    let in_force: Vec<_> = said.iter().copied().filter(|own| !ended(own)).collect();
    let model = Model {
        policy: &machine.policy,
        own: &in_force,
        bans,
        now: machine.wall(),
    };
    let tables = HostTables::new(&machine.tables, machine.now.boot_ns);
    for source in sources {
        for port in PORTS {
            let frame = eth().ip(&source.to_string()).udp(port).bytes();
            let wanted = expected(&frame, LinkKind::Ethernet, &model);
            let found = judge(&*frame, &tables).1;
            prop_assert_eq!(
                found.reason,
                wanted.reason,
                "{}:{} after {:?}",
                source,
                port,
                step
            );
            let by_entry = matches!(found.reason, abi::Reason::Allowed | abi::Reason::Denied);
            prop_assert_eq!(by_entry.then_some(found.length), wanted.length);
            prop_assert_eq!(by_entry.then_some(found.layer), wanted.layer);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn only_the_entries_in_force_count(
        steps in vec(step(), 1..30),
        sources in vec(address(), 8),
    ) {
        run(&steps, &sources)?;
    }
}
