//! All that can happen and is worth a word. Journal, metrics and notices are writers over this one table: whoever adds a case writes its
//! sentence and its fields here, and nothing elsewhere.
//!
//! A case is a change of how things are, or a sum over a while. None stands for one packet, so that nobody can fill a journal from outside.
//! What others say (why a fetch failed, a SIP header, a number) is in the cases as it came, and made harmless here, where it is put into words. What
//! sipguard itself says of what failed is in them as the sentence that it is elsewhere.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sipguard_lists::said::{Message, Said};

use super::allowed::COMMAND_LINE;
use crate::{
    policy::Action,
    prose::{Grouped, count, joined, local, rough},
};

/// One thing that happened. See [`Kind`] for which of them matter how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Another generation filters.
    GenerationCame {
        /// Its number.
        generation: u64,
        /// How many entries its config has.
        entries: usize,
    },
    /// An apply was not confirmed, and what was before it is in force again.
    TakenBack {
        /// The generation that is gone.
        generation: u64,
    },
    /// Nothing filters any more, because somebody took it off.
    NothingInForce,
    /// Something filters again, after nothing did.
    InForceAgain {
        /// Its number.
        generation: u64,
        /// How many entries its config has.
        entries: usize,
    },
    /// Services only count now.
    Monitoring {
        /// Those in force that let pass what their lists would drop.
        services: Vec<String>,
    },
    /// No service only counts any more.
    Enforcing,
    /// An interface is there and is not filtered.
    InterfaceUnfiltered {
        /// As the config names it.
        interface: String,
        /// What is known of the cause.
        why: Option<String>,
    },
    /// It is filtered again.
    InterfaceFiltered {
        /// As the config names it.
        interface: String,
        /// `native` or `tc`.
        mode: String,
    },
    /// A live source has other entries than before.
    SourceChanged {
        /// Its name.
        source: String,
        /// How many it has now.
        entries: usize,
    },
    /// What was found for a live source is not put in force.
    SourceRefused {
        /// Its name.
        source: String,
        /// Why.
        why: String,
    },
    /// Nobody has answered for a live source for an hour.
    SourceUnanswered {
        /// Its name.
        source: String,
        /// When somebody did last; `None` where nobody ever has.
        since: Option<Timestamp>,
        /// What became of the last try.
        why: String,
    },
    /// A live source has been the same for longer than it should.
    SourceStale {
        /// Its name.
        source: String,
        /// When it changed last.
        since: Timestamp,
    },
    /// A live source that was refused, unanswered or stale is well again.
    SourceWell {
        /// Its name.
        source: String,
    },
    /// A program banned somebody about whom a person has said something, so that the ban decides nothing: his address is forged, or was taken
    /// over.
    BanOverruled {
        /// What was banned.
        prefix: IpNet,
        /// Who banned, by the name that he gave.
        by: String,
        /// How many others were banned beside it of whom the same can be said.
        others: u64,
    },
    /// A live source has somebody of whom a person has said the opposite, so that the source decides nothing: his address is forged, or was taken
    /// over.
    SourceOverruled {
        /// Its name.
        source: String,
        /// Whom it has.
        prefix: IpNet,
        /// What it says of him.
        action: Action,
        /// The entry by hand that says the opposite.
        by: IpNet,
        /// How many others it has of whom the same can be said.
        others: u64,
    },
    /// Much more is dropped than scanners send.
    FloodBegan {
        /// Where most of it comes in.
        interface: String,
        /// What is dropped in a second, in all.
        packets_per_second: u64,
    },
    /// A flood is over.
    FloodEnded {
        /// Where most of it came in.
        interface: String,
        /// What was dropped in all, while it lasted.
        packets: u64,
        /// How long it lasted.
        seconds: u64,
    },
    /// Somebody looks for what answers.
    ScanTried {
        /// Who.
        who: Attempt,
        /// What he calls his program.
        user_agent: Option<String>,
    },
    /// Somebody guesses passwords.
    BruteForceTried {
        /// Who.
        who: Attempt,
        /// Whose password, where it is one user's.
        user: Option<String>,
    },
    /// Somebody tries numbers that cost money.
    TollFraudTried {
        /// Who.
        who: Attempt,
        /// One of the numbers, of high risk where one is.
        number: Option<String>,
        /// The country that it is in.
        country: Option<String>,
    },
    /// Somebody is dropped who was allowed before, or whose neighbours are allowed: the alarm.
    ProviderMoved(Moved),
    /// The kernel had more to tell than was read. The counters have all of it.
    EventsLost {
        /// How many events, since this was said last.
        lost: u64,
    },
    /// Notices are not sent any more, because those before them have not been sent, either.
    SpoolFull {
        /// How many are lost so far.
        lost: u64,
    },
    /// The kernel held something else than what was said of live sources and bans, and was put right.
    KernelDiffered {
        /// How many entries it had not, or had too many.
        entries: usize,
    },
    /// What the agent keeps could not be written, and is kept in memory.
    NotKept {
        /// What, as a path.
        file: String,
        /// What the system says.
        why: String,
    },
    /// What could not be put in force, or looked at.
    Failed {
        /// What was being done.
        what: String,
        /// Why it failed.
        why: String,
    },
}

