//! sipguard on a host of the benchmark, in force by its own command line.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{bpf::Program, builds, lists::Prefix};
use crate::netns::{BPFFS, Host, SCRATCH, STATE};

/// What every host calls its interface.
pub(super) const INTERFACE: &str = "eth0";

/// How the program is attached, in the config's words.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Native,
    Tc,
}

impl Mode {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Tc => "tc",
        }
    }
}

/// Has these prefixes banned by the next apply, and none besides, as if that had been said before a restart.
pub(super) fn ban(prefixes: &[Prefix]) -> Result<()> {
    let lines = prefixes.iter().map(|prefix| {
        format!("{{\"ban\":\"{prefix}\",\"lasts_in\":\"\",\"added\":\"2026-01-01T00:00:00Z\"}}\n")
    });
    let folder = Path::new(STATE);
    fs::create_dir_all(folder)?;
    Ok(fs::write(
        folder.join("bans.jsonl"),
        lines.collect::<String>(),
    )?)
}

/// A config that guards SIP and the web page and lets the sources of a list reach SIP.
pub(super) struct Guard {
    binary: PathBuf,
    config: PathBuf,
}

impl Guard {
    /// By the command as it is shipped.
    pub(super) fn new(list: &str, mode: Mode) -> Result<Self> {
        Self::by(&builds::shipped(), list, mode)
    }

    pub(super) fn by(binary: &Path, list: &str, mode: Mode) -> Result<Self> {
        let config = PathBuf::from(SCRATCH).join("sipguard.toml");
        fs::write(config.with_file_name("listed.txt"), list)?;
        fs::write(
            &config,
            format!(
                r#"
[[interface]]
name = "{INTERFACE}"
mode = "{mode}"
[sources]
listed = {{ file = "listed.txt" }}
[services.sip]
udp = [5060, 5061, 50600]
tcp = [5060, 5061, 50600]
allow = ["listed"]
[services.web]
udp = [80]
tcp = [80]
"#,
                mode = mode.name()
            ),
        )?;
        Ok(Self {
            binary: binary.to_owned(),
            config,
        })
    }

    /// Keeps a live list out of SIP, and nobody else; `source` is what is in its table.
    pub(super) fn deny_live(&self, source: &str) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        let text = text.replace(
            "[services.sip]\n",
            "[services.sip]\ndefault = \"allow\"\ndeny = [\"live\"]\n",
        );
        let source = format!("[sources]\nlive = {{ {source} }}\n");
        Ok(fs::write(
            &self.config,
            text.replace("[sources]\n", &source),
        )?)
    }

    /// The command, with this config.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut sipguard = Command::new(&self.binary);
        sipguard.arg("--config").arg(&self.config).args(words);
        sipguard
    }

    /// How long it took until the policy was in force.
    pub(super) fn apply(&self, host: &Host) -> Result<Duration> {
        self.run(host, &["apply"])
    }

    /// The program that guards a host's interface, to be run elsewhere. One that is open keeps its maps when nothing of it is in force any
    /// more.
    pub(super) fn program(&self, host: &Host) -> Result<Program> {
        self.apply(host)?;
        let program = program_in_force();
        self.down(host)?;
        program
    }

    pub(super) fn down(&self, host: &Host) -> Result<()> {
        self.run(host, &["down"]).map(drop)
    }

    pub(super) fn run(&self, host: &Host, words: &[&str]) -> Result<Duration> {
        let began = Instant::now();
        let finished = host.run(&mut self.command(words));
        let took = began.elapsed();
        ensure!(
            finished.status.success(),
            "sipguard {}: {}",
            words.join(" "),
            finished.stderr.trim()
        );
        Ok(took)
    }
}

/// The program that guards the interface, as long as no other generation takes its place.
pub(super) fn program_in_force() -> Result<Program> {
    Program::open(&pinned()?)
}

/// The newest generation's program for the interface.
fn pinned() -> Result<PathBuf> {
    let generations = Path::new(BPFFS).join("sipguard/generations");
    let mut numbers = Vec::new();
    for folder in fs::read_dir(&generations).context("reading sipguard's pins")? {
        numbers.extend(folder?.file_name().to_string_lossy().parse::<u64>());
    }
    let newest = numbers.iter().max().context("sipguard pinned nothing")?;
    let program = format!("program-{INTERFACE}");
    Ok(generations.join(newest.to_string()).join(program))
}
