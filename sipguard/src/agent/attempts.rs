//! What those who knock are trying: scan, brute force, toll fraud. Recognised by what is kept of them ([`Knock`]), from packets that were to be
//! dropped; nothing is decided by it. A packet says what its sender likes, and his address may be forged.
//!
//! | attempt | recognised by |
//! | --- | --- |
//! | scan | a User-Agent of a known scanner; or [`PORTS`] different guarded ports |
//! | brute force | [`USERS`] different users in REGISTER, or looked for with other methods; or [`REGISTERS`] REGISTERs of one user told of within a minute |
//! | toll fraud | one number dialled in [`PREFIXES`] ways; or a high-risk number dialled once; or [`NUMBERS`] different numbers dialled |
//!
//! The kernel tells of a source once a second. So a minute is at most sixty packets of it, however many it sends.
//!
//! The thresholds leave alone what honest people do who are not listed. A phone that gets no answer sends a REGISTER eleven times in 32 seconds
//! (RFC 3261 section 17.1.2.2), the first three within two seconds, and begins anew; that is some eighteen that are told of in a minute. Its Call-ID
//! tells nothing: svcrack guesses all its passwords with one Call-ID and one CSeq, too. An office that has moved has some phones. A provider that
//! has moved calls numbers of this gateway, which are not high-risk.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use sipguard_lists::said::Said;

use super::knocks::{Attempted, Knock, Number};

/// So many different guarded ports are a scan.
pub const PORTS: usize = 3;
/// So many different users are guessed, not known.
pub const USERS: u32 = 12;
/// So many REGISTERs of one user told of in a minute are no phone's.
pub const REGISTERS: u32 = 24;
/// One number in so many ways is somebody who looks for the way out.
pub const PREFIXES: u32 = 3;
/// So many different numbers are no caller's.
pub const NUMBERS: u32 = 10;
/// A number that so many sources dial is looked for by one who has many addresses.
pub const SOURCES: usize = 3;

/// What User-Agents of scanners contain, in small letters. Each is what a program sends that looks for gateways, unless it is told otherwise:
/// sipvicious and its offspring first.
const SCANNERS: [&str; 12] = [
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sundayddr",
    "sip-scan",
    "sipscan",
    "sipcli",
    "vaxsipuseragent",
    "vaxipuseragent",
    "pplsip",
    "siparmyknife",
    "sivus",
];

impl Attempted {
    /// All of them, the worst one last.
    pub const ALL: [Self; 3] = [Self::Scan, Self::BruteForce, Self::TollFraud];

    /// In JSON, metrics and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::BruteForce => "brute_force",
            Self::TollFraud => "toll_fraud",
        }
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::BruteForce => "brute force",
            Self::TollFraud => "toll fraud",
        }
    }
}

/// What a source tries, and by what that is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt<'k> {
    /// It looks for gateways.
    Scan {
        /// A scanner's User-Agent.
        user_agent: Option<&'k str>,
        /// How many different guarded ports it knocked at.
        ports: usize,
    },
    /// It guesses users and passwords.
    BruteForce {
        /// How many different users, at least.
        users: u32,
        /// How many REGISTERs of one user were told of in its busiest minute, at least.
        in_a_minute: u32,
    },
    /// It tries to make calls that somebody else pays.
    TollFraud {
        /// A number that it dialled: a high-risk one where there is one.
        number: Option<&'k Number>,
        /// How many different numbers, at least.
        numbers: u32,
        /// In how many ways it dialled one of them.
        prefixes: u32,
        /// How many packets were told of that dialled a high-risk number.
        high_risk: u32,
    },
}

impl Attempt<'_> {
    /// What it is.
    pub fn what(&self) -> Attempted {
        match self {
            Self::Scan { .. } => Attempted::Scan,
            Self::BruteForce { .. } => Attempted::BruteForce,
            Self::TollFraud { .. } => Attempted::TollFraud,
        }
    }
}