/// Who tried something, and how much: one source, or the busiest of several that do the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The source.
    pub source: IpAddr,
    /// How many other sources do the same.
    pub others: u64,
    /// How many packets it was, of all of them.
    pub packets: u64,
    /// Since when.
    pub since: Timestamp,
    /// Whether some of them passed, because a service only counts.
    pub passed: bool,
}

/// Somebody who is dropped and perhaps should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The source that allowed him or his neighbours, or whose list it was.
    pub provider: String,
    /// Where he knocks from.
    pub address: IpAddr,
    /// How many other addresses of whom the same can be said knock, too.
    pub others: u64,
    /// The service at whose ports.
    pub service: String,
    /// With which SIP method.
    pub method: Option<String>,
    /// When he first did.
    pub since: Timestamp,
    /// What he has to do with the provider.
    pub tie: Tie,
}

/// What an address has to do with one that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// It was allowed itself.
    Was {
        /// When it was last seen to be.
        until: Timestamp,
    },
    /// It was allowed itself, and a list or a program denies it now.
    Denied {
        /// When it was last seen to be allowed.
        until: Timestamp,
    },
    /// Its neighbour is, or was.
    Neighbour {
        /// The neighbour's entry, in the same /24 (IPv6: /64).
        of: IpNet,
    },
}

impl Moved {
    /// The command that lets him in.
    pub fn mend(&self) -> String {
        format!(
            "sipguard allow {} --service {}",
            self.address,
            Said(&self.service)
        )
    }
}

/// How much a case matters, as syslog counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Something is open that should not be.
    Critical = 2,
    /// Somebody has to do something.
    Error = 3,
    /// Somebody should look at it.
    Warning = 4,
    /// It does not happen every day.
    Notice = 5,
    /// It is as it should be.
    Info = 6,
}

/// Which case it is. Its name is stable: it is the journal's `SIPGUARD_HAPPENED`, the label `what` of the metric
/// `sipguard_happened_total`, and the kind of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are the cases of `Happened`")]
pub enum Kind {
    GenerationCame,
    TakenBack,
    NothingInForce,
    InForceAgain,
    Monitoring,
    Enforcing,
    InterfaceUnfiltered,
    InterfaceFiltered,
    SourceChanged,
    SourceRefused,
    SourceUnanswered,
    SourceStale,
    SourceWell,
    BanOverruled,
    SourceOverruled,
    FloodBegan,
    FloodEnded,
    ScanTried,
    BruteForceTried,
    TollFraudTried,
    ProviderMoved,
    EventsLost,
    SpoolFull,
    KernelDiffered,
    NotKept,
    Failed,
}

impl Kind {
    /// The metric in which all of them are counted.
    pub const METRIC: &'static str = "sipguard_happened_total";

