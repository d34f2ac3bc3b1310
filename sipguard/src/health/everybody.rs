//! Services for listed sources that an entry lets everybody in to: `allow any` on the command line, or all addresses in a source.

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sipguard_ebpf::abi::{ALLOW_CONFIG, ALLOW_OWN, DENY_CONFIG, DENY_OWN, Reason, Value};

use super::{Finding, Kind, Survey, survey::edit};
use crate::{
    datapath::{Description, ServiceDescription},
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

pub(super) fn check(survey: &Survey) -> Vec<Finding> {
    let finding = |opening: Opening| {
        let about = format!("{} is {opening}, by {}", opening.service, opening.by());
        let mend = opening.mend(survey);
        Kind::OpenToEverybody.open(about, mend).of(&opening.service)
    };
    openings(survey).into_iter().map(finding).collect()
}

/// All of them, as the kernel has it: it is asked for two prefixes of each service.
pub(crate) fn openings(survey: &Survey) -> Vec<Opening> {
    let Some(live) = survey.in_force() else {
        return Vec::new();
    };
    let services = live.generation.description.services.iter();
    services
        .filter(|found| {
            // One that lets in who is not listed is meant to, and in monitor mode everybody is let in anyway.
            let service = &found.service;
            service.default == Action::Deny && service.mode == Mode::Enforce
        })
        .flat_map(|found| of_service(survey, live, found))
        .collect()
}

fn of_service(survey: &Survey, live: &Live, found: &ServiceDescription) -> Vec<Opening> {
    let families = ["IPv4", "IPv6"].into_iter().zip(ANY);
    let mut open: Vec<_> = families
        .filter_map(|(family, any)| {
            // What can't be looked up is not there.
            let value = live.generation.value(found.slot, any).ok()??;
            let description = &live.generation.description;
            opening(survey, description, &found.service.name, any, value).map(|opening| Opening {
                family: Some(family),
                ..opening
            })
        })
        .collect();
    if let [one, other] = &open[..] {
        let both = Opening {
            family: None,
            ..one.clone()
        };
        let is_same = Opening {
            family: None,
            ..other.clone()
        } == both;
        if is_same {
            open = vec![both];
        }
    }
    open
}

/// Whether a word of this prefix that is in force lets in, and until when one does.
fn opening(
    survey: &Survey,
    description: &Description,
    service: &str,
    any: IpNet,
    value: Value,
) -> Option<Opening> {
    let now = survey.now;
    if value.live(|| now.boot_ns) != Some(Reason::Allowed) {
        return None;
    }
    let timed = value.allow_until > now.boot_ns;
    let permanent = value.permanent & (DENY_CONFIG | DENY_OWN) == 0 && value.permanent != 0;
    let ends = || {
        // The two clocks are never read at the same moment; what was written down does not waver.
        let own = survey
            .state
            .entries
            .iter()
            .find(|own| own.prefix == any && own.service == service && own.until.is_some());
        let left = i64::try_from(value.allow_until - now.boot_ns).unwrap_or(i64::MAX);
        let left = SignedDuration::from_nanos(left);
        own.and_then(|own| own.until)
            .or_else(|| now.wall.checked_add(left).ok())
    };
    let origin = description.origins.get(usize::from(value.origin));
    Some(Opening {
        service: service.to_owned(),
        family: None,
        until: if timed && !permanent { ends() } else { None },
        own: timed || value.permanent & ALLOW_OWN != 0,
        // Also where the command line's word stands in its place: when that is gone, this one is back.
        origin: origin
            .filter(|_| value.config() & ALLOW_CONFIG != 0)
            .cloned(),
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
    fn mend(&self, survey: &Survey) -> String {
        let mut steps = Vec::new();
        if self.own {
            let (prefix, service) = (self.prefix(), &self.service);
            steps.push(format!("sipguard remove {prefix} --service {service}"));
        }
        if let Some(origin) = &self.origin {
            let file = origin.file.as_ref().unwrap_or(&survey.config);
            steps.extend([edit(file, None), survey.apply()]);
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
