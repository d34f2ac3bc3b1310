//! What a host has, as it says itself.

use serde_json::Value;

use super::{
    address::Address,
    ssh::{Failure, Ssh},
};

const CHECKS: &str = include_str!("checks.sh");

/// Everything that a package, or sipguard itself, puts on a host.
pub(super) const TRACES: &str = "\
    /etc/sipguard /var/lib/sipguard /var/lib/sipguard-fetch /usr/bin/sipguard /usr/bin/sipguard-fetch \
    /usr/lib/systemd/system/sipguard*.service /usr/lib/systemd/system/sipguard*.timer /usr/lib/systemd/system/sipguard*.path \
    /usr/lib/systemd/system/sipguard*.service.d /etc/systemd/system/*/sipguard.service /etc/systemd/system/*/sipguard-fetch.service \
    /etc/systemd/system/*/sipguard-agent.service /run/sipguard \
    /usr/lib/sysusers.d/sipguard-fetch.conf \
    /usr/lib/udev/rules.d/90-sipguard.rules /usr/lib/sysctl.d/50-sipguard.conf \
    /usr/share/sipguard /usr/share/doc/sipguard /usr/share/doc/sipguard-fetch /usr/share/lintian/overrides/sipguard \
    /usr/share/lintian/overrides/sipguard-fetch /usr/share/man/man1/sipguard*.1.gz \
    /usr/share/man/man5/sipguard.toml.5.gz \
    /usr/share/bash-completion/completions/sipguard /usr/share/zsh/vendor-completions/_sipguard \
    /usr/share/fish/vendor_completions.d/sipguard.fish /var/lib/sipguard-deploy*";

#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The kernel's architecture, as `uname` calls it.
    pub(super) machine: String,
    pub(super) kernel: String,
    pub(super) bpffs: bool,
    /// KiB below `/var/lib`.
    pub(super) free_var: u64,
    /// KiB below `/usr`.
    pub(super) free_usr: u64,
    /// The architecture of its packages, where it has dpkg.
    pub(super) dpkg: Option<String>,
    /// What dpkg knows of the package: what is wanted, its error flag, its status and its version.
    pub(super) package: Option<String>,
    /// The same of the package sipguard-fetch.
    pub(super) fetcher: Option<String>,
    /// The installed files are the package's.
    pub(super) same_files: bool,
    /// The config file's SHA-256.
    pub(super) config: Option<String>,
    /// Interfaces with an XDP program, and its number.
    pub(super) xdp: Vec<(String, u64)>,
    /// What the installed sipguard says to `--version`.
    pub(super) version: Option<String>,
    /// What it says to `status --json`; a text where that is no JSON.
    pub(super) status: Option<Value>,
    /// What it says to `apply --dry-run --json` for the installed config; null where it can't be applied.
    pub(super) planned: Option<Value>,
    /// What there is of sipguard: files, and pins.
    pub(super) traces: Vec<String>,
    pub(super) deployment: Option<Deployment>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Deployment {
    Underway,
    /// Nobody watches over it: the host has restarted since.
    Abandoned,
}

/// Asks a host. `sums` are those of the package's files.
pub(super) fn look(ssh: &Ssh, host: &Address, sums: &str) -> Result<Facts, Failure> {
    let script = format!("sums='{sums}'\ntraces='{TRACES}'\n{CHECKS}");
    let said = ssh.script(host, &script)?;
    let mut facts = Facts::default();
    for line in said.lines() {
        if line == "end=." {
            return Ok(facts);
        }
        if let Some((name, value)) = line.split_once('=') {
            facts.add(name, value.trim());
        }
    }
    Err(Failure::Said(
        "it did not answer all that it was asked".to_owned(),
    ))
}

