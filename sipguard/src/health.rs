//! Whether this host is guarded as its config says: one answer, for `status`, `doctor` and whoever else is asked.
//!
//! A check is a file here and a row of [`CHECKS`]. It looks at the `Evidence` and tells what is wrong, each thing by a [`Kind`], with a sentence
//! and a command that mends it. What is said goes by what is true of the kernel, and not by what was meant to be.

mod agent;
mod blind;
mod boot;
mod everybody;
mod evidence;
mod finding;
mod in_force;
mod jit;
mod kernel;
mod listeners;
mod lists;
mod nat;
mod native;
mod others;
mod ports;
mod printed;
mod queue;
mod reserved;
mod seg6local;
mod sockets;
mod sources;
mod talkers;
mod unguarded;
mod world;

use std::path::Path;

use serde::Serialize;

pub use self::{
    everybody::Opening,
    finding::{Finding, Kind, Place, Severity},
};
pub(crate) use self::{everybody::openings, evidence::Evidence};
use crate::{datapath::Trust, host::Host, lifecycle, prose::count};

/// One way to look.
pub struct Check {
    /// Its name in JSON.
    pub name: &'static str,
    /// All that it may find.
    pub finds: &'static [Kind],
    look: fn(&Evidence) -> Vec<Finding>,
}

const fn check(
    name: &'static str,
    finds: &'static [Kind],
    look: fn(&Evidence) -> Vec<Finding>,
) -> Check {
    Check { name, finds, look }
}

/// All checks. Of what is equally bad, the first is the one that a summary names.
pub const CHECKS: &[Check] = &[
    check("kernel", kernel::FINDS, kernel::check),
    check("jit", jit::FINDS, jit::check),
    check("everybody", everybody::FINDS, everybody::check),
    check("in_force", in_force::FINDS, in_force::check),
    check("others", others::FINDS, others::check),
    check("ports", ports::FINDS, ports::check),
    check("blind", blind::FINDS, blind::check),
    check("native", native::FINDS, native::check),
    check("queue", queue::FINDS, queue::check),
    check("world", world::FINDS, world::check),
    check("lists", lists::FINDS, lists::check),
    check("sources", sources::FINDS, sources::check),
    check("listeners", listeners::FINDS, listeners::check),
    check("talkers", talkers::FINDS, talkers::check),
    check("unguarded", unguarded::FINDS, unguarded::check),
    check("reserved", reserved::FINDS, reserved::check),
    check("nat", nat::FINDS, nat::check),
    check("seg6local", seg6local::FINDS, seg6local::check),
    check("agent", agent::FINDS, agent::check),
    check("boot", boot::FINDS, boot::check),
];

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is as the config says.
    Guarded,
    /// What is to be closed is closed, and something else is wrong.
    GuardedWithFindings,
    /// Something that is to be closed is open.
    NotGuarded,
}

/// The answer, and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether what the config wants closed is closed.
    pub guarded: bool,
    /// All in one line, without a full stop.
    pub summary: String,
    /// The worst first, then in the order of the checks.
    pub findings: Vec<Finding>,
}

/// Looks at everything. Waits for half a second where nothing comes in by an interface, or where what comes in has to be counted; takes no lock,
/// and changes nothing.
///
/// # Errors
/// Where the kernel can't be asked for its interfaces.
pub fn examine(host: &Host, config: &Path) -> Result<Health, lifecycle::Error> {
    Ok(Health::of(&Evidence::look(host, config, Trust::Nothing)?))
}

impl Health {
    pub(crate) fn of(evidence: &Evidence) -> Self {
        let mut findings = Vec::new();
        for check in CHECKS {
            let found = (check.look)(evidence);
            debug_assert!(found.iter().all(|it| check.finds.contains(&it.kind)));
            findings.extend(found);
        }
        // The worst first; of equals in the order of the checks.
        findings.sort_by_key(|finding| finding.severity);
        Self::new(&evidence.config, findings)
    }

    fn new(config: &Path, findings: Vec<Finding>) -> Self {
        let verdict = verdict(&findings);
        Self {
            guarded: verdict != Verdict::NotGuarded,
            summary: summary(verdict, config, &findings),
            findings,
        }
    }

    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        verdict(&self.findings)
    }
}

fn verdict(findings: &[Finding]) -> Verdict {
    match findings.iter().map(|finding| finding.severity).min() {
        Some(Severity::Open) => Verdict::NotGuarded,
        Some(Severity::Wrong) => Verdict::GuardedWithFindings,
        Some(Severity::Advice) | None => Verdict::Guarded,
    }
}

fn summary(verdict: Verdict, config: &Path, findings: &[Finding]) -> String {
    let wrong = findings.iter().filter(|finding| finding.is_wrong());
    let number = wrong.clone().count();
    // Of equals the first.
    let Some(worst) = wrong.min_by_key(|finding| finding.severity) else {
        return format!("guarded: as {} says", config.display());
    };
    let about = &worst.about;
    let begin = match verdict {
        Verdict::NotGuarded => "NOT GUARDED".to_owned(),
        _ => format!("guarded, with {}", count(number, "finding", "findings")),
    };
    match number {
        1 => format!("{begin}: {about}; `sipguard doctor` says what mends it"),
        _ => format!(
            "{begin}: {about} ({} more; `sipguard doctor` has all)",
            number - 1
        ),
    }
}

#[cfg(test)]
mod tests;
