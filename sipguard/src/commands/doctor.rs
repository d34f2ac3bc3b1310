//! `sipguard doctor`.
//!
//! JSON, one object: `{"well":false,"checks":["kernel",…],"findings":[{"check":"jit","wrong":true,"about":"…","mend":"sysctl -w …"}]}`.
//! `about` is one sentence, `mend` one command for a shell; `wrong` is false for what is only advice. `well` is false where anything is
//! wrong, and then the exit code is 1.

mod blind;
mod boot;
mod in_force;
mod jit;
mod kernel;
mod listeners;
mod nat;
mod native;
mod others;
mod reserved;
mod seg6local;
mod talkers;
mod unguarded;
mod world;

use std::{collections::BTreeSet, fs, io::Write, net::IpAddr, path::PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use sipguard::{
    config,
    device::{self, Device},
    lifecycle::{self, Live},
    policy::Policy,
    report::{self, InterfaceReport},
    state::OwnEntry,
    tables::Now,
};

use super::{Context, Outcome, needs_root, write_json};
use crate::output::count;

/// One thing to mend.
#[derive(Debug, Serialize)]
struct Finding {
    /// Whether the filter does less than it should, or only could do better.
    wrong: bool,
    about: String,
    /// A command.
    mend: String,
}

fn wrong(about: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding {
        wrong: true,
        about: about.into(),
        mend: mend.into(),
    }
}

fn advice(about: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding {
        wrong: false,
        ..wrong(about, mend)
    }
}

/// What the checks look at.
struct Host {
    config: PathBuf,
    /// Where the config can't be read, `in_force` says so, and the others have nothing to compare with.
    policy: Result<Policy, String>,
    live: Result<Option<Live>, String>,
    /// What the kernel is to filter, and what became of it.
    interfaces: Vec<InterfaceReport>,
    devices: Vec<Device>,
    own: Vec<OwnEntry>,
    /// This host's own.
    addresses: BTreeSet<IpAddr>,
    now: Now,
}

type Check = fn(&Host) -> Vec<Finding>;

const CHECKS: &[(&str, Check)] = &[
    ("kernel", kernel::check),
    ("jit", jit::check),
    ("in_force", in_force::check),
    ("others", others::check),
    ("blind", blind::check),
    ("native", native::check),
    ("world", world::check),
    ("listeners", listeners::check),
    ("talkers", talkers::check),
    ("unguarded", unguarded::check),
    ("reserved", reserved::check),
    ("nat", nat::check),
    ("seg6local", seg6local::check),
    ("boot", boot::check),
];

pub(super) fn run(context: &Context, out: &mut dyn Write) -> Result<Outcome> {
    needs_root()?;
    let host = look(context)?;
    let found: Vec<(&str, Vec<Finding>)> = CHECKS
        .iter()
        .map(|&(name, check)| (name, check(&host)))
        .collect();
    let well = found
        .iter()
        .flat_map(|(_, findings)| findings)
        .all(|finding| !finding.wrong);
    if context.json {
        write_json(out, &json(&found, well))?;
    } else {
        write(out, &found, context)?;
    }
    Ok(if well { Outcome::Done } else { Outcome::Wrong })
}

fn look(context: &Context) -> Result<Host> {
    let state = lifecycle::state(&context.host);
    let (live, interfaces) = match report::interfaces(&context.host, &state.fallbacks) {
        Ok(found) => {
            let (live, interfaces) = found.unzip();
            (Ok(live), interfaces.unwrap_or_default())
        }
        Err(error) => (Err(error.to_string()), Vec::new()),
    };
    let devices = device::all().context("can't ask the kernel for its interfaces")?;
    let policy = config::load(&context.config).map_err(|error| error.to_string());
    let policy = policy.and_then(|mut policy| {
        let named = lifecycle::use_kernel_names(&mut policy, &devices);
        named.map_err(|error| error.to_string())?;
        Ok(policy)
    });
    Ok(Host {
        policy,
        config: context.config.clone(),
        live,
        interfaces,
        devices,
        now: lifecycle::now(&context.host, &state),
        own: state.entries,
        addresses: device::addresses().context("can't ask the kernel for its addresses")?,
    })
}

fn json(found: &[(&str, Vec<Finding>)], well: bool) -> serde_json::Value {
    #[derive(Serialize)]
    struct Named<'a> {
        check: &'a str,
        #[serde(flatten)]
        finding: &'a Finding,
    }
    let named: Vec<_> = found
        .iter()
        .flat_map(|&(check, ref findings)| {
            findings.iter().map(move |finding| Named { check, finding })
        })
        .collect();
    let checks: Vec<_> = found.iter().map(|(name, _)| name).collect();
    serde_json::json!({ "well": well, "checks": checks, "findings": named })
}

fn write(out: &mut dyn Write, found: &[(&str, Vec<Finding>)], context: &Context) -> Result<()> {
    let palette = context.palette;
    let mut number = 0;
    for finding in found.iter().flat_map(|(_, findings)| findings) {
        number += 1;
        let (style, word) = if finding.wrong {
            (palette.bad, "wrong")
        } else {
            (palette.warning, "advice")
        };
        writeln!(out, "{style}{word}:{style:#} {}", finding.about)?;
        writeln!(out, "    {}", finding.mend)?;
    }
    if number == 0 && !context.is_quiet() {
        let good = palette.good;
        let checks = count(found.len(), "check", "checks");
        writeln!(out, "{good}all is well{good:#}: {checks}, nothing to mend")?;
    }
    Ok(())
}

/// A setting below `/proc/sys`; nothing where this kernel or this network namespace has none.
fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(text.trim().to_owned())
}

/// What the command in a shell calls a file.
fn quoted(path: &std::path::Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