impl Facts {
    fn add(&mut self, name: &str, value: &str) {
        let text = || value.to_owned();
        match name {
            "machine" => self.machine = text(),
            "kernel" => self.kernel = text(),
            "bpffs" => self.bpffs = value != "0",
            "free_var" => self.free_var = value.parse().unwrap_or(0),
            "free_usr" => self.free_usr = value.parse().unwrap_or(0),
            "dpkg" => self.dpkg = Some(text()),
            "package" => self.package = Some(text()),
            "fetcher" => self.fetcher = Some(text()),
            "files" => self.same_files = true,
            "config" => self.config = Some(text()),
            "xdp" => {
                if let Some((interface, program)) = value.split_once(':') {
                    let program = program.parse().unwrap_or(0);
                    self.xdp.push((interface.to_owned(), program));
                }
            }
            "version" => self.version = Some(text()),
            "status" => {
                self.status = Some(serde_json::from_str(value).unwrap_or_else(|_| text().into()));
            }
            "planned" => self.planned = Some(serde_json::from_str(value).unwrap_or(Value::Null)),
            "trace" | "pins" => self.traces.push(text()),
            "deployment" => {
                self.deployment = Some(match value {
                    "underway" => Deployment::Underway,
                    _ => Deployment::Abandoned,
                });
            }
            _ => {}
        }
    }

    /// The generation in force.
    pub(super) fn generation(&self) -> Option<u64> {
        self.status.as_ref()?["generation"].as_u64()
    }

    /// The interfaces that are in this state.
    fn interfaces(&self, state: &str) -> Vec<&str> {
        let interfaces = self.status.as_ref().map(|status| &status["interfaces"]);
        interfaces
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|interface| interface["state"] == state)
            .filter_map(|interface| interface["name"].as_str())
            .collect()
    }

    /// Interfaces that should be filtered and are not.
    pub(super) fn unfiltered(&self) -> Vec<&str> {
        self.interfaces("detached")
    }

    /// Somebody else's XDP programs.
    pub(super) fn foreign(&self) -> Vec<&str> {
        let interfaces = self.status.as_ref().map(|status| &status["interfaces"]);
        let ours: Vec<_> = interfaces
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|interface| interface["program"].as_u64())
            .collect();
        self.xdp
            .iter()
            .filter(|(_, program)| !ours.contains(program))
            .map(|(interface, _)| interface.as_str())
            .collect()
    }

    /// What is in force there, in words.
    pub(super) fn in_force(&self) -> String {
        let pins = self.traces.iter().any(|trace| trace.starts_with("/sys/"));
        match (&self.status, self.generation()) {
            (_, Some(generation)) => {
                let attached = self.interfaces("attached");
                let attached = match attached.as_slice() {
                    [] => "no interface".to_owned(),
                    names => names.join(" "),
                };
                format!("generation {generation} on {attached}")
            }
            (Some(Value::Object(_)), None) => "nothing".to_owned(),
            (None, None) if !pins => "nothing".to_owned(),
            (Some(Value::String(why)), None) => format!("unknown ({why})"),
            _ => "unknown".to_owned(),
        }
    }

    /// What is not as it was before.
    pub(super) fn differs(&self, before: &Self) -> Option<&'static str> {
        let policy = |facts: &Self| {
            facts
                .status
                .as_ref()
                .map(|status| status["services"].clone())
        };
        let packages = |facts: &Self| {
            let packages = [&facts.package, &facts.fetcher].map(Clone::clone);
            packages.map(|package| package.filter(|package| package.contains(" installed ")))
        };
        if packages(self) != packages(before) || self.version != before.version {
            Some("the package is another one")
        } else if self.config != before.config {
            Some("the config is another one")
        } else if self.generation().is_some() != before.generation().is_some()
            || self.interfaces("attached") != before.interfaces("attached")
            || policy(self) != policy(before)
        {
            Some("what is in force is something else")
        } else {
            None
        }
    }

    /// The version that is installed, in words.
    pub(super) fn installed(&self) -> String {
        match (&self.package, &self.version) {
            (Some(package), Some(_)) if package.contains(" installed ") => {
                let version = package.rsplit(' ').next().unwrap_or_default();
                format!("sipguard {version}")
            }
            (_, Some(version)) => version.clone(),
            _ => "no sipguard".to_owned(),
        }
    }
}
