//! What is to be done on a host, or why nothing can be.

use serde_json::Value;

use super::{
    facts::{Deployment, Facts},
    payload::{Config, Package},
};

/// The oldest kernel that has XDP links.
const KERNEL: (u32, u32) = (5, 9);
/// KiB for the new version, for the old one beside it, for what dpkg needs meanwhile, and for the way back.
const ROOM_FOR_PACKAGE: u64 = 64 * 1024;
/// KiB for configs, for the state, and for the way back.
const ROOM_FOR_CONFIG: u64 = 20 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Install {
    Nothing,
    Deb,
    Tarball,
}

#[derive(Debug)]
pub(super) struct Todo {
    pub(super) install: Install,
    /// The config file is another one.
    pub(super) config: bool,
    /// What is in force is not what the config says.
    pub(super) apply: bool,
}

impl Todo {
    pub(super) fn is_nothing(&self) -> bool {
        self.install == Install::Nothing && !self.config && !self.apply
    }
}

/// Compares what a host has with what it is to have. An error says why nothing is to be changed there.
pub(super) fn judge(
    facts: &Facts,
    package: &Package,
    config: Option<&Config>,
) -> Result<Todo, String> {
    if facts.deployment == Some(Deployment::Underway) {
        return Err("another deployment is at work there: try again in a minute".to_owned());
    }
    fits(facts, package)?;
    let todo = todo(facts, config)?;
    if todo.is_nothing() {
        return Ok(todo);
    }
    room(facts, &todo)?;
    let status = facts.status.as_ref();
    if status.is_some_and(|status| !status["pending"].is_null()) {
        return Err(
            "an apply waits to be confirmed there: `sipguard confirm` or `sipguard rollback` first"
                .to_owned(),
        );
    }
    // It could not be put in force again.
    if facts.generation().is_some()
        && todo.apply
        && (todo.config || todo.install != Install::Nothing)
    {
        return Err(
            "its config file says something else than what is in force there: bring both together first (`sipguard apply --dry-run` shows it)"
                .to_owned(),
        );
    }
    Ok(todo)
}

fn fits(facts: &Facts, package: &Package) -> Result<(), String> {
    let machine = match facts.machine.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let dpkg = facts.dpkg.as_deref().unwrap_or(machine);
    for has in [machine, dpkg] {
        if has != package.architecture {
            return Err(format!(
                "wrong architecture: it is {has}, the package is for {}",
                package.architecture
            ));
        }
    }
    let mut numbers = facts
        .kernel
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < KERNEL {
        return Err(format!(
            "its kernel is too old: {}, and sipguard needs {}.{}",
            facts.kernel, KERNEL.0, KERNEL.1
        ));
    }
    if !facts.bpffs {
        return Err("its kernel has no bpffs, where the filter is kept".to_owned());
    }
    Ok(())
}

/// Without asking whether it can be done.
pub(super) fn todo(facts: &Facts, config: Option<&Config>) -> Result<Todo, String> {
    let by_dpkg = is_installed("sipguard", facts.package.as_deref())?;
    let with_fetcher = is_installed("sipguard-fetch", facts.fetcher.as_deref())?;
    let by_hand = facts.version.is_some() && !by_dpkg;
    let install = if facts.same_files && (by_dpkg && with_fetcher || by_hand) {
        Install::Nothing
    } else if facts.dpkg.is_some() && !by_hand {
        Install::Deb
    } else {
        Install::Tarball
    };
    let changed = |planned: &Value| planned["changed"].as_bool() != Some(false);
    Ok(Todo {
        install,
        config: config.is_some_and(|config| facts.config.as_ref() != Some(&config.sum)),
        apply: facts.planned.as_ref().is_some_and(changed),
    })
}

/// Whether dpkg has it.
fn is_installed(name: &str, status: Option<&str>) -> Result<bool, String> {
    let status = status.unwrap_or_default();
    let words: Vec<_> = status.split_whitespace().collect();
    match words.as_slice() {
        [_, "ok", "installed", _] => Ok(true),
        [] | [_, "ok", "not-installed" | "config-files", ..] => Ok(false),
        _ => Err(format!(
            "{name} is half installed there ({status}): `dpkg --purge --force-remove-reinstreq {name}` or `dpkg --configure {name}` first"
        )),
    }
}

fn room(facts: &Facts, todo: &Todo) -> Result<(), String> {
    let needed = match todo.install {
        Install::Nothing => ROOM_FOR_CONFIG,
        Install::Deb | Install::Tarball => ROOM_FOR_PACKAGE,
    };
    for (folder, free) in [("/var/lib", facts.free_var), ("/usr", facts.free_usr)] {
        if free < needed {
            return Err(format!(
                "its disk is full: {} MiB are free in {folder}, and {} are needed",
                free / 1024,
                needed / 1024
            ));
        }
    }
    Ok(())
}
