//! The alarm: somebody is dropped who was allowed a while ago, or whose neighbours are. Providers move, and callers are the first to notice.
//!
//! What a packet says is evidence, and never a verdict: an alarm lets nobody in. It asks for little where the address alone says much, and for
//! more where it says less:
//! - An address that was allowed itself (`allowed.rs`) is enough.
//! - A neighbour of one has to speak SIP, a request or an answer. A TCP connection that is dropped never gets to say anything: there he has to
//!   insist, [`INSISTS`] packets within a minute, which is what TCP does by itself and a port scanner does not.
//! - Whom a list or a program denies, which is no person's word, has to have been allowed himself; his neighbours are none of this.
//! - Whom a person denies is none of this: he has said so.
//!
//! Addresses can be forged. So there is one alarm a source of the config and service, told of once, whoever else knocks; a second time only where
//! an address was allowed itself, and those before were neighbours. It ends when what is known of the address decides, or when a day has passed
//! in which nobody has knocked.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    net::IpAddr,
    path::Path,
};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sipguard_ebpf::abi::Layer;

use super::{
    allowed::Allowed,
    happened::{Happened, Moved, Tie},
    kept,
    sketch::Sketch,
};
use crate::{lifecycle::Effect, policy::Action};

/// The file of alarms, in the folder of what runs; after a restart of the host, who knocks knocks again.
pub const FILE: &str = "moved.json";
/// So many packets without a word within a minute.
pub const INSISTS: u8 = 3;
/// How long an alarm stays after the last knock.
const STAYS: SignedDuration = SignedDuration::from_hours(24);
/// How many addresses are kept of one alarm: those that were allowed themselves first, then those that knock most.
const MOST: usize = 64;
/// How many that said nothing are watched.
const WATCHED: usize = 1024;

/// A packet of somebody who was dropped, and whom no person denies.
#[derive(Clone, Copy, Debug)]
pub struct Unsaid<'p> {
    /// When it came.
    pub time: Timestamp,
    /// To the ports of which service.
    pub service: &'p str,
    /// From where, as it says.
    pub source: IpAddr,
    /// What it says.
    pub says: Says<'p>,
    /// Whether a list or a program denies him.
    pub denied: bool,
}

/// What a packet says of who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says<'p> {
    /// It is SIP; of a request the method, of an answer none.
    Sip(Option<&'p str>),
    /// It is TCP, where a connection that is dropped never gets to say anything.
    NothingYet,
    /// Something else, or nothing.
    Nothing,
}

/// All alarms.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    /// By source and service.
    raised: BTreeMap<(String, String), Alarm>,
    /// All addresses of those that have more than there is room for.
    crowds: BTreeMap<(String, String), Box<Sketch<256>>>,
    /// Neighbours that have said nothing yet: how often they knocked, and since when.
    silent: HashMap<IpAddr, (u8, Timestamp)>,
    /// Whether something is to be written.
    changed: bool,
}

/// Who of one source of the config knocks at one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// The source, or `command line`.
    pub source: String,
    /// The service.
    pub service: String,
    /// When the first one knocked.
    pub since: Timestamp,
    /// Those who do, the one to look at first.
    pub addresses: Vec<Knocker>,
    /// How many others there are at least, for which there is no room.
    pub more: u64,
}

/// An address that is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knocker {
    /// The address.
    pub address: IpAddr,
    /// The entry that allowed it, or its neighbour's.
    pub entry: IpNet,
    /// When it was allowed last itself; null where its neighbour is.
    pub allowed_until: Option<Timestamp>,
    /// Whether a list or a program denies it now.
    #[serde(default)]
    pub denied: bool,
    /// The SIP method with which it knocks; null where it says none.
    pub method: Option<String>,
    /// When it knocked first.
    pub since: Timestamp,
    /// When it knocked last.
    pub last: Timestamp,
    /// How many of its packets were looked at.
    pub packets: u64,
}

impl Knocker {
    /// Whom to look at first.
    fn rank(&self) -> (bool, std::cmp::Reverse<u64>, Timestamp) {
        (
            self.allowed_until.is_none(),
            std::cmp::Reverse(self.packets),
            self.since,
        )
    }

