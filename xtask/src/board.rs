//! `cargo xtask board`: a picture of the Grafana board, drawn from its own queries. A gateway is guarded, called, scanned and flooded for five minutes;
//! Prometheus collects what its agent writes, and is asked what each panel asks.

mod draw;
mod prometheus;
mod story;

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    machine, netns,
    setup::{self, Purpose},
};

/// The board, below the top folder; and its picture.
const BOARD: &str = "sipguard/dist/grafana.json";
const PICTURE: &str = "sipguard/docs/board.svg";

#[derive(Args)]
pub(crate) struct Arguments {
    /// All is set up and built: what this says to itself, as root
    #[arg(long, hide = true)]
    built: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.built {
        setup::run(&[Purpose::Board])?;
        let packages = ["--package", "sipguard", "--package", "sipguard-fetch"];
        machine::build(machine::workspace(), &packages)?;
        let mut again = machine::as_root(env::current_exe()?)?;
        again.args(["board", "--built"]);
        ensure!(again.status()?.success(), "there is no picture");
        return Ok(());
    }
    let board = machine::workspace().join(BOARD);
    let board = fs::read(&board).with_context(|| format!("reading {}", board.display()))?;
    let board: Value = serde_json::from_slice(&board)?;
    let panels = board["panels"].as_array().context("it has no panels")?;
    let picture = machine::workspace().join(PICTURE);
    netns::sandbox(|sandbox| story::tell(sandbox, |asked| draw::board(&picture, panels, asked)))?;
    println!("{}", picture.display());
    Ok(())
}

/// A program that was built for this.
fn built(name: &str) -> PathBuf {
    machine::workspace().join("target/debug").join(name)
}
