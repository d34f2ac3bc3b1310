//! What is measured: this checkout's sipguard, and that of another commit beside it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::machine;

/// A built sipguard.
pub(super) struct Build {
    /// Of another commit.
    pub(super) commit: Option<String>,
    pub(super) binary: PathBuf,
}

/// The command as it is shipped.
pub(super) fn shipped() -> PathBuf {
    machine::workspace().join("target/release/sipguard")
}

impl Build {
    /// As it is shipped.
    pub(super) fn shipped() -> Self {
        Self {
            commit: None,
            binary: shipped(),
        }
    }

    /// Quickly built: whatever the profile of the command, its kernel program is the one that is shipped.
    pub(super) fn quick() -> Self {
        Self {
            commit: None,
            binary: binary(machine::workspace()),
        }
    }

    pub(super) fn against(commit: &str) -> Self {
        Self {
            commit: Some(commit.to_owned()),
            binary: binary(&tree()),
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

fn binary(tree: &Path) -> PathBuf {
    tree.join("target/debug/sipguard")
}

/// Where another commit is checked out and built. It stays for the next time, when only what differs is built again.
fn tree() -> PathBuf {
    machine::workspace().join("target/against")
}

/// Builds what [`Build::quick`] is.
pub(super) fn build() -> Result<()> {
    machine::build(machine::workspace(), &["--package", "sipguard"])
}

/// Builds what [`Build::against`] is.
pub(super) fn build_against(commit: &str) -> Result<()> {
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
    machine::build(&tree, &["--package", "sipguard"])
}
