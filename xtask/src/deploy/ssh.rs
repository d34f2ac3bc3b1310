//! Commands on a host, as root, through OpenSSH: a connection for each, so that every step shows again that the host lets us in.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use clap::Args;
use thiserror::Error;

use super::address::Address;

/// ssh's own code where there is no connection, or not any more.
const NO_CONNECTION: i32 = 255;
/// Ours where the user may not become root.
const NOT_ROOT: i32 = 97;

#[derive(Args)]
pub(crate) struct Ssh {
    /// The private key to log in with; otherwise ssh takes what it takes for you
    #[arg(long, value_name = "KEY")]
    identity: Option<PathBuf>,
    /// Where the hosts' public keys are; otherwise ssh's own known_hosts files. A host whose key is not there is refused
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
}

/// Why a command did not do what it was to do.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// There is no connection, or it broke.
    #[error("{0}")]
    NoConnection(String),
    /// We are in, and may do nothing.
    #[error("{0}")]
    NotRoot(String),
    /// The command's own last words.
    #[error("{0}")]
    Said(String),
    /// It is this machine.
    #[error("{0:#}")]
    Here(#[from] anyhow::Error),
}

impl Ssh {
    /// Runs a shell script.
    pub(super) fn script(&self, host: &Address, script: &str) -> Result<String, Failure> {
        self.run(host, "sh -s", input(script.as_bytes())?)
    }

    /// Runs one line for a shell, without any quotes and dollars in it.
    pub(super) fn line(&self, host: &Address, line: &str, input: File) -> Result<String, Failure> {
        self.run(host, &format!("sh -c \"{line}\""), input)
    }

    fn run(&self, host: &Address, command: &str, input: File) -> Result<String, Failure> {
        // Whatever shell the user has, it understands this much.
        let as_root = format!(
            "sh -c 'if test \"$(id -u)\" = 0; then exec {command}; fi; \
             sudo -n true || exit {NOT_ROOT}; exec sudo -n {command}'"
        );
        let mut ssh = Command::new("ssh");
        // No questions: a key that is not known is refused, a password is not asked for.
        ssh.args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
            .args(["-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5"])
            .args(["-o", "ServerAliveCountMax=3", "-o", "LogLevel=ERROR"])
            // One that was made before the change would prove nothing.
            .args(["-o", "ControlMaster=no", "-o", "ControlPath=none"])
            .args(["-T", "-l", &host.user]);
        if let Some(port) = host.port {
            ssh.args(["-p", &port.to_string()]);
        }
        if let Some(identity) = &self.identity {
            ssh.args(["-o", "IdentitiesOnly=yes", "-i"]).arg(identity);
        }
        if let Some(file) = &self.known_hosts {
            ssh.arg("-o")
                .arg(format!("UserKnownHostsFile=\"{}\"", file.display()))
                .args(["-o", "GlobalKnownHostsFile=/dev/null"]);
        }
        let output = ssh
            .args(["--", &host.name, &as_root])
            .stdin(Stdio::from(input))
            .output()
            .context("ssh can't be started; it is in the package openssh-client")?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Some(NO_CONNECTION) => Err(Failure::NoConnection(explain(&said))),
            Some(NOT_ROOT) => Err(Failure::NotRoot(format!(
                "{} is not root there and can't use sudo without a password ({})",
                host.user,
                last(&said)
            ))),
            Some(_) => Err(Failure::Said(last(&said).to_owned())),
            None => Err(Failure::NoConnection("ssh was killed".to_owned())),
        }
    }
}

/// A file that is read from its beginning, and that nobody else sees.
pub(super) fn input(bytes: &[u8]) -> Result<File> {
    let mut file = tempfile::tempfile().context("a temporary file")?;
    file.write_all(bytes).context("a temporary file")?;
    file.rewind()?;
    Ok(file)
}

fn last(said: &str) -> &str {
    let mut lines = said.lines().rev().map(str::trim);
    lines
        .find(|line| !line.is_empty())
        .unwrap_or("no reason given")
}

/// What ssh says, and what to do about it.
fn explain(said: &str) -> String {
    let is = |text: &str| said.contains(text);
    let last = last(said);
    if is("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        "its host key is another one than is known: find out why, then correct known_hosts"
            .to_owned()
    } else if is("host key is known for") || is("Host key verification failed") {
        "its host key is not known: compare it with the host's own, then log in once by hand, or name a file with --known-hosts"
            .to_owned()
    } else if is("Permission denied") {
        format!("it does not let us in ({last}): name another key with --identity")
    } else {
        last.to_owned()
    }
}
