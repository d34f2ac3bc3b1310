//! What is measured: this checkout's sipguard, and that of another commit beside it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::machine;

/// How sipguard is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// Quickly: whatever the profile of the command, its kernel program is the one that is shipped.
    Quick,
    /// As it is shipped.
    Shipped,
}

impl Profile {
    const fn folder(self) -> &'static str {
        match self {
            Self::Quick => "debug",
            Self::Shipped => "release",
        }
    }

    fn arguments(self) -> Vec<&'static str> {
        let mut arguments = vec!["--package", "sipguard"];
        if self == Self::Shipped {
            arguments.push("--release");
        }
        arguments
    }
}

/// A built sipguard.
pub(super) struct Build {
    /// Of another commit.
    pub(super) commit: Option<String>,
    pub(super) binary: PathBuf,
}

/// The command as it is shipped.
pub(super) fn shipped() -> PathBuf {
    binary(machine::workspace(), Profile::Shipped)
}

impl Build {
    /// This checkout's.
    pub(super) fn own(profile: Profile) -> Self {
        Self {
            commit: None,
            binary: binary(machine::workspace(), profile),
        }
    }

    pub(super) fn against(commit: &str, profile: Profile) -> Self {
        Self {
            commit: Some(commit.to_owned()),
            binary: binary(&tree(), profile),
        }
    }

    /// What a filter of this build is called.
    pub(super) fn named(&self, filter: &str) -> String {
        match &self.commit {
            Some(commit) => format!("{filter}, {commit}"),
            None => filter.to_owned(),
        }
    }
}

fn binary(tree: &Path, profile: Profile) -> PathBuf {
    tree.join("target").join(profile.folder()).join("sipguard")
}

/// Where another commit is checked out and built. It stays for the next time, when only what differs is built again.
fn tree() -> PathBuf {
    machine::workspace().join("target/against")
}

/// Builds what [`Build::own`] is.
pub(super) fn build(profile: Profile) -> Result<()> {
    machine::build(machine::workspace(), &profile.arguments())
}

/// Builds what [`Build::against`] is.
pub(super) fn build_against(commit: &str, profile: Profile) -> Result<()> {
    let tree = tree();
    // What is relative, is to this checkout.
    let commit = machine::said(Command::new("git").current_dir(machine::workspace()).args([
        "rev-parse",
        "--verify",
        &format!("{commit}^{{commit}}"),
    ]))?;
    let commit = commit.trim();
    let git = |folder: &Path, words: &[&str]| -> Result<()> {
        let status = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(words)
            .status()?;
        ensure!(status.success(), "git {} failed", words.join(" "));
        Ok(())
    };
    if tree.join(".git").exists() {
        git(
            &tree,
            &["checkout", "--quiet", "--force", "--detach", commit],
        )?;
    } else {
        let path = tree
            .to_str()
            .context("the path of the checkout is not UTF-8")?;
        // A folder that was deleted is still known by its name.
        git(machine::workspace(), &["worktree", "prune"])?;
        git(
            machine::workspace(),
            &["worktree", "add", "--quiet", "--detach", path, commit],
        )?;
    }
    // The kernel's side is built with the same compiler.
    let tools = tree.join("target/tools");
    if !tools.exists() {
        fs::create_dir_all(tree.join("target"))?;
        symlink(
            machine::workspace().canonicalize()?.join("target/tools"),
            tools,
        )?;
    }
    machine::build(&tree, &profile.arguments())
}
