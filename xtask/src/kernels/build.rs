//! The programs that go into the machines, and the tests in them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::matrix::{Binary, EXCEPTIONS, KERNELS};
use crate::{
    artifacts::{Artifact, built},
    machine,
};

/// A compiled binary of the matrix.
pub(crate) struct Built {
    pub(crate) binary: &'static Binary,
    /// Without debug information.
    pub(crate) program: PathBuf,
    /// The tests of it that run in a machine.
    pub(crate) tests: Vec<String>,
}

/// Builds the command; returns where it is.
pub(crate) fn sipguard(folder: &Path) -> Result<PathBuf> {
    let mut build = machine::cargo();
    build.args(["build", "--package", "sipguard", "--bin", "sipguard"]);
    stripped(&executable(&built(&mut build)?, "sipguard")?, folder)
}

/// Builds tests of the matrix: those of these binaries that have one of these names, or are in a module that has; all where none is named.
pub(crate) fn tests(
    binaries: &[&'static Binary],
    names: &[String],
    folder: &Path,
) -> Result<Vec<Built>> {
    let mut build = machine::cargo();
    build.args(["test", "--package", "sipguard-tests", "--no-run"]);
    let features: BTreeSet<&str> = binaries
        .iter()
        .flat_map(|it| it.features)
        .copied()
        .collect();
    for feature in features {
        build.args(["--features", feature]);
    }
    for binary in binaries {
        build.args(["--test", binary.name]);
    }
    let artifacts = built(&mut build)?;
    let mut all = Vec::new();
    for binary in binaries {
        let program = executable(&artifacts, binary.name)?;
        let mut tests = chosen(binary, &list(&program)?)?;
        tests.retain(|test| {
            let test = format!("{}::{test}", binary.name);
            names.is_empty() || names.iter().any(|name| is_in(&test, name))
        });
        all.push(Built {
            binary,
            tests,
            program: stripped(&program, folder)?,
        });
    }
    for name in names {
        let mut tests = all.iter().flat_map(|it| {
            it.tests
                .iter()
                .map(|test| format!("{}::{test}", it.binary.name))
        });
        ensure!(
            tests.any(|test| is_in(&test, name)),
            "no test {name} runs on other kernels"
        );
    }
    Ok(all)
}

/// Whether a test is this one, or in this module.
fn is_in(test: &str, name: &str) -> bool {
    let rest = test.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What this program consists of: the first process of the machines.
pub(crate) fn guest(folder: &Path) -> Result<PathBuf> {
    stripped(&std::env::current_exe()?, folder)
}

fn executable(artifacts: &[Artifact], name: &str) -> Result<PathBuf> {
    artifacts
        .iter()
        .filter(|artifact| artifact.target.name == name)
        .find_map(|artifact| artifact.executable.clone())
        .with_context(|| format!("cargo has built no program {name}"))
}

/// The tests in a program.
fn list(program: &Path) -> Result<Vec<String>> {
    let mut ask = Command::new(program);
    let answer = machine::answer(ask.args(["--list", "--format", "terse"]));
    let answer = answer.with_context(|| format!("{} does not list tests", program.display()))?;
    let tests = answer
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    Ok(tests.map(str::to_owned).collect())
}

/// The matrix names only tests that there are: one that was given another name must not vanish from it.
fn chosen(binary: &Binary, tests: &[String]) -> Result<Vec<String>> {
    let name = binary.name;
    let excepted = EXCEPTIONS
        .iter()
        .filter_map(|exception| exception.test.strip_prefix(name)?.strip_prefix("::"));
    let particular = KERNELS.iter().flat_map(|kernel| kernel.only);
    let particular = particular.filter_map(|test| test.strip_prefix(name)?.strip_prefix("::"));
    let named = binary.only.iter().copied();
    for named in named.chain(excepted).chain(particular) {
        if !tests.iter().any(|test| test == named) {
            bail!("xtask/src/kernels/matrix.rs names the test {name}::{named}, and there is none");
        }
    }
    let wanted = |test: &&String| binary.only.is_empty() || binary.only.contains(&test.as_str());
    Ok(tests.iter().filter(wanted).cloned().collect())
}

/// A copy without debug information, a third of the size.
fn stripped(program: &Path, folder: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program has a name")?;
    let copy = folder.join(name);
    let status = Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(&copy)
        .arg(program)
        .status()
        .context("starting strip")?;
    ensure!(status.success(), "strip {}: {status}", program.display());
    Ok(copy)
}
