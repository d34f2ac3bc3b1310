//! `cargo xtask bench`: what a packet costs, what a host can take, what calls notice of a flood, and how long large policies take;
//! beside other filters, in the same run.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "measured figures are small, positive, and never exact"
)]

mod agent;
mod bans;
mod bpf;
mod builds;
mod cable;
mod calls;
mod captures;
mod charts;
mod crowdsec;
mod figures;
mod filters;
mod fleet;
mod frames;
mod guard;
mod in_force;
mod limit;
mod listener;
mod lists;
mod micro;
mod place;
mod scanner;
mod sizes;
mod sources;
mod turns;
mod verified;
mod veth;
mod watched;
mod wire;

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

use crate::{
    machine,
    netns::{self, Sandbox},
    setup::{self, Purpose},
};
use builds::{Build, Profile};
use figures::Figures;

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Packets a second that one processor drops, beside other filters
    Cable,
    /// Lists that other programs change while all is in force
    Lists,
    /// Captures, beside tcpdump and tshark
    Captures,
    /// Calls while a scanner floods
    Calls,
    /// How long it takes until a policy is in force
    Apply,
    /// What the agent takes, in a flood too
    Agent,
}

impl Part {
    /// How sipguard is built for it.
    fn profile(self) -> Profile {
        match self {
            // The kernel program is the same in each build.
            Self::Cable | Self::Calls => Profile::Quick,
            Self::Lists | Self::Captures | Self::Apply | Self::Agent => Profile::Shipped,
        }
    }
}

#[derive(Args)]
pub(crate) struct Arguments {
    /// Only this part [default: all]
    part: Option<Part>,
    /// Fewer sizes and rounds, for a first impression
    #[arg(long)]
    quick: bool,
    /// Another commit, which has its turns, too: on the cable, with policies, and as an agent
    #[arg(long, value_name = "COMMIT")]
    against: Option<String>,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw charts into this folder
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// All is set up and built: what the benchmark says to itself through sudo
    #[arg(long, hide = true)]
    built: bool,
}

/// How much of everything.
struct Effort {
    /// Entries, and how the cost of a packet is measured with them.
    micro_sizes: &'static [usize],
    micro_rounds: u32,
    micro_repeat: u32,
    veth_sizes: &'static [usize],
    veth_rounds: u32,
    listener_rounds: u32,
    /// Packets a second of the flood, or as many as go.
    floods: &'static [Option<u32>],
    calls: u32,
    policy_sizes: &'static [usize],
    policy_rounds: u32,
    agent_sizes: &'static [usize],
    /// Seconds of flood.
    agent_turns: u32,
    /// Decisions of CrowdSec; what its own bouncer takes grows with their square.
    decisions: usize,
    /// Entries of the list that all gateways have.
    fleet_entries: usize,
    capture_rounds: u32,
}

const QUICK: Effort = Effort {
    micro_sizes: &[10, 1_000, 100_000],
    micro_rounds: 5,
    micro_repeat: 200_000,
    veth_sizes: &[10, 1_000, 100_000],
    veth_rounds: 20,
    listener_rounds: 12,
    floods: &[Some(0), Some(300_000), None],
    calls: 50,
    policy_sizes: &[10, 100_000],
    policy_rounds: 3,
    agent_sizes: &[10],
    agent_turns: 20,
    decisions: 10_000,
    fleet_entries: 100,
    capture_rounds: 3,
};

const FULL: Effort = Effort {
    micro_sizes: &[10, 1_000, 100_000, 1_000_000],
    micro_rounds: 9,
    micro_repeat: 500_000,
    veth_sizes: &[10, 1_000, 100_000, 1_000_000],
    veth_rounds: 80,
    listener_rounds: 60,
    floods: &[Some(0), Some(100_000), Some(300_000), Some(1_000_000), None],
    calls: 200,
    policy_sizes: &[10, 100_000, 1_000_000],
    policy_rounds: 5,
    agent_sizes: &[10, 1_000_000],
    agent_turns: 60,
    decisions: 100_000,
    fleet_entries: 1_000,
    capture_rounds: 10,
};

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let profile = arguments.part.map_or(Profile::Shipped, Part::profile);
    if !arguments.built {
        setup::run(&[Purpose::Bench])?;
        // What can't be had is absent from the tables.
        if let Err(error) = setup::programs(Purpose::Rivals) {
            eprintln!("{error:#}");
        }
        builds::build(profile)?;
        if arguments.part.is_none_or(|part| part == Part::Lists) {
            // What asks, beside what filters.
            machine::build(
                machine::workspace(),
                &["--release", "--package", "sipguard-fetch"],
            )?;
        }
        if let Some(commit) = &arguments.against {
            builds::build_against(commit, profile)?;
        }
    }
    if !machine::is_root() {
        let mut again = machine::as_root(env::current_exe()?)?;
        again.args(env::args_os().skip(1)).arg("--built");
        ensure!(again.status()?.success(), "the benchmark failed");
        return Ok(());
    }
    let effort = if arguments.quick { &QUICK } else { &FULL };
    // Found out here, not after minutes.
    if let Some(folder) = &arguments.plot {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    // Before everything else that runs here, compilers and browsers, and so is what is started from here.
    rustix::process::setpriority_process(None, -20)?;
    let mut builds = vec![Build::own(profile)];
    let against = arguments.against.as_deref();
    builds.extend(against.map(|commit| Build::against(commit, profile)));
    let figures = netns::sandbox(|sandbox| measure(sandbox, effort, arguments.part, &builds))?;
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&figures)?;
        fs::write(file, text + "\n").with_context(|| format!("writing {}", file.display()))?;
    }
    if let Some(folder) = &arguments.plot {
        charts::draw(&figures, folder)?;
    }
    Ok(())
}

fn measure(
    sandbox: &Sandbox,
    effort: &Effort,
    part: Option<Part>,
    builds: &[Build],
) -> Result<Figures> {
    let mut figures = Figures::new();
    figures.print_machine();
    let wanted = |this| part.is_none_or(|part| part == this);
    if part.is_none() {
        figures.micro = micro::run(sandbox, effort)?;
        figures.print_micro();
    }
    if wanted(Part::Cable) {
        figures.veth = veth::run(sandbox, effort, builds)?;
        figures.print_veth();
        figures.listener = listener::run(sandbox, effort, &builds[0])?;
        figures.print_listener();
        figures.scanner = scanner::run(sandbox, &builds[0])?;
        figures.print_scanner();
    }
    if wanted(Part::Apply) {
        figures.apply = sizes::run(sandbox, effort, builds)?;
        figures.print_apply();
    }
    if wanted(Part::Agent) {
        figures.agent = agent::run(sandbox, effort, builds)?;
        figures.print_agent();
    }
    if wanted(Part::Calls) {
        figures.calls = calls::run(sandbox, effort, &builds[0])?;
        figures.print_calls();
    }
    if wanted(Part::Lists) {
        measure_lists(sandbox, effort, &mut figures)?;
    }
    if wanted(Part::Captures) {
        figures.captures = captures::run(effort)?;
        figures.print_captures();
    }
    Ok(figures)
}

/// What others change while all is in force.
fn measure_lists(sandbox: &Sandbox, effort: &Effort, figures: &mut Figures) -> Result<()> {
    figures.bans = bans::run(sandbox)?;
    figures.print_bans();
    figures.sources = sources::run(sandbox, effort)?;
    figures.print_sources();
    figures.crowdsec = crowdsec::run(sandbox, effort)?;
    figures.print_crowdsec();
    figures.fleet = fleet::run(sandbox, effort)?;
    figures.print_fleet();
    Ok(())
}
