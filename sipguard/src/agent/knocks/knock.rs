//! What is kept of one source. However much it says, it takes some three kilobytes at most.

use std::net::IpAddr;

use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::few::{Few, OVERHEAD, Sized};
use crate::{
    agent::sketch::{self, digest},
    events::Event,
    policy::Hide,
    sip::Summary,
};

/// As many bytes of a User-Agent are kept as [`Said`](sipguard_lists::said::Said) would show.
const AGENT: usize = 64;
/// As many bytes of any other text.
const WORD: usize = 32;
/// So many of the last digits say which number it is, whatever is dialled in front of it.
const TAIL: usize = 8;
/// From so many digits on it is a telephone number, and no extension.
const TELEPHONE: usize = 7;
/// Of users and of numbers.
type Sketch = sketch::Sketch<4>;
/// Ways in which numbers were dialled lately, to be compared with the next one.
const LATELY: usize = 8;

/// What somebody tries to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempted {
    /// He looks for gateways.
    Scan,
    /// He guesses users and passwords.
    BruteForce,
    /// He tries to make calls that somebody else pays.
    TollFraud,
}

/// A source that knocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    /// Its address, which may be forged.
    pub source: IpAddr,
    /// When it was told of first.
    pub first: Timestamp,
    /// When it was told of last.
    pub last: Timestamp,
    /// How many of its packets were told of.
    pub told: u64,
    /// In how many different minutes it was told of.
    pub minutes: u32,
    /// The services that it knocked at.
    #[serde(default, skip_serializing_if = "Few::is_empty")]
    pub services: Few<CompactString, 4>,
    /// The ports.
    #[serde(default, skip_serializing_if = "Few::is_empty")]
    pub ports: Few<u16, 6>,
    /// SIP methods, and statuses of answers.
    #[serde(default, skip_serializing_if = "Few::is_empty")]
    pub methods: Few<CompactString, 6>,
    /// What it says that it is.
    #[serde(default, skip_serializing_if = "Few::is_empty")]
    pub user_agents: Few<CompactString, 3>,
    /// Who it says that it is, or wants to know of.
    #[serde(default, skip_serializing_if = "Few::is_empty")]
    pub users: Few<CompactString, 6>,
    /// Numbers that it dialled.
    #[serde(default, skip_serializing_if = "Few::is_empty")]
    pub numbers: Few<Number, 6>,
    /// How it registers, or looks for users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registering: Option<Box<Registering>>,
    /// How it dials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialling: Option<Box<Dialling>>,
    /// What it was seen to try, so that it is told of once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempted: Vec<Attempted>,
}

/// A number that was dialled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number {
    /// As it was dialled; `None` where numbers are hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialled: Option<CompactString>,
    /// As E.164 has it, as far as that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<CompactString>,
    /// The country that it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<CompactString>,
    /// Whether calls there are what toll fraud is for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub high_risk: bool,
}

/// How a source registers, or looks for users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registering {
    users: Sketch,
    busiest: u32,
    /// When this minute began, in seconds since 1970: with the first REGISTER after the one before.
    #[serde(skip)]
    minute: i64,
    /// The user who came most often in it, by his digest, and how much more often than all others: at least as often as that.
    #[serde(skip)]
    lately: (u32, u32),
}

impl Registering {
    /// How many different users it tried, at least; more than 256 can't be told.
    pub fn users(&self) -> u32 {
        self.users.least()
    }

    /// How many REGISTERs of one and the same user were told of in its busiest minute, at least.
    pub fn busiest_minute(&self) -> u32 {
        self.busiest
    }

    /// Returns whether more is known of it than before.
    fn note(&mut self, user: &str) -> bool {
        let before = self.users;
        self.users.note(user);
        self.users != before
    }

    fn note_register(&mut self, user: &str, time: Timestamp) -> bool {
        let second = time.as_second();
        if !(self.minute..self.minute + 60).contains(&second) {
            self.minute = second;
            self.lately = (0, 0);
        }
        let user = digest(user);
        let (most, times) = &mut self.lately;
        if *most == user {
            *times += 1;
        } else if *times == 0 {
            self.lately = (user, 1);
        } else {
            *times -= 1;
        }
        let is_busier = self.lately.1 > self.busiest;
        self.busiest = self.busiest.max(self.lately.1);
        is_busier
    }
}