    /// Whether an effect on it says what is to become of it: it is let in, or a person has said so. That a list or a program denies it is as
    /// much only for those who were never allowed themselves.
    pub fn is_settled_by(&self, effect: &Effect) -> bool {
        let is_said = effect.action == Action::Allow
            || effect.layer == Layer::Hand
            || self.allowed_until.is_none();
        effect.by.is_some() && is_said
    }

    fn tie(&self) -> Tie {
        match self.allowed_until {
            Some(until) if self.denied => Tie::Denied { until },
            Some(until) => Tie::Was { until },
            None => Tie::Neighbour { of: self.entry },
        }
    }
}

impl Alarm {
    /// The one to look at first.
    pub fn first(&self) -> Option<Moved> {
        let first = self.addresses.first()?;
        Some(Moved {
            provider: self.source.clone(),
            address: first.address,
            others: self.addresses.len() as u64 - 1 + self.more,
            service: self.service.clone(),
            method: first.method.clone(),
            since: first.since,
            tie: first.tie(),
        })
    }
}

impl Alarms {
    /// Those that were written before the agent was started anew. What can't be read is raised again by whoever knocks.
    pub fn read(folder: &Path) -> Self {
        let alarms = alarms(folder).into_iter();
        Self {
            raised: alarms
                .map(|alarm| ((alarm.source.clone(), alarm.service.clone()), alarm))
                .collect(),
            ..Self::default()
        }
    }

    /// Writes them, where something has changed since they were.
    ///
    /// # Errors
    /// Where they can't be written.
    pub fn write(&mut self, folder: &Path) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let alarms: Vec<_> = self.raised.values().collect();
        kept::write(folder, FILE, &alarms)?;
        self.changed = false;
        Ok(())
    }

    /// Notes somebody who may have moved. Returns what is to be told.
    pub fn note(&mut self, knock: &Unsaid<'_>, allowed: &Allowed) -> Option<Happened> {
        let Unsaid {
            time,
            service,
            source: address,
            says,
            denied,
        } = *knock;
        let (known, until) = match allowed.itself(service, address.into()) {
            Some(known) => (known, Some(known.until(time))),
            None if denied => return None,
            None => (allowed.neighbour(service, address.into())?, None),
        };
        if until.is_none() && !self.is_evident(knock) {
            return None;
        }
        let key = (known.source.to_owned(), service.to_owned());
        let alarm = self.raised.entry(key).or_insert_with_key(|key| Alarm {
            source: key.0.clone(),
            service: key.1.clone(),
            since: time,
            addresses: Vec::new(),
            more: 0,
        });
        self.changed = true;
        let was_quiet = alarm.addresses.is_empty();
        let had_one = alarm.addresses.iter().any(|it| it.allowed_until.is_some());
        let method = match says {
            Says::Sip(method) => method.map(str::to_owned),
            Says::NothingYet | Says::Nothing => None,
        };
        let mut addresses = alarm.addresses.iter_mut();
        if let Some(knocker) = addresses.find(|knocker| knocker.address == address) {
            knocker.last = time;
            knocker.packets += 1;
            knocker.method = method.or(knocker.method.take());
            // What was in force when it was looked at last was so until his first packet that was dropped, at most.
            knocker.allowed_until = knocker.allowed_until.or(until);
            knocker.denied = denied;
        } else {
            if alarm.addresses.len() == MOST {
                // They push each other out again and again, and are counted once.
                let key = (alarm.source.clone(), alarm.service.clone());
                let crowd = self.crowds.entry(key).or_insert_with(|| {
                    let mut crowd = Box::<Sketch<256>>::default();
                    let known = alarm.addresses.iter();
                    known.for_each(|it| crowd.note(&it.address.to_string()));
                    crowd
                });
                crowd.note(&address.to_string());
                let others = u64::from(crowd.least()).saturating_sub(MOST as u64);
                alarm.more = alarm.more.max(others);
                alarm.addresses.pop();
            }
            alarm.addresses.push(Knocker {
                address,
                entry: known.entry,
                allowed_until: until,
                denied,
                method,
                since: time,
                last: time,
                packets: 1,
            });
        }
        alarm.addresses.sort_by_key(Knocker::rank);
        let is_news = was_quiet || until.is_some() && !had_one;
        is_news
            .then(|| alarm.first())
            .flatten()
            .map(Happened::ProviderMoved)
    }

    /// Whether a neighbour's packet says enough.
    fn is_evident(&mut self, knock: &Unsaid<'_>) -> bool {
        match knock.says {
            Says::Sip(_) => return true,
            Says::Nothing => return false,
            Says::NothingYet => {}
        }
        let (time, address) = (knock.time, knock.source);
        let minute = SignedDuration::from_mins(1);
        let is_old = |since: Timestamp| time.duration_since(since) > minute;
        if self.silent.len() >= WATCHED && !self.silent.contains_key(&address) {
            self.silent.retain(|_, (_, since)| !is_old(*since));
            if self.silent.len() >= WATCHED {
                return false;
            }
        }
        let (packets, since) = self.silent.entry(address).or_insert((0, time));
        if is_old(*since) {
            (*packets, *since) = (0, time);
        }
        *packets = packets.saturating_add(1);
        *packets >= INSISTS
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Alarm> {
        self.raised.values()
    }

    /// Ends what is over: of addresses about which somebody has said something since, and of those that have not knocked for a day.
    pub fn settle(&mut self, now: Timestamp, is_decided: impl Fn(&str, &Knocker) -> bool) {
        for alarm in self.raised.values_mut() {
            let before = alarm.addresses.len();
            alarm.addresses.retain(|knocker| {
                now.duration_since(knocker.last) <= STAYS && !is_decided(&alarm.service, knocker)
            });
            self.changed |= alarm.addresses.len() != before;
            if alarm.addresses.len() < MOST {
                // Whoever goes on has room.
                alarm.more = 0;
            }
        }
        self.raised.retain(|_, alarm| !alarm.addresses.is_empty());
        let raised = &self.raised;
        self.crowds
            .retain(|key, _| raised.get(key).is_some_and(|alarm| alarm.more > 0));
    }
}