    /// All of them: the name, how much it matters, and whether somebody is told who does not look.
    const TABLE: [(Self, &'static str, Priority, bool); 26] = [
        (
            Self::GenerationCame,
            "generation_came",
            Priority::Info,
            false,
        ),
        (Self::TakenBack, "taken_back", Priority::Warning, true),
        (
            Self::NothingInForce,
            "nothing_in_force",
            Priority::Critical,
            true,
        ),
        (Self::InForceAgain, "in_force_again", Priority::Notice, true),
        (Self::Monitoring, "monitoring", Priority::Warning, true),
        (Self::Enforcing, "enforcing", Priority::Notice, true),
        (
            Self::InterfaceUnfiltered,
            "interface_unfiltered",
            Priority::Critical,
            true,
        ),
        (
            Self::InterfaceFiltered,
            "interface_filtered",
            Priority::Notice,
            true,
        ),
        (Self::SourceChanged, "source_changed", Priority::Info, false),
        (
            Self::SourceRefused,
            "source_refused",
            Priority::Warning,
            true,
        ),
        (
            Self::SourceUnanswered,
            "source_unanswered",
            Priority::Warning,
            true,
        ),
        (Self::SourceStale, "source_stale", Priority::Warning, true),
        (Self::SourceWell, "source_well", Priority::Notice, true),
        (Self::BanOverruled, "ban_overruled", Priority::Warning, true),
        (
            Self::SourceOverruled,
            "source_overruled",
            Priority::Warning,
            true,
        ),
        (Self::FloodBegan, "flood_began", Priority::Warning, true),
        (Self::FloodEnded, "flood_ended", Priority::Notice, true),
        (Self::ScanTried, "scan_tried", Priority::Notice, false),
        (
            Self::BruteForceTried,
            "brute_force_tried",
            Priority::Notice,
            false,
        ),
        (
            Self::TollFraudTried,
            "toll_fraud_tried",
            Priority::Warning,
            true,
        ),
        (Self::ProviderMoved, "provider_moved", Priority::Error, true),
        (Self::EventsLost, "events_lost", Priority::Info, false),
        (Self::SpoolFull, "spool_full", Priority::Warning, false),
        (
            Self::KernelDiffered,
            "kernel_differed",
            Priority::Warning,
            true,
        ),
        (Self::NotKept, "not_kept", Priority::Warning, true),
        (Self::Failed, "failed", Priority::Warning, true),
    ];

    /// All of them, in the order of [`Happened`]'s cases.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::TABLE.iter().map(|row| row.0)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        Self::TABLE[self as usize].1
    }

    /// How much it matters.
    pub fn priority(self) -> Priority {
        Self::TABLE[self as usize].2
    }

    /// Whether it is sent to whoever wants notices. What is left out would come every day, or says that notices can't be sent.
    pub fn is_noticed(self) -> bool {
        Self::TABLE[self as usize].3
    }
}