/// How a source dials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialling {
    numbers: Sketch,
    prefixes: u32,
    high_risk: u32,
    /// Digests of a number and of the way in which it was dialled.
    #[serde(skip)]
    lately: Vec<(u32, u32)>,
}

impl Dialling {
    /// How many different numbers it dialled, at least, whatever stood in front of them.
    pub fn numbers(&self) -> u32 {
        self.numbers.least()
    }

    /// In how many ways it dialled one and the same number: with 00, 900, 011 and others in front of it.
    pub fn prefixes(&self) -> u32 {
        self.prefixes
    }

    /// How many packets were told of that dialled a high-risk number.
    pub fn high_risk(&self) -> u32 {
        self.high_risk
    }

    /// Returns whether more is known of it than before.
    fn note(&mut self, dialled: &str, high_risk: bool) -> bool {
        let before = (self.numbers, self.prefixes, self.high_risk);
        let tail = tail(dialled);
        self.numbers.note(&tail);
        self.high_risk = self.high_risk.saturating_add(high_risk.into());
        let way = (digest(&tail), digest(dialled));
        if !self.lately.contains(&way) {
            if self.lately.len() >= LATELY {
                self.lately.remove(0);
            }
            self.lately.push(way);
            let same = self.lately.iter().filter(|(number, _)| *number == way.0);
            let same = u32::try_from(same.count()).unwrap_or(u32::MAX);
            self.prefixes = self.prefixes.max(same);
        }
        before != (self.numbers, self.prefixes, self.high_risk)
    }
}

/// The digits of a number, without what people write between them.
fn digits(number: &str) -> String {
    number.chars().filter(char::is_ascii_digit).collect()
}

/// An extension has fewer digits.
fn is_telephone(number: &str) -> bool {
    digits(number).len() >= TELEPHONE
}

/// A number may have parameters (RFC 3966, section 3), whose digits are none of it: `rn=` is where it was ported to.
fn without_parameters(dialled: &str) -> &str {
    dialled.split([';', ',']).next().unwrap_or_default()
}

/// What is the same of one number, whatever is dialled in front of it.
fn tail(dialled: &str) -> String {
    let mut digits = digits(dialled);
    digits.split_off(digits.len().saturating_sub(TAIL))
}

impl Number {
    /// What is the same of one number, whatever was dialled in front of it; empty where it is hidden.
    pub(crate) fn tail(&self) -> String {
        tail(self.dialled.as_deref().unwrap_or_default())
    }
}

impl Sized for Number {
    fn bytes(&self) -> usize {
        let texts = [&self.dialled, &self.number, &self.country];
        let texts = texts.into_iter().flatten().map(Sized::bytes);
        texts.sum::<usize>() + OVERHEAD
    }
}

impl Sized for u16 {
    fn bytes(&self) -> usize {
        size_of::<Self>() + size_of::<u32>()
    }
}

impl Knock {
    pub(in crate::agent) fn new(source: IpAddr, now: Timestamp) -> Self {
        Self {
            source,
            first: now,
            last: now,
            told: 0,
            minutes: 0,
            services: Few::default(),
            ports: Few::default(),
            methods: Few::default(),
            user_agents: Few::default(),
            users: Few::default(),
            numbers: Few::default(),
            registering: None,
            dialling: None,
            attempted: Vec::new(),
        }
    }

    /// Whether it was told of in a single minute.
    pub(super) fn is_newcomer(&self) -> bool {
        self.minutes < 2
    }

    /// How many bytes it takes beside what every source takes, about.
    pub(super) fn bytes(&self) -> usize {
        let registering = self.registering.as_ref().map(|_| size_of::<Registering>());
        let dialling = self.dialling.as_ref().map(|_| {
            // What dialled lately may grow to.
            size_of::<Dialling>() + LATELY * size_of::<(u32, u32)>()
        });
        self.services.bytes()
            + self.ports.bytes()
            + self.methods.bytes()
            + self.user_agents.bytes()
            + self.users.bytes()
            + self.numbers.bytes()
            + registering.unwrap_or_default()
            + dialling.unwrap_or_default()
    }