/// The evidence.
impl fmt::Display for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Scan {
                user_agent: Some(agent),
                ..
            } => write!(f, "User-Agent {}", Said(agent)),
            Self::Scan { ports, .. } => write!(f, "{ports} guarded ports"),
            Self::BruteForce { users, in_a_minute } if in_a_minute < REGISTERS => {
                write!(f, "{users} users")
            }
            Self::BruteForce { users, in_a_minute } => write!(
                f,
                "{users} {}, {in_a_minute} REGISTERs of one in a minute",
                if users == 1 { "user" } else { "users" }
            ),
            Self::TollFraud {
                number,
                numbers,
                prefixes,
                high_risk,
            } => {
                let number = number.map_or_else(|| "a number".to_owned(), ToString::to_string);
                write!(f, "{number}")?;
                if prefixes >= PREFIXES {
                    write!(f, " in {prefixes} ways")?;
                }
                if high_risk > 0 {
                    write!(f, ", high-risk")?;
                }
                if numbers > 1 {
                    write!(f, ", {numbers} numbers")?;
                }
                Ok(())
            }
        }
    }
}

/// `+972 595123456 (Israel)`, as far as it is known.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number.as_deref().or(self.dialled.as_deref()) {
            Some(number) => write!(f, "{}", Said(number))?,
            None => f.write_str("a hidden number")?,
        }
        match &self.country {
            Some(country) => write!(f, " ({})", Said(country)),
            None => Ok(()),
        }
    }
}

/// What a source tries, the worst one last.
pub fn of(knock: &Knock) -> Vec<Attempt<'_>> {
    let mut attempts = Vec::new();
    let mut agents = knock.user_agents.iter().map(|seen| &*seen.what);
    let user_agent = agents.find(|agent| is_scanner(agent));
    let ports = knock.ports.iter().count();
    if user_agent.is_some() || ports >= PORTS {
        attempts.push(Attempt::Scan { user_agent, ports });
    }
    if let Some(registering) = &knock.registering {
        let (users, in_a_minute) = (registering.users(), registering.busiest_minute());
        if users >= USERS || in_a_minute >= REGISTERS {
            attempts.push(Attempt::BruteForce { users, in_a_minute });
        }
    }
    if let Some(dialling) = &knock.dialling {
        let (numbers, prefixes) = (dialling.numbers(), dialling.prefixes());
        let high_risk = dialling.high_risk();
        if high_risk > 0 || prefixes >= PREFIXES || numbers >= NUMBERS {
            let all = || knock.numbers.iter().map(|seen| &seen.what);
            attempts.push(Attempt::TollFraud {
                number: all()
                    .find(|number| number.high_risk)
                    .or(knock.numbers.most()),
                numbers,
                prefixes,
                high_risk,
            });
        }
    }
    attempts
}

/// What of that was not told of yet, and is from now on.
pub fn new(knock: &mut Knock) -> Vec<Attempted> {
    let mut new: Vec<_> = of(knock).iter().map(Attempt::what).collect();
    new.retain(|attempt| !knock.attempted.contains(attempt));
    knock.attempted.extend(&new);
    new
}

fn is_scanner(agent: &str) -> bool {
    let agent = agent.to_ascii_lowercase();
    SCANNERS.iter().any(|scanner| agent.contains(scanner))
}

/// What all sources try together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Each attempt that was made.
    pub attempts: BTreeMap<Attempted, Sources>,
    /// Numbers that were dialled, those that most sources dialled first.
    pub numbers: Vec<DialledNumber>,
}

/// How many sources, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// How many.
    pub sources: usize,
    /// When one of them was told of first.
    pub first: Timestamp,
    /// When one of them was told of last.
    pub last: Timestamp,
}

/// A number that was dialled, by whomever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialledNumber {
    /// One of the ways in which it was.
    pub number: Number,
    /// By how many sources.
    pub sources: usize,
    /// In how many ways, as far as they are kept.
    pub prefixes: usize,
}

impl DialledNumber {
    /// Whether it is toll fraud, whoever dials it: each of many addresses may have tried one way alone.
    pub fn is_toll_fraud(&self) -> bool {
        self.number.high_risk || self.prefixes >= PREFIXES as usize || self.sources >= SOURCES
    }
}

