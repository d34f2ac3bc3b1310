//! Services for listed sources that an entry lets everybody in to: `allow any` on the command line, or all addresses in a source.

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sipguard_ebpf::abi::{ALLOW_CONFIG, ALLOW_OWN, Layer, Reason, Value};

use super::{Evidence, Finding, Kind, evidence::edit};
use crate::{
    datapath::ServiceDescription,
    lifecycle::Live,
    policy::{Action, Mode, Origin},
    prefix::ANY,
    prose::local,
};

pub(super) const FINDS: &[Kind] = &[Kind::OpenToEverybody];

/// That a service is open to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The service's name.
    pub service: String,
    /// `IPv4` or `IPv6`, where it is that one alone.
    pub family: Option<&'static str>,
    /// Until when; `None` where it does not end by itself.
    pub until: Option<Timestamp>,
    /// Whether the command line says so.
    own: bool,
    /// The source of the config that says so.
    origin: Option<Origin>,
}

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let finding = |opening: Opening| {
        let about = format!("{} is {opening}, by {}", opening.service, opening.by());
        let mend = opening.mend(evidence);
        Kind::OpenToEverybody.open(about, mend).of(&opening.service)
    };
    openings(evidence).into_iter().map(finding).collect()
}

/// All of them, as the kernel has it: it is asked for two prefixes of each service.
pub(crate) fn openings(evidence: &Evidence) -> Vec<Opening> {
    let Some(live) = evidence.in_force() else {
        return Vec::new();
    };
    let services = live.generation.description.services.iter();
    services
        .filter(|found| {
            // One that lets in who is not listed is meant to, and in monitor mode everybody is let in anyway.
            let service = &found.service;
            service.default == Action::Deny && service.mode == Mode::Enforce
        })
        .flat_map(|found| of_service(evidence, live, found))
        .collect()
}

fn of_service(evidence: &Evidence, live: &Live, found: &ServiceDescription) -> Vec<Opening> {
    let open: Vec<_> = ["IPv4", "IPv6"]
        .into_iter()
        .zip(ANY)
        .filter_map(|(family, any)| {
            // What can't be looked up is not there.
            let value = live.generation.value(found.slot, Layer::Hand, any).ok()??;
            let word = Word::of(value, evidence.now.boot_ns)?;
            let origins = &live.generation.description.origins;
            let origin = word
                .config
                .and_then(|origin| origins.get(usize::from(origin)));
            Some(Opening {
                service: found.service.name.clone(),
                family: Some(family),
                until: word
                    .until
                    .and_then(|ns| end(evidence, &found.service.name, any, ns)),
                own: word.own,
                origin: origin.cloned(),
            })
        })
        .collect();
    let of_both = |opening: &Opening| Opening {
        family: None,
        ..opening.clone()
    };
    match &open[..] {
        [one, other] if of_both(one) == of_both(other) => vec![of_both(one)],
        _ => open,
    }
}

/// What lets a prefix in.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    /// When it ends by itself, by the boot clock in nanoseconds.
    until: Option<u64>,
    /// Whether the command line says so.
    own: bool,
    /// The number of the source of the config that says so, also where the command line's word stands in its place: when that is gone, it
    /// is back.
    config: Option<u16>,
}

impl Word {
    fn of(value: Value, boot_ns: u64) -> Option<Self> {
        if value.live(|| boot_ns) != Some(Reason::Allowed) {
            return None;
        }
        let timed = value.allow_until > boot_ns;
        // What counts when that is over.
        let permanent = Value {
            allow_until: 0,
            ..value
        };
        let goes_on = permanent.live(|| boot_ns) == Some(Reason::Allowed);
        Some(Self {
            until: (timed && !goes_on).then_some(value.allow_until),
            own: timed || value.permanent & ALLOW_OWN != 0,
            config: (value.config() & ALLOW_CONFIG != 0).then_some(value.origin),
        })
    }
}

