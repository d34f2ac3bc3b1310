//! `cargo xtask vm`: a gateway that is really booted, and what becomes of it from the first deployment to the purge.
//!
//! It is a Debian of its own in a machine of software, whose one cable ends in a network namespace of ours: nobody else can reach it, and it
//! reaches nobody. The administrator who deploys, a listed provider and an unlisted scanner are addresses at that end.

mod gateway;
mod image;
mod network;
mod probe;
mod steps;
mod story;
mod traffic;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    machine,
    netns::{self, Sandbox},
    package,
    setup::{self, Purpose},
};
use image::Image;
use steps::Steps;

#[derive(Args)]
pub(crate) struct Arguments {
    /// All is set up and built: what this command says to itself through sudo
    #[arg(long, hide = true)]
    built: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.built {
        setup::run(&[Purpose::Vm])?;
        package::build()?;
        // Made now, for what root makes in `target/` could not be removed by who owns that.
        fs::create_dir_all(image::folder())?;
    }
    if !machine::is_root() {
        let mut again = machine::as_root(env::current_exe()?)?;
        let status = again.args(["vm", "--built"]).status()?;
        ensure!(status.success(), "it failed, as said above");
        return Ok(());
    }
    // In the sandbox, apt's own files are out of sight.
    let mirror = setup::mirror()?;
    netns::sandbox(|sandbox| {
        let mut steps = Steps::new();
        let told = prepare_and_tell(sandbox, &mirror, &mut steps);
        steps.print();
        told
    })
}

fn prepare_and_tell(sandbox: &Sandbox, mirror: &str, steps: &mut Steps) -> Result<()> {
    let mut image = None;
    steps.step("the gateway's Debian", || {
        let (made, how) = image::ensure(mirror)?;
        image = Some(made);
        Ok(how.to_owned())
    })?;
    let image: Image = image.context("an image that was made")?;
    let packages = packages()?;
    let outside = sandbox.host();
    network::plug_in(&outside)?;
    outside.enter(|| story::tell(&outside, &image, &packages, steps))
}

/// A copy of what was packaged: the next build clears that folder.
fn packages() -> Result<PathBuf> {
    let copy = Path::new(netns::SCRATCH).join("packages");
    fs::create_dir_all(&copy)?;
    let folder = package::folder();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
    }
    Ok(copy)
}
