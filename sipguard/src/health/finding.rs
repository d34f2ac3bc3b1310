//! What a check finds.

use std::path::PathBuf;

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use super::CHECKS;

/// How bad it is; the worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something that the config wants closed is open now, or that can't be told: this host is not guarded.
    Open,
    /// This host is guarded, but something is wrong.
    Wrong,
    /// It could be better.
    Advice,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// An interface, by the name that the config or the kernel has for it.
    Interface(String),
    /// A service.
    Service(String),
    /// The config file, or a list file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1; `None` where it is about the whole file.
        line: Option<usize>,
    },
}

/// What may be found. Its name in JSON is stable; docs/health.md has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// This kernel can't do it.
    KernelTooOld,
    /// This kernel has no native XDP for long frames.
    KernelWithoutJumboFrames,
    /// BPF programs are interpreted.
    JitOff,
    /// An entry lets everybody in to a service that is for listed sources.
    OpenToEverybody,
    /// What filters can't be read.
    Unreadable,
    /// Nothing filters.
    NotInForce,
    /// The config names no interface.
    NoInterface,
    /// Something filters, and nothing is dropped by it.
    NothingDropped,
    /// A service is in monitor mode, and others are not.
    OnlyWatched,
    /// An interface is there and is not filtered.
    InterfaceNotFiltered,
    /// An interface is not there.
    InterfaceAbsent,
    /// An interface has another name by now.
    InterfaceRenamed,
    /// An interface was changed into one whose packets can't be judged.
    InterfaceNotJudged,
    /// The config file, or a list file, is wrong.
    ConfigUnusable,
    /// The config was not confirmed, and is not applied any more.
    ConfigTakenBack,
    /// What the config says now is not in force.
    ConfigNotApplied,
    /// Another version of sipguard made what is in force.
    OtherVersion,
    /// A TC program that runs before ours.
    ForeignTcProgram,
    /// An XDP program that is not ours.
    ForeignXdpProgram,
    /// Some frames stay with a port of what is filtered, and are not judged.
    PortKeepsFrames,
    /// What is attached is not run.
    ProgramDoesNotRun,
    /// An interface is filtered in a driver that loses or forgets something there.
    UnsafeDriver,
    /// An interface could be filtered in its driver.
    BehindDriver,
    /// An interface has lost packets because its queue was full.
    QueueFull,
    /// An interface is received by threads that wait for their turn.
    ReceivedInTurn,
    /// An interface leads to the internet and is not guarded.
    InternetUnguarded,
    /// An interface leads to the internet and can't be guarded.
    InternetUnguardable,
    /// A source has no entry.
    SourceEmpty,
    /// A source has lost more than half of its entries.
    SourceShrunk,
    /// Nothing was found for a live source yet, or nobody has answered for an hour.
    SourceUnanswered,
    /// What was found for a live source is refused.
    SourceRefused,
    /// A live source has been the same for longer than it should.
    SourceStale,
    /// Nobody is let in to a service.
    NobodyLetIn,
    /// This host talks to somebody whose answers are dropped.
    AnswersDropped,
    /// A program that everybody reaches.
    ReachedByEverybody,
    /// A guarded port that an outgoing connection may get.
    PortNotReserved,
    /// A guarded port that address translation may give to a connection.
    PortForNat,
    /// A route that unpacks packets behind the filter.
    RouteUnpacks,
    /// The agent hears nothing of what the kernel would tell.
    AgentDeaf,
    /// After a reboot nothing is filtered.
    NotEnabled,
    /// What the command line added is in the kernel alone.
    StateNotOnDisk,
}

impl Kind {
    /// Something is open.
    pub(super) fn open(self, about: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.finding(Severity::Open, &about.into(), mend.into())
    }

    /// Something else is wrong.
    pub(super) fn wrong(self, about: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.finding(Severity::Wrong, &about.into(), mend.into())
    }

    /// Something could be better.
    pub(super) fn advice(self, about: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.finding(Severity::Advice, &about.into(), mend.into())
    }

    fn finding(self, severity: Severity, about: &str, mend: String) -> Finding {
        Finding {
            kind: self,
            severity,
            place: None,
            // What others say may have several lines.
            about: about.replace('\n', " "),
            mend,
        }
    }

    /// The check that finds it.
    pub fn check(self) -> &'static str {
        let mut checks = CHECKS.iter();
        let check = checks.find(|check| check.finds.contains(&self));
        check.map_or("", |check| check.name)
    }
}

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// Where it is; `None` where that is this host.
    pub place: Option<Place>,
    /// One sentence, without a full stop.
    pub about: String,
    /// One command for a shell.
    pub mend: String,
}

impl Finding {
    pub(super) fn on(mut self, interface: &str) -> Self {
        self.place = Some(Place::Interface(interface.to_owned()));
        self
    }

    pub(super) fn of(mut self, service: &str) -> Self {
        self.place = Some(Place::Service(service.to_owned()));
        self
    }

    pub(super) fn inside(mut self, path: impl Into<PathBuf>, line: Option<usize>) -> Self {
        let path = path.into();
        self.place = Some(Place::File { path, line });
        self
    }

    /// Whether it is more than advice.
    pub fn is_wrong(&self) -> bool {
        self.severity != Severity::Advice
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut finding = serializer.serialize_struct("Finding", 7)?;
        finding.serialize_field("check", self.kind.check())?;
        finding.serialize_field("name", &self.kind)?;
        finding.serialize_field("severity", &self.severity)?;
        finding.serialize_field("wrong", &self.is_wrong())?;
        finding.serialize_field("place", &self.place)?;
        finding.serialize_field("about", &self.about)?;
        finding.serialize_field("mend", &self.mend)?;
        finding.end()
    }
}