/// Takes together what these sources try. Numbers that are hidden can't be told apart, and are not among it.
pub fn sum<'k>(knocks: impl IntoIterator<Item = &'k Knock>) -> Sum {
    #[derive(Default)]
    struct Dialled<'k> {
        number: Option<&'k Number>,
        sources: usize,
        ways: Vec<&'k str>,
    }
    let mut sum = Sum::default();
    let mut numbers = BTreeMap::<String, Dialled<'_>>::new();
    for knock in knocks {
        for attempt in of(knock) {
            let sources = sum.attempts.entry(attempt.what()).or_insert(Sources {
                sources: 0,
                first: knock.first,
                last: knock.last,
            });
            sources.sources += 1;
            sources.first = sources.first.min(knock.first);
            sources.last = sources.last.max(knock.last);
        }
        let mut own = Vec::new();
        for seen in knock.numbers.iter() {
            let Some(way) = seen.what.dialled.as_deref() else {
                continue;
            };
            let tail = seen.what.tail();
            let dialled = numbers.entry(tail.clone()).or_default();
            dialled.number.get_or_insert(&seen.what);
            if !dialled.ways.contains(&way) {
                dialled.ways.push(way);
            }
            if !own.contains(&tail) {
                dialled.sources += 1;
                own.push(tail);
            }
        }
    }
    sum.numbers = numbers
        .into_values()
        .filter_map(|dialled| {
            Some(DialledNumber {
                number: dialled.number?.clone(),
                sources: dialled.sources,
                prefixes: dialled.ways.len(),
            })
        })
        .collect();
    sum.numbers
        .sort_by_key(|number| std::cmp::Reverse((number.sources, number.prefixes)));
    sum
}

#[cfg(test)]
mod tests {
    use sipguard_ebpf::abi::{Protocol, Reason};

    use super::*;
    use crate::{agent::knocks::Knocks, events::Event, policy::Hide, sip::Summary};

    fn event(source: &str, second: i64, port: u16, sip: Option<Summary>) -> Event {
        Event {
            time: Timestamp::from_second(1_780_000_000 + second).unwrap(),
            interface: "eth0".to_owned(),
            service: Some("sip".to_owned()),
            reason: Reason::Unlisted,
            action: Reason::Unlisted.action(),
            enforced: true,
            source: Some(source.parse().unwrap()),
            source_port: Some(5061),
            destination: Some([192, 0, 2, 1].into()),
            port: Some(port),
            protocol: Some(Protocol::Udp),
            length: 400,
            left_out: 0,
            sip,
            bytes: Vec::new(),
        }
    }

    fn request(method: &str) -> Summary {
        Summary {
            method: Some(method.to_owned()),
            user_agent: Some("Telephone 1.0".to_owned()),
            ..Summary::default()
        }
    }

    fn register(user: &str) -> Summary {
        Summary {
            from: Some(user.to_owned()),
            ..request("REGISTER")
        }
    }

    fn invite(dialled: &str, high_risk: bool) -> Summary {
        Summary {
            user: Some(dialled.to_owned()),
            number: Some(dialled.to_owned()),
            high_risk,
            ..request("INVITE")
        }
    }

    const SOURCE: &str = "198.51.100.7";

    /// What is recognised after these, one every `pause` seconds.
    fn after(pause: i64, said: impl IntoIterator<Item = Summary>) -> Vec<String> {
        let mut knocks = Knocks::default();
        for (number, sip) in (0..).zip(said) {
            knocks.note(
                &event(SOURCE, number * pause, 5060, Some(sip)),
                Hide::default(),
            );
        }
        let knock = knocks.iter().next().unwrap();
        let told = of(knock)
            .into_iter()
            .map(|it| format!("{}: {it}", it.what().words()));
        told.collect()
    }

    #[test]
    fn scanners_are_known_by_what_they_say_and_where_they_knock() {
        let scanner = Summary {
            user_agent: Some("Friendly-Scanner".to_owned()),
            ..request("OPTIONS")
        };
        assert_eq!(after(1, [scanner]), ["scan: User-Agent Friendly-Scanner"]);
        assert_eq!(after(1, [request("OPTIONS")]), [""; 0]);
        let mut knocks = Knocks::default();
        for port in [5060, 5061, 80] {
            knocks.note(&event(SOURCE, 0, port, None), Hide::default());
        }
        let told: Vec<_> = of(knocks.iter().next().unwrap())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(told, ["3 guarded ports"]);
    }