/// When a timed entry ends: as it was written down, for the two clocks are never read at the same moment.
fn end(evidence: &Evidence, service: &str, prefix: IpNet, boot_ns: u64) -> Option<Timestamp> {
    let mut entries = evidence.state.entries.iter();
    let written = entries
        .find(|own| own.prefix == prefix && own.service == service && own.until.is_some())
        .and_then(|own| own.until);
    let left = i64::try_from(boot_ns.saturating_sub(evidence.now.boot_ns)).ok()?;
    written.or_else(|| {
        let left = SignedDuration::from_nanos(left);
        evidence.now.wall.checked_add(left).ok()
    })
}

impl Opening {
    /// What stands for its addresses on the command line.
    fn prefix(&self) -> &'static str {
        match self.family {
            None => "any",
            Some("IPv4") => "0.0.0.0/0",
            Some(_) => "::/0",
        }
    }

    /// Who says so.
    fn by(&self) -> String {
        let own = format!("`sipguard allow {}`", self.prefix());
        match &self.origin {
            Some(Origin { source, .. }) if self.own => {
                format!("{own} and by the config's source {source}")
            }
            Some(Origin { source, .. }) => format!("the config's source {source}"),
            None => own,
        }
    }

    /// Takes back what both say.
    fn mend(&self, evidence: &Evidence) -> String {
        let mut steps = Vec::new();
        if self.own {
            let (prefix, service) = (self.prefix(), &self.service);
            steps.push(format!("sipguard remove {prefix} --service {service}"));
        }
        if let Some(origin) = &self.origin {
            let file = origin.file.as_ref().unwrap_or(&evidence.config);
            steps.extend([edit(file, None), evidence.apply()]);
        }
        steps.join(" && ")
    }
}

/// `OPEN TO EVERYBODY on IPv4 until 2026-03-01 12:00:00`
impl std::fmt::Display for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OPEN TO EVERYBODY")?;
        if let Some(family) = self.family {
            write!(f, " on {family}")?;
        }
        match self.until {
            Some(until) => write!(f, " until {}", local(until)),
            None => f.write_str(", without an end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use sipguard_ebpf::abi::{DENY_CONFIG, DENY_OWN};

    use super::*;

    #[test]
    fn who_lets_in_and_until_when() {
        let word = |permanent, overruled, allow_until, deny_until| {
            let value = Value {
                deny_until,
                allow_until,
                permanent,
                overruled,
                origin: 7,
                ..Value::default()
            };
            Word::of(value, 100).map(|word| (word.until, word.own, word.config))
        };
        for closed in [
            word(0, 0, 0, 0),
            word(0, 0, 100, 0),
            word(0, 0, 200, 101),
            word(ALLOW_OWN, 0, 0, 101),
            word(DENY_CONFIG, 0, 0, 0),
            word(DENY_OWN, ALLOW_CONFIG, 99, 0),
        ] {
            assert_eq!(closed, None);
        }
        assert_eq!(word(0, 0, 200, 0), Some((Some(200), true, None)));
        assert_eq!(word(0, 0, 200, 99), Some((Some(200), true, None)));
        assert_eq!(word(DENY_OWN, 0, 200, 0), Some((Some(200), true, None)));
        assert_eq!(word(ALLOW_OWN, 0, 200, 0), Some((None, true, None)));
        assert_eq!(word(ALLOW_OWN, 0, 99, 0), Some((None, true, None)));
        assert_eq!(word(ALLOW_CONFIG, 0, 0, 0), Some((None, false, Some(7))));
        assert_eq!(word(ALLOW_CONFIG, 0, 200, 0), Some((None, true, Some(7))));
        assert_eq!(
            word(DENY_OWN, ALLOW_CONFIG, 200, 0),
            Some((Some(200), true, Some(7)))
        );
        assert_eq!(word(ALLOW_OWN, DENY_CONFIG, 0, 0), Some((None, true, None)));
    }
}