impl Happened {
    /// Which case it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::GenerationCame { .. } => Kind::GenerationCame,
            Self::TakenBack { .. } => Kind::TakenBack,
            Self::NothingInForce => Kind::NothingInForce,
            Self::InForceAgain { .. } => Kind::InForceAgain,
            Self::Monitoring { .. } => Kind::Monitoring,
            Self::Enforcing => Kind::Enforcing,
            Self::InterfaceUnfiltered { .. } => Kind::InterfaceUnfiltered,
            Self::InterfaceFiltered { .. } => Kind::InterfaceFiltered,
            Self::SourceChanged { .. } => Kind::SourceChanged,
            Self::SourceRefused { .. } => Kind::SourceRefused,
            Self::SourceUnanswered { .. } => Kind::SourceUnanswered,
            Self::SourceStale { .. } => Kind::SourceStale,
            Self::SourceWell { .. } => Kind::SourceWell,
            Self::BanOverruled { .. } => Kind::BanOverruled,
            Self::SourceOverruled { .. } => Kind::SourceOverruled,
            Self::FloodBegan { .. } => Kind::FloodBegan,
            Self::FloodEnded { .. } => Kind::FloodEnded,
            Self::ScanTried { .. } => Kind::ScanTried,
            Self::BruteForceTried { .. } => Kind::BruteForceTried,
            Self::TollFraudTried { .. } => Kind::TollFraudTried,
            Self::ProviderMoved(_) => Kind::ProviderMoved,
            Self::EventsLost { .. } => Kind::EventsLost,
            Self::SpoolFull { .. } => Kind::SpoolFull,
            Self::KernelDiffered { .. } => Kind::KernelDiffered,
            Self::NotKept { .. } => Kind::NotKept,
            Self::Failed { .. } => Kind::Failed,
        }
    }

    /// It as one sentence for people, without a full stop, on one line.
    #[expect(clippy::too_many_lines, reason = "one row a case")]
    pub fn sentence(&self) -> String {
        match self {
            Self::GenerationCame {
                generation,
                entries,
            } => format!(
                "generation {generation} is in force, with {} of the config",
                count(*entries, "entry", "entries")
            ),
            Self::InForceAgain {
                generation,
                entries,
            } => format!(
                "it is filtered again: generation {generation} is in force, with {} of the config",
                count(*entries, "entry", "entries")
            ),
            Self::TakenBack { generation } => format!(
                "generation {generation} was taken back, and what was in force before it is again"
            ),
            Self::NothingInForce => {
                "nothing is filtered any more; `sipguard apply` puts the config in force".to_owned()
            }
            Self::Monitoring { services } => format!(
                "monitor mode for {}: what is not listed is counted, and passes",
                joined(services.iter().map(|name| Said(name)))
            ),
            Self::Enforcing => "no service is in monitor mode any more".to_owned(),
            Self::InterfaceUnfiltered { interface, why } => format!(
                "{} is not filtered{}; `sipguard doctor` says what mends it",
                Said(interface),
                why.as_ref()
                    .map_or_else(String::new, |why| format!(": {}", own(why)))
            ),
            Self::InterfaceFiltered { interface, mode } => {
                format!("{} is filtered again: {}", Said(interface), Said(mode))
            }
            Self::SourceChanged { source, entries } => format!(
                "{} has changed, and has {} now",
                Said(source),
                count(*entries, "entry", "entries")
            ),
            Self::SourceRefused { source, why } => format!(
                "{}: what was found is refused, and what was before stays: {}",
                Said(source),
                own(why)
            ),
            Self::SourceUnanswered { source, since, why } => {
                let (source, why) = (Said(source), Message(why));
                match since {
                    Some(since) => {
                        let since = local(*since);
                        format!(
                            "{source}: nobody has answered since {since}, and it stays as it was: {why}"
                        )
                    }
                    None => format!("{source}: nobody has ever answered, and it is empty: {why}"),
                }
            }
            Self::SourceStale { source, since } => format!(
                "{}: it has not changed since {}; whoever makes it may have stopped",
                Said(source),
                local(*since)
            ),
            Self::SourceWell { source } => format!("{}: all is well again", Said(source)),
            Self::BanOverruled { prefix, by, others } => format!(
                "{} banned {}{}, which an entry by hand allows: somebody forges that address, or has taken it over",
                Said(by),
                plain(*prefix),
                and_more(*others)
            ),
            Self::SourceOverruled {
                source,
                prefix,
                action,
                by,
                others,
            } => {
                let (says, opposite, why) = match action {
                    Action::Deny => (
                        "denies",
                        "allows",
                        "somebody forges that address, or has taken it over",
                    ),
                    Action::Allow => ("allows", "denies", "it stays denied"),
                };
                let prefix = plain(*prefix);
                format!(
                    "{} {says} {prefix}{}, which the entry by hand {} {opposite}: {why}; `sipguard list {prefix}` shows both",
                    Said(source),
                    and_more(*others),
                    plain(*by)
                )
            }
            Self::FloodBegan {
                interface,
                packets_per_second,
            } => format!(
                "a flood: {} packets are dropped each second, most of them on {}",
                Grouped(*packets_per_second),
                Said(interface)
            ),
            Self::FloodEnded {
                interface,
                packets,
                seconds,
            } => format!(
                "the flood is over after {}: {} packets were dropped, most of them on {}",
                rough(i64::try_from(*seconds).unwrap_or(i64::MAX)),
                Grouped(*packets),
                Said(interface)
            ),
            Self::ScanTried { who, user_agent } => {
                let agent = user_agent.as_ref();
                format!(
                    "{} for what answers ({}){}",
                    who.does("looks", "look"),
                    who.packets(),
                    agent.map_or_else(String::new, |agent| format!(", as {}", Said(agent)))
                )
            }
            Self::BruteForceTried { who, user } => {
                let user = user.as_ref();
                format!(
                    "{} users or passwords ({}){}",
                    who.does("guesses", "guess"),
                    who.packets(),
                    user.map_or_else(String::new, |user| format!(", of {}", Said(user)))
                )
            }
            Self::TollFraudTried {
                who,
                number,
                country,
            } => {
                let number = number.as_ref().map_or_else(String::new, |number| {
                    let country = country.as_ref();
                    let country =
                        country.map_or_else(String::new, |it| format!(" in {}", Said(it)));
                    format!(", {}{country} among them", Said(number))
                });
                format!(
                    "{} numbers that cost money ({}){number}",
                    who.does("tries", "try"),
                    who.packets()
                )
            }
            Self::ProviderMoved(moved) => moved.sentence(),
            Self::EventsLost { lost } => format!(
                "{} of what was dropped were not looked at; the counters have all",
                count(
                    usize::try_from(*lost).unwrap_or(usize::MAX),
                    "packet",
                    "packets"
                )
            ),
            Self::SpoolFull { lost } => format!(
                "no room for notices, because those before are not sent yet; {} so far",
                count(
                    usize::try_from(*lost).unwrap_or(usize::MAX),
                    "notice is lost",
                    "notices are lost"
                )
            ),
            Self::KernelDiffered { entries } => format!(
                "{} of live sources and bans {} missing in the kernel, or too many, and {1} put right",
                count(*entries, "entry", "entries"),
                if *entries == 1 { "was" } else { "were" }
            ),
            Self::NotKept { file, why } => format!(
                "{} can't be written, and is kept in memory: {}",
                own(file),
                own(why)
            ),
            Self::Failed { what, why } => format!("{}: {}", own(what), own(why)),
        }
    }

    /// What a program looks for in the journal beside the sentence: names without the prefix `SIPGUARD_`, and values fit to be printed.
    #[expect(clippy::too_many_lines, reason = "one row a case")]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("HAPPENED", self.kind().name().to_owned())];
        let mut add = |name, value: &dyn ToString| fields.push((name, value.to_string()));
        match self {
            Self::GenerationCame {
                generation,
                entries,
            }
            | Self::InForceAgain {
                generation,
                entries,
            } => {
                add("GENERATION", generation);
                add("ENTRIES", entries);
            }
            Self::TakenBack { generation } => add("GENERATION", generation),
            Self::NothingInForce | Self::Enforcing => {}
            Self::Monitoring { services } => {
                for service in services {
                    add("SERVICE", &Said(service));
                }
            }
            Self::InterfaceUnfiltered { interface, why } => {
                add("INTERFACE", &Said(interface));
                if let Some(why) = why {
                    add("WHY", &own(why));
                }
            }
            Self::InterfaceFiltered { interface, mode } => {
                add("INTERFACE", &Said(interface));
                add("MODE", &Said(mode));
            }
            Self::SourceChanged { source, entries } => {
                add("SOURCE", &Said(source));
                add("ENTRIES", entries);
            }
            Self::SourceRefused { source, why } => {
                add("SOURCE", &Said(source));
                add("WHY", &own(why));
            }
            Self::SourceUnanswered { source, since, why } => {
                add("SOURCE", &Said(source));
                if let Some(since) = since {
                    add("SINCE", since);
                }
                add("WHY", &Message(why));
            }
            Self::SourceStale { source, since } => {
                add("SOURCE", &Said(source));
                add("SINCE", since);
            }
            Self::SourceWell { source } => add("SOURCE", &Said(source)),
            Self::BanOverruled { prefix, by, others } => {
                add("PREFIX", &plain(*prefix));
                add("BY", &Said(by));
                add("OTHERS", others);
            }
            Self::SourceOverruled {
                source,
                prefix,
                action,
                by,
                others,
            } => {
                add("SOURCE", &Said(source));
                add("PREFIX", &plain(*prefix));
                add("ACTION", &action.name());
                add("BY_HAND", &plain(*by));
                add("OTHERS", others);
            }
            Self::FloodBegan {
                interface,
                packets_per_second,
            } => {
                add("INTERFACE", &Said(interface));
                add("PACKETS_PER_SECOND", packets_per_second);
            }
            Self::FloodEnded {
                interface,
                packets,
                seconds,
            } => {
                add("INTERFACE", &Said(interface));
                add("PACKETS", packets);
                add("SECONDS", seconds);
            }
            Self::ScanTried { who, user_agent } => {
                who.fields(&mut add);
                if let Some(agent) = user_agent {
                    add("USER_AGENT", &Said(agent));
                }
            }
            Self::BruteForceTried { who, user } => {
                who.fields(&mut add);
                if let Some(user) = user {
                    add("USER", &Said(user));
                }
            }
            Self::TollFraudTried {
                who,
                number,
                country,
            } => {
                who.fields(&mut add);
                for (name, text) in [("NUMBER", number), ("COUNTRY", country)] {
                    if let Some(text) = text {
                        add(name, &Said(text));
                    }
                }
            }
            Self::ProviderMoved(moved) => moved.fields(&mut add),
            Self::EventsLost { lost } | Self::SpoolFull { lost } => add("LOST", lost),
            Self::KernelDiffered { entries } => add("ENTRIES", entries),
            Self::NotKept { file, why } => {
                add("FILE", &own(file));
                add("WHY", &own(why));
            }
            Self::Failed { what, why } => {
                add("WHAT", &own(what));
                add("WHY", &own(why));
            }
        }
        fields
    }
}