    #[test]
    fn who_guesses_users_or_passwords_is_told_from_a_phone() {
        let users = |number: u32| (100..100 + number).map(|user| register(&user.to_string()));
        // As many different ones as can be told apart are fewer than there were.
        assert_eq!(after(30, users(20)).len(), 1);
        assert_eq!(after(30, users(11)), [""; 0]);
        // svcrack: one user, as fast as it goes.
        let passwords = vec![register("100"); 30];
        let told = after(1, passwords);
        assert!(told[0].starts_with("brute force: 1 user, "), "{told:?}");
        // A phone that is not let in, and that the kernel tells of every three seconds, for days.
        assert_eq!(after(3, vec![register("100"); 5_000]), [""; 0]);
        // An office of ten, all of them at once.
        assert_eq!(after(1, users(10).cycle().take(5_000)), [""; 0]);
        // Looked for with OPTIONS and INVITE.
        for method in ["OPTIONS", "INVITE"] {
            let looked_for = (100..140).map(|user: u32| Summary {
                user: Some(user.to_string()),
                number: Some(user.to_string()),
                ..request(method)
            });
            assert!(after(30, looked_for)[0].starts_with("brute force: "));
        }
    }

    #[test]
    fn toll_fraud_is_known_by_prefixes_countries_and_numbers() {
        let prefixes = |all: &[&str]| {
            let dialled = all
                .iter()
                .map(|prefix| invite(&format!("{prefix}972595123456"), false));
            dialled.collect::<Vec<_>>()
        };
        assert_eq!(
            after(1, prefixes(&["00", "011", "900", "+"])),
            ["toll fraud: 00972595123456 in 4 ways"]
        );
        // Two ways, and again and again, are a caller.
        let caller = prefixes(&["00", "+"]).into_iter().cycle().take(100);
        assert_eq!(after(1, caller), [""; 0]);
        assert_eq!(
            after(
                1,
                [invite("4930123456", false), invite("0088213000000", true)]
            ),
            ["toll fraud: 0088213000000, high-risk, 2 numbers"]
        );
        let numbers =
            |number: u32| (0..number).map(|it| invite(&format!("49301234{it:03}"), false));
        assert_eq!(after(30, numbers(9)), [""; 0]);
        assert_eq!(after(30, numbers(20)).len(), 1);
        // An extension is no number.
        assert_eq!(
            after(
                1,
                prefixes(&["1", "2", "3"]).into_iter().map(|sip| Summary {
                    number: Some("123".to_owned()),
                    ..sip
                })
            ),
            [""; 0]
        );
    }

    #[test]
    fn each_attempt_is_new_once() {
        let mut knocks = Knocks::default();
        let mut told = Vec::new();
        for prefix in 0..10 {
            let sip = Summary {
                user_agent: Some("friendly-scanner".to_owned()),
                ..invite(&format!("{prefix}00972595123456"), false)
            };
            let knock = knocks.note(&event(SOURCE, prefix, 5060, Some(sip)), Hide::default());
            told.push(new(knock.unwrap()));
        }
        assert_eq!(told[0], [Attempted::Scan]);
        assert_eq!(told[2], [Attempted::TollFraud]);
        assert_eq!(told.concat().len(), 2);
    }

    #[test]
    fn what_many_sources_try_together_is_seen_in_the_sum() {
        let mut knocks = Knocks::default();
        for (second, last) in (0..).zip(["7", "8", "9"]) {
            let dialled = format!("{last}00972595123456");
            let source = format!("198.51.100.{last}");
            knocks.note(
                &event(&source, second, 5060, Some(invite(&dialled, false))),
                Hide::default(),
            );
        }
        knocks.note(
            &event(SOURCE, 9, 5060, Some(invite("4930123456", false))),
            Hide::default(),
        );
        let together = sum(knocks.iter());
        assert!(together.attempts.is_empty(), "{together:?}");
        let [first, second] = &together.numbers[..] else {
            panic!("{together:?}");
        };
        assert_eq!((first.sources, first.prefixes), (3, 3));
        assert!(first.is_toll_fraud() && !second.is_toll_fraud());

        knocks.note(
            &event(SOURCE, 20, 5060, Some(invite("0088213000000", true))),
            Hide::default(),
        );
        let fraud = sum(knocks.iter()).attempts[&Attempted::TollFraud];
        assert_eq!(fraud.sources, 1);
        assert_eq!(fraud.last.as_second() - fraud.first.as_second(), 20);
    }

    #[test]
    fn nothing_that_strangers_say_comes_through() {
        let sip = Summary {
            user_agent: Some("friendly-scanner\x1b[2J\r\n<b>".to_owned()),
            country: Some("\u{202e}x".to_owned()),
            ..invite("0088213\x07000000\n", true)
        };
        for told in after(1, [sip]) {
            assert!(
                told.chars().all(|letter| (' '..='~').contains(&letter)),
                "{told:?}"
            );
            assert!(!told.contains('<'));
        }
    }
}