/// Those that were written last; none where there is no such file, or nobody may read it.
pub fn alarms(folder: &Path) -> Vec<Alarm> {
    let text = fs::read(folder.join(FILE)).unwrap_or_default();
    let mut alarms: Vec<Alarm> = serde_json::from_slice(&text).unwrap_or_default();
    alarms.retain(|alarm| !alarm.addresses.is_empty());
    alarms
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const SIP: &str = "sip";

    fn allowed() -> Allowed {
        Allowed::of(
            Timestamp::from_second(1_780_000_000).unwrap(),
            &[
                (SIP, "198.51.100.7/32", "trunk"),
                (SIP, "203.0.113.0/24", "office"),
                (SIP, "2001:db8::7/128", "trunk"),
            ],
        )
    }

    fn event(second: i64, source: IpAddr, method: Option<&str>) -> Unsaid<'_> {
        Unsaid {
            time: Timestamp::from_second(1_780_000_100 + second).unwrap(),
            service: SIP,
            source,
            says: match method {
                Some(_) => Says::Sip(method),
                None => Says::Nothing,
            },
            denied: false,
        }
    }

    fn v4(last: [u8; 4]) -> IpAddr {
        last.into()
    }

    #[test]
    fn a_neighbour_that_speaks_sip_is_told_of_once() {
        let (allowed, mut alarms) = (allowed(), Alarms::default());
        let mut note = |event: &Unsaid<'_>| alarms.note(event, &allowed);
        let moved = note(&event(0, v4([198, 51, 100, 9]), Some("INVITE"))).unwrap();
        let sentence = moved.sentence();
        assert!(
            sentence.starts_with("trunk seems to have moved: 198.51.100.9, next to 198.51.100.7, has knocked with INVITE since"),
            "{sentence}"
        );
        for (second, last) in [(1, 9), (2, 10), (3, 11), (4, 9)] {
            let again = event(second, v4([198, 51, 100, last]), Some("OPTIONS"));
            assert_eq!(note(&again), None);
        }
        let alarm = alarms.iter().next().unwrap();
        let addresses = alarm.addresses.iter();
        let addresses: Vec<_> = addresses.map(|it| (it.address, it.packets)).collect();
        let wanted = [(9, 3), (10, 1), (11, 1)].map(|(last, it)| (v4([198, 51, 100, last]), it));
        assert_eq!(addresses, wanted);
        assert_eq!(alarm.first().unwrap().others, 2);
    }

    #[test]
    fn whoever_was_allowed_himself_need_say_nothing_and_comes_first() {
        let (allowed, mut alarms) = (allowed(), Alarms::default());
        alarms.note(&event(0, v4([198, 51, 100, 9]), Some("INVITE")), &allowed);
        let moved = alarms.note(&event(1, v4([198, 51, 100, 7]), None), &allowed);
        let sentence = moved.expect("told of again").sentence();
        assert!(
            sentence
                .starts_with("trunk seems to have moved: 198.51.100.7, which was allowed until"),
            "{sentence}"
        );
        assert!(sentence.contains(", and 1 more; `sipguard allow 198.51.100.7"));
        let again = event(2, v4([198, 51, 100, 7]), None);
        assert_eq!(alarms.note(&again, &allowed), None);
        // Another source's.
        let office = event(3, v4([203, 0, 113, 200]), None);
        assert!(alarms.note(&office, &allowed).is_some());
        assert_eq!(alarms.iter().count(), 2);
    }

    #[test]
    fn strangers_and_silent_neighbours_are_no_alarm() {
        let (allowed, mut alarms) = (allowed(), Alarms::default());
        let mut quiet = |knock: Unsaid<'_>| assert_eq!(alarms.note(&knock, &allowed), None);
        quiet(event(0, v4([198, 51, 101, 7]), Some("INVITE")));
        quiet(event(0, v4([192, 0, 2, 7]), Some("INVITE")));
        // In another service.
        quiet(Unsaid {
            service: "web",
            ..event(0, v4([198, 51, 100, 7]), Some("INVITE"))
        });
        // A neighbour that says nothing, or something else.
        quiet(event(0, v4([198, 51, 100, 9]), None));
        assert_eq!(alarms.iter().count(), 0);
        // An answer is as good as a request.
        let answer = Unsaid {
            says: Says::Sip(None),
            ..event(0, v4([198, 51, 100, 9]), None)
        };
        assert!(alarms.note(&answer, &allowed).is_some());
    }

    #[test]
    fn over_tcp_a_neighbour_has_to_insist() {
        let (allowed, mut alarms) = (allowed(), Alarms::default());
        let mut knocks = |second, last| {
            let event = Unsaid {
                says: Says::NothingYet,
                ..event(second, v4([198, 51, 100, last]), None)
            };
            alarms.note(&event, &allowed).is_some()
        };
        assert_eq!(
            [0, 1, 3].map(|second| knocks(second, 9)),
            [false, false, true]
        );
        assert_eq!(
            [0, 61, 122, 183].map(|second| knocks(second, 10)),
            [false; 4]
        );
        assert_eq!([1, 2, 3, 4].map(|last| knocks(0, last)), [false; 4]);
    }

    #[test]
    fn a_flood_of_forged_neighbours_is_one_alarm_that_stays_small() {
        let (allowed, mut alarms) = (allowed(), Alarms::default());
        let real = IpAddr::from("2001:db8::9".parse::<Ipv6Addr>().unwrap());
        let mut told = 0;
        for number in 0..20_000_u64 {
            let second = i64::try_from(number / 100).unwrap();
            let bits = u128::from(0x2001_0db8_u32) << 96 | u128::from(number * 7919 + 100);
            let forged = IpAddr::from(Ipv6Addr::from_bits(bits));
            told += usize::from(
                alarms
                    .note(&event(second, forged, Some("INVITE")), &allowed)
                    .is_some(),
            );
            let silent = Unsaid {
                says: Says::NothingYet,
                ..event(second, forged, None)
            };
            told += usize::from(alarms.note(&silent, &allowed).is_some());
            if number % 10 == 0 {
                told += usize::from(
                    alarms
                        .note(&event(second, real, Some("INVITE")), &allowed)
                        .is_some(),
                );
            }
        }
        assert_eq!(told, 1);
        let alarm = alarms.iter().next().unwrap();
        assert_eq!(alarm.addresses.len(), MOST);
        assert!(alarm.more > 10_000);
        assert!(alarm.more <= 20_000 - MOST as u64);
        assert!(alarms.silent.len() <= WATCHED);
        // Who goes on is the one to look at.
        assert_eq!(alarm.addresses[0].address, real);
    }

    #[test]
    fn those_that_push_each_other_out_are_counted_once() {
        let (allowed, mut alarms) = (allowed(), Alarms::default());
        for turn in 0..8 {
            for last in 100..180 {
                let knocks = event(turn, v4([198, 51, 100, last]), Some("OPTIONS"));
                alarms.note(&knocks, &allowed);
            }
        }
        let alarm = alarms.iter().next().unwrap();
        assert_eq!((alarm.addresses.len(), alarm.more), (MOST, 16));
        assert_eq!(alarm.first().unwrap().others, 79);
        // Who is decided on makes room.
        let decided = alarm.addresses[0].address;
        alarms.settle(event(8, decided, None).time, |_, it| it.address == decided);
        let alarm = alarms.iter().next().unwrap();
        assert_eq!((alarm.addresses.len(), alarm.more), (MOST - 1, 0));
    }

    #[test]
    fn whom_a_list_denies_has_to_have_been_allowed_himself() {
        let (allowed, mut alarms) = (allowed(), Alarms::default());
        let [trunk, neighbour] = [7, 9].map(|last| v4([198, 51, 100, last]));
        let denied = |source| Unsaid {
            denied: true,
            ..event(0, source, Some("INVITE"))
        };
        assert_eq!(alarms.note(&denied(neighbour), &allowed), None);
        let told = alarms.note(&denied(trunk), &allowed).unwrap().sentence();
        assert!(
            told.starts_with("trunk is kept out: 198.51.100.7, which was allowed until"),
            "{told}"
        );
        let effect = |action, by: Option<&str>, layer| Effect {
            prefix: trunk.into(),
            service: SIP.to_owned(),
            action,
            by: by.map(|by| by.parse().unwrap()),
            layer,
            exceptions: 0,
            enforced: true,
        };
        let one = Some("198.51.100.7/32");
        let mut knocker = alarms.iter().next().unwrap().addresses[0].clone();
        for (action, by, layer, itself, its_neighbour) in [
            (Action::Deny, None, Layer::Hand, false, false),
            (Action::Deny, one, Layer::Live, false, true),
            (Action::Deny, one, Layer::Hand, true, true),
            (Action::Allow, one, Layer::Live, true, true),
            (Action::Allow, one, Layer::Hand, true, true),
        ] {
            let effect = effect(action, by, layer);
            assert_eq!(knocker.is_settled_by(&effect), itself, "{effect:?}");
            let until = knocker.allowed_until.take();
            assert_eq!(knocker.is_settled_by(&effect), its_neighbour, "{effect:?}");
            knocker.allowed_until = until;
        }
    }

    #[test]
    fn it_ends_when_somebody_has_decided_or_nobody_knocks_any_more() {
        let (allowed, mut alarms) = (allowed(), Alarms::default());
        let [one, other] = [9, 10].map(|last| v4([198, 51, 100, last]));
        let at = |second| event(second, one, None).time;
        alarms.note(&event(0, one, Some("INVITE")), &allowed);
        alarms.note(&event(3600, other, Some("INVITE")), &allowed);
        alarms.settle(at(3600), |_, knocker| knocker.address == one);
        let left: Vec<_> = alarms.iter().flat_map(|it| &it.addresses).collect();
        assert_eq!(
            left.iter().map(|it| it.address).collect::<Vec<_>>(),
            [other]
        );
        alarms.settle(at(3600 + 86_400), |_, _| false);
        assert_eq!(alarms.iter().count(), 1);
        alarms.settle(at(3601 + 86_400), |_, _| false);
        assert_eq!(alarms.iter().count(), 0);
        // Who comes again is news.
        let again = event(200_000, one, Some("INVITE"));
        assert!(alarms.note(&again, &allowed).is_some());
    }

    #[test]
    fn what_is_written_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (allowed, mut alarms) = (allowed(), Alarms::read(folder.path()));
        let knock = event(0, v4([198, 51, 100, 9]), Some("INVITE\u{1b}[2J"));
        assert!(alarms.note(&knock, &allowed).is_some());
        alarms.write(folder.path()).unwrap();
        let mut read = Alarms::read(folder.path());
        assert_eq!(read.raised, alarms.raised);
        assert_eq!(read.note(&knock, &allowed), None, "told of before");
        fs::write(folder.path().join(FILE), "[{").unwrap();
        assert_eq!(Alarms::read(folder.path()).iter().count(), 0);
    }
}
