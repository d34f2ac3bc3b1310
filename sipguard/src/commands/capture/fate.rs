//! What becomes of each packet of a capture.

use std::net::IpAddr;

use anyhow::Result;
use sipguard::{
    capture::{Direction, Frame, Packet, Unread},
    datapath::Description,
    policy::Mode,
    prefix,
    rehearsal::{Judged, Rehearsal},
    report::{EntryReport, OwnEntries, said_of},
    state::State,
    tables::Now,
};
use sipguard_ebpf::abi::{self, Action, NO_SERVICE, Reason, counter};

/// A verdict as it is counted: its counter's number in the kernel.
pub(super) type Words = u32;

/// What became of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// It can't be judged.
    LeftOut(Unread),
    /// This gateway has sent it.
    Sent,
    /// It has a verdict, and one by what is in force, where that was asked for.
    Judged {
        judged: Judged,
        words: Words,
        now: Option<Words>,
    },
}

impl Fate {
    /// Whether the capture holds so little of the packet that nothing can be said.
    pub(super) fn is_cut(&self, packet: &Packet<'_>) -> bool {
        let Self::Judged { judged, .. } = self else {
            return false;
        };
        judged.verdict.reason == Reason::Malformed && packet.is_truncated()
    }
}

/// What a verdict is in words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meaning<'d> {
    pub(super) reason: Reason,
    pub(super) service: Option<&'d str>,
    /// Whether it would be carried out.
    pub(super) enforced: bool,
}

impl<'d> Meaning<'d> {
    pub(super) fn of(words: Words, description: &'d Description) -> Self {
        let reason = Reason::COUNTED
            .into_iter()
            .find(|reason| counter(slot(words), *reason) == words);
        let service = description.service_at(slot(words));
        let mode = service.map_or(description.mode, |found| found.service.mode);
        Self {
            reason: reason.unwrap_or(Reason::None),
            service: service.map(|found| found.service.name.as_str()),
            enforced: mode == Mode::Enforce,
        }
    }

    pub(super) fn action(self) -> &'static str {
        match self.reason.action() {
            Action::Pass => "pass",
            Action::Drop => "drop",
        }
    }

    /// Whether the packet would not arrive.
    pub(super) fn is_lost(self) -> bool {
        self.enforced && self.reason.action() == Action::Drop
    }

    /// Whether it would not, but for a policy that only watches.
    pub(super) fn is_watched(self) -> bool {
        !self.enforced && self.reason.action() == Action::Drop
    }
}

/// The service's number, or [`NO_SERVICE`].
pub(super) fn slot(words: Words) -> u8 {
    u8::try_from(words / REASONS).unwrap_or(NO_SERVICE)
}

/// Whether it is a verdict at all; all other packets are no business of ours.
pub(super) const fn is_verdict(words: Words) -> bool {
    words % REASONS != Reason::None as Words
}

/// As many as a service's row of counters has room for.
#[expect(clippy::cast_possible_truncation, reason = "there are 16")]
const REASONS: Words = abi::REASONS as Words;

/// As many verdicts as there are.
#[expect(clippy::cast_possible_truncation, reason = "there are 272")]
pub(super) const NUMBER: Words = abi::COUNTERS as Words;

/// All verdicts there are.
pub(super) const ALL_WORDS: std::ops::Range<Words> = 0..NUMBER;

/// Which packets this gateway has sent, where the capture does not say it of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// None, whatever the capture says.
    Nothing,
    /// Those that come from these addresses.
    From(Vec<IpAddr>),
    /// Nobody has said it, and it is to be found out.
    NotSaid,
    /// It was found out: those to guarded ports that come from these addresses.
    Recognised(Vec<IpAddr>),
}

/// Who judges.
pub(super) struct Judge {
    policy: Rehearsal,
    /// Of the command line: a config file alone has nothing of it.
    state: State,
    now: Now,
    /// What is in force, where it is compared with that.
    other: Option<Rehearsal>,
    pub(super) sent: Sent,
}

impl Judge {
    pub(super) fn new(policy: Rehearsal, other: Option<Rehearsal>, sent: Sent, now: Now) -> Self {
        Self {
            policy,
            state: State::default(),
            now,
            other,
            sent,
        }
    }

