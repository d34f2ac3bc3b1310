//! Where this system gets Debian's packages from.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::apt;
use crate::machine;

/// One suite of Debian's that the system's own apt sources name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The archive's address.
    address: String,
    suite: String,
    component: String,
    /// `Debian`, or what the archive is called beside that: `Debian-Security`.
    label: String,
}

impl Source {
    /// All of them. apt reads its own files: both formats, what is switched off, and whose archive each one is.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let known = read()?;
        if !known.is_empty() {
            return Ok(known);
        }
        // Whose archive it is stands in what was read from there.
        apt::update()?;
        read()
    }

    /// As a line of `/etc/apt/sources.list`.
    pub(crate) fn line(&self) -> String {
        let Self {
            address,
            suite,
            component,
            ..
        } = self;
        format!("deb {address} {suite} {component}\n")
    }
}

/// The address of Debian's archive, for suites of any release.
pub(crate) fn mirror() -> Result<String> {
    let all = Source::all()?;
    let main = all.into_iter().find(|source| source.label == "Debian");
    Ok(main
        .context("this system's apt sources name no archive of Debian's (sources.list(5)), and what is fetched here comes from one")?
        .address)
}

fn read() -> Result<Vec<Source>> {
    let said = machine::said(
        Command::new("apt-get")
            .args(["indextargets", "--format"])
            .arg("$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(LABEL)")
            .args(["Created-By: Packages", "Origin: Debian"]),
    )
    .context("which package sources this system has is told by apt-get")?;
    let mut all = Vec::new();
    for line in said.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [address, suite, component, label] = fields[..] else {
            continue;
        };
        let source = Source {
            address: address.trim_end_matches('/').to_owned(),
            suite: suite.to_owned(),
            component: component.to_owned(),
            label: label.to_owned(),
        };
        // Once an architecture.
        if !all.contains(&source) {
            all.push(source);
        }
    }
    Ok(all)
}
