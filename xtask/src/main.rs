//! `cargo xtask`: what a developer of sipguard runs.

mod artifacts;
mod bench;
mod board;
mod debootstrap;
mod demo;
mod deploy;
mod devices;
mod fresh;
mod fuzz;
mod kernels;
mod machine;
mod package;
mod qemu;
mod setup;
mod step;
mod test;
mod vm;

/// Servers for the benchmark, in the same way.
#[path = "../../tests/src/certificates.rs"]
pub mod certificates;
#[path = "../../tests/src/crowdsec.rs"]
pub mod crowdsec;
#[path = "../../tests/src/etcd.rs"]
pub mod etcd;
/// The hosts of the tests, for the demo. Not a dependency on their package, because that one depends on sipguard, which
/// can't be built before xtask has set up its compiler. Public, for lints to see it as they do there.
#[path = "../../tests/src/netns.rs"]
pub mod netns;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::setup::Purpose;

/// Sets this machine up for sipguard, shows what sipguard does, and runs its tests.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

// Every task calls `setup` first: one command is enough on a new machine.
#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need; does nothing when all is there
    Setup,
    /// Show what sipguard does, on real SIP traffic between three hosts that are made for it (as root, too)
    Demo(demo::Arguments),
    /// Measure what packets and policies cost, beside other filters (as root, too)
    Bench(bench::Arguments),
    /// Draw the Grafana board as Prometheus answers its queries, into the manual (as root, too)
    Board(board::Arguments),
    /// Make a Debian package and a tarball in target/package
    Package,
    /// Put sipguard and its config on gateways over SSH; what fails takes itself back
    Deploy(deploy::Arguments),
    /// Take sipguard off gateways again, with its config
    Undeploy(deploy::Fleet),
    /// Look for inputs that break the parsers, a minute for each kind of input
    Fuzz(fuzz::Arguments),
    /// Run the tests of the packet path on other kernels, which are booted for it
    Kernels(kernels::Arguments),
    /// Tell a story on each network card that QEMU models, on several kernels: what is filtered, and what is said (as root, too)
    Devices(devices::Arguments),
    /// What the first process of a booted kernel is
    #[command(hide = true)]
    KernelsGuest,
    /// Boot a gateway in a machine of software, and deploy, upgrade, reboot and purge there (as root, too)
    Vm(vm::Arguments),
    /// Do what README says on a new machine: Debian's smallest system, rustup's stable Rust, and a clone (as root, too)
    Fresh(fresh::Arguments),
    /// Run every test (as root, through sudo where needed)
    Test(test::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup => {
            setup::run(&[Purpose::Demo, Purpose::Test])?;
            println!("everything is set up");
            Ok(())
        }
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Board(arguments) => board::run(&arguments),
        Task::Package => package::run(),
        Task::Deploy(arguments) => deploy::run(&arguments),
        Task::Undeploy(fleet) => deploy::undeploy::run(&fleet),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Kernels(arguments) => kernels::run(&arguments),
        Task::Devices(arguments) => devices::run(&arguments),
        Task::KernelsGuest => kernels::guest(),
        Task::Vm(arguments) => vm::run(&arguments),
        Task::Fresh(arguments) => fresh::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
    }
}