impl Attempt {
    /// Who, with a verb.
    fn does(&self, one: &str, many: &str) -> String {
        match self.others {
            0 => format!("{} {one}", self.source),
            others => format!(
                "{} and {} {many}",
                self.source,
                count(
                    usize::try_from(others).unwrap_or(usize::MAX),
                    "other",
                    "others"
                )
            ),
        }
    }

    fn packets(&self) -> String {
        let packets = usize::try_from(self.packets).unwrap_or(usize::MAX);
        format!(
            "{} told of since {}, {}",
            count(packets, "packet", "packets"),
            local(self.since),
            if self.passed {
                "not dropped, for that is monitor mode"
            } else {
                "all dropped"
            }
        )
    }

    fn fields(&self, add: &mut impl FnMut(&'static str, &dyn ToString)) {
        add("ADDRESS", &self.source);
        add("OTHERS", &self.others);
        add("PACKETS", &self.packets);
        add("SINCE", &self.since);
    }
}

impl Moved {
    /// It as one sentence.
    pub fn sentence(&self) -> String {
        let Self {
            provider,
            address,
            others,
            method,
            since,
            ..
        } = self;
        // Who was let in without a word of who he is.
        let provider = match &**provider {
            COMMAND_LINE => "somebody let in by a command".to_owned(),
            provider => Said(provider).to_string(),
        };
        let what = match self.tie {
            Tie::Denied { .. } => "is kept out",
            Tie::Was { .. } | Tie::Neighbour { .. } => "seems to have moved",
        };
        let whose = match self.tie {
            Tie::Was { until } => format!(", which was allowed until {}", local(until)),
            Tie::Denied { until } => format!(
                ", which was allowed until {} and is denied by a list or a program now,",
                local(until)
            ),
            Tie::Neighbour { of } => format!(", next to {},", plain(of)),
        };
        let others = match others {
            0 => String::new(),
            others => format!(", and {} more", Grouped(*others)),
        };
        let with = method
            .as_ref()
            .map_or_else(String::new, |method| format!(" with {}", Said(method)));
        format!(
            "{provider} {what}: {address}{whose} has knocked{with} since {}{others}; `{}` lets it in",
            local(*since),
            self.mend()
        )
    }