    /// Returns whether it says something that it has not said before.
    pub(super) fn note(&mut self, event: &Event, hide: Hide) -> bool {
        let minute = |time: Timestamp| time.as_second().div_euclid(60);
        if self.minutes == 0 || minute(self.last) != minute(event.time) {
            self.minutes = self.minutes.saturating_add(1);
        }
        self.last = event.time;
        // The clock may have been put back.
        self.first = self.first.min(event.time);
        self.told = self.told.saturating_add(1);
        let mut says_more = false;
        if let Some(service) = &event.service {
            says_more |= self.services.note_text(cut(service, WORD));
        }
        if let Some(port) = event.port {
            says_more |= self.ports.note(|seen| *seen == port, || port);
        }
        if let Some(sip) = &event.sip {
            says_more |= self.note_sip(sip, hide);
        }
        says_more
    }

    fn note_sip(&mut self, sip: &Summary, hide: Hide) -> bool {
        let method = sip.method.as_deref();
        let mut says_more = match (method, sip.status) {
            (Some(method), _) => self.methods.note_text(cut(method, WORD)),
            (None, Some(status)) => self.methods.note_text(&status.to_string()),
            (None, None) => false,
        };
        if let Some(agent) = &sip.user_agent {
            says_more |= self.user_agents.note_text(cut(agent, AGENT));
        }
        if let Some(from) = &sip.from
            && !hide.hides_user(from)
        {
            says_more |= self.users.note_text(cut(from, WORD));
        }
        let dialled = sip.user.as_deref().filter(|_| method == Some("INVITE"));
        match dialled {
            Some(dialled) if sip.number.as_deref().is_some_and(is_telephone) => {
                let dialled = without_parameters(dialled);
                let dialling = self.dialling.get_or_insert_default();
                says_more |= dialling.note(dialled, sip.high_risk);
                let shown = |text: Option<&str>| {
                    let text = text.filter(|_| !hide.number);
                    text.map(|text| cut(text, WORD).into())
                };
                let number = Number {
                    dialled: shown(Some(dialled)),
                    number: shown(sip.number.as_deref()),
                    country: sip
                        .country
                        .as_deref()
                        .map(|country| cut(country, WORD).into()),
                    high_risk: sip.high_risk,
                };
                self.numbers.note(|seen| *seen == number, || number.clone()) | says_more
            }
            _ => self.note_registering(sip, hide) | says_more,
        }
    }

    /// Who registers names a user in From and To; who looks for users in the address.
    fn note_registering(&mut self, sip: &Summary, hide: Hide) -> bool {
        let is_register = sip.method.as_deref() == Some("REGISTER");
        let user = if is_register { &sip.from } else { &sip.user };
        let Some(user) = user.as_ref().filter(|_| sip.method.is_some()) else {
            return false;
        };
        let mut says_more = false;
        // From was noted.
        if sip.from.as_ref() != Some(user) && !hide.hides_user(user) {
            says_more |= self.users.note_text(cut(user, WORD));
        }
        let registering = self.registering.get_or_insert_default();
        says_more |= registering.note(user);
        if is_register {
            says_more |= registering.note_register(user, self.last);
        }
        says_more
    }

    /// Forgets what is to be hidden; returns whether there was something.
    pub fn hide(&mut self, hide: Hide) -> bool {
        let before = self.bytes();
        self.users.retain(|user| !hide.hides_user(user));
        if hide.number {
            let numbers = std::mem::take(&mut self.numbers);
            for seen in numbers.iter() {
                let number = Number {
                    dialled: None,
                    number: None,
                    ..seen.what.clone()
                };
                self.numbers.note(|seen| *seen == number, || number.clone());
            }
        }
        self.bytes() != before
    }

    /// Keeps what may be kept: a file may say anything.
    pub(super) fn cut(&mut self) {
        self.services.cut();
        self.ports.cut();
        self.methods.cut();
        self.user_agents.cut();
        self.users.cut();
        self.numbers.cut();
        self.attempted.truncate(8);
    }
}

impl Hide {
    /// A user may be a telephone number.
    fn hides_user(self, user: &str) -> bool {
        self.user || (self.number && is_telephone(user))
    }
}

/// The beginning of a text, in at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