    /// What the policy says of itself.
    pub(super) const fn description(&self) -> &Description {
        &self.policy.description
    }

    /// What is in force, where it is compared with that.
    pub(super) fn other_description(&self) -> Option<&Description> {
        Some(&self.other.as_ref()?.description)
    }

    pub(super) fn must_recognise(&self) -> bool {
        self.sent == Sent::NotSaid
    }

    #[inline]
    pub(super) fn fate(&mut self, packet: &Packet<'_>) -> Result<Fate> {
        let frame = match packet.frame {
            Ok(frame) => frame,
            Err(why) => return Ok(Fate::LeftOut(why)),
        };
        match (&self.sent, packet.direction) {
            (Sent::Nothing, _) => {}
            (_, Some(Direction::Out)) => return Ok(Fate::Sent),
            (Sent::From(own), None) => {
                let addresses = frame.addresses();
                if addresses.is_some_and(|(source, _)| own.contains(&source)) {
                    return Ok(Fate::Sent);
                }
            }
            (Sent::From(_) | Sent::NotSaid | Sent::Recognised(_), _) => {}
        }
        let judged = self.policy.judge(&frame)?;
        if let (Sent::Recognised(own), None) = (&self.sent, packet.direction)
            && judged.verdict.service < NO_SERVICE
            && let Some(asked) = judged.asked
            && own.contains(&asked.source())
        {
            return Ok(Fate::Sent);
        }
        let now = match &mut self.other {
            Some(other) => Some(words(&other.judge(&frame)?)),
            None => None,
        };
        Ok(Fate::Judged {
            words: words(&judged),
            judged,
            now,
        })
    }

    /// The verdict by the config file alone, whoever has sent it.
    pub(super) fn judge(&mut self, frame: &Frame<'_>) -> Result<Judged> {
        Ok(self.policy.judge(frame)?)
    }

    /// The mask of guarded protocols.
    pub(super) fn protocols(&self) -> u32 {
        self.policy.protocols()
    }

    /// The entry that decided, if one did.
    pub(super) fn entry(&self, judged: &Judged) -> Option<EntryReport<'_>> {
        let prefix = judged.decided_by()?;
        let service = self.description().service_at(judged.verdict.service)?;
        let value = self
            .policy
            .value(service.slot, judged.verdict.layer, prefix)?;
        let name = &service.service.name;
        let nothing = OwnEntries::new(&self.state);
        said_of(prefix, value, name, self.description(), &nothing, self.now).next()
    }

    /// Why, in words.
    pub(super) fn why(&self, judged: &Judged, meaning: Meaning<'_>) -> String {
        let source = judged.asked.map(|asked| asked.source());
        let mut why = match (self.entry(judged), meaning.reason, source) {
            (Some(entry), reason, _) => format!(
                "{} by {} ({})",
                reason.name(),
                prefix::format(entry.prefix),
                entry.says_who()
            ),
            (None, Reason::None, _) => "not guarded".to_owned(),
            (None, reason @ (Reason::Unlisted | Reason::Open), Some(source)) => {
                format!("{}: no entry covers {source}", reason.name())
            }
            (None, reason, _) => reason.name().replace('_', " "),
        };
        if meaning.is_watched() {
            why.push_str("; monitor mode: it passes all the same");
        }
        why
    }

    /// Between whom a packet to a guarded port is, where it is to be found out who of them is this gateway.
    #[inline]
    pub(super) fn conversation(
        &self,
        packet: &Packet<'_>,
        fate: &Fate,
    ) -> Option<(IpAddr, IpAddr)> {
        match (fate, packet.direction, packet.frame) {
            (&Fate::Judged { words, .. }, None, Ok(frame))
                if self.sent == Sent::NotSaid && slot(words) < NO_SERVICE =>
            {
                frame.addresses()
            }
            _ => None,
        }
    }
}

/// The verdict's counter.
pub(super) fn words(judged: &Judged) -> Words {
    counter(judged.verdict.service, judged.verdict.reason)
}