    fn fields(&self, add: &mut impl FnMut(&'static str, &dyn ToString)) {
        add("SOURCE", &Said(&self.provider));
        add("ADDRESS", &self.address);
        add("OTHERS", &self.others);
        add("SERVICE", &Said(&self.service));
        if let Some(method) = &self.method {
            add("METHOD", &Said(method));
        }
        add("SINCE", &self.since);
        match self.tie {
            Tie::Was { until } | Tie::Denied { until } => add("ALLOWED_UNTIL", &until),
            Tie::Neighbour { of } => add("NEIGHBOUR", &plain(of)),
        }
        add("MEND", &self.mend());
    }
}

/// A sentence of sipguard's own, in which all that others said is harmless already. It stays on its line, and ends.
fn own(text: &str) -> String {
    let mut line = String::new();
    for letter in text.chars().take(400) {
        if letter == ' ' || letter.is_ascii_graphic() {
            line.push(letter);
        } else {
            line.extend(letter.escape_unicode());
        }
    }
    line
}

fn and_more(others: u64) -> String {
    match others {
        0 => String::new(),
        others => format!(" and {} more", Grouped(others)),
    }
}

/// A host without its length.
fn plain(prefix: IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

#[cfg(test)]
pub(crate) use self::tests::samples;

#[cfg(test)]
mod tests;
