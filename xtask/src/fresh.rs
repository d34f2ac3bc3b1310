//! `cargo xtask fresh`: what somebody meets who does on a new machine what README says.
//!
//! The machine is a folder with Debian's smallest system, rustup's stable Rust with the linker that rustup asks for, and a clone: nothing that
//! happens to be here is there. Its mounts, its processes and its network are its own, and end with this command.

mod missing;
mod outside;
mod system;

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anstream::println;
use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

use self::{
    outside::Network,
    system::{Base, System},
};
use crate::{
    machine::{as_root, is_root, said, workspace},
    netns,
    setup::{self, Purpose},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// What is done on a new machine; both, each on a machine of its own, where none is named
    orders: Vec<Order>,
    /// The commit that is cloned
    #[arg(long, default_value = "HEAD")]
    commit: String,
    /// All is set up and cloned: what this command says to itself through sudo
    #[arg(long, hide = true)]
    cloned: bool,
}

/// README's two commands, as new users run them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    /// `cargo xtask demo`, and then `cargo xtask test`
    DemoThenTest,
    /// `cargo xtask test` alone
    Test,
}

impl Order {
    const fn tasks(self) -> &'static [&'static str] {
        match self {
            Self::DemoThenTest => &["demo", "test"],
            Self::Test => &["test"],
        }
    }

    fn name(self) -> String {
        self.tasks().join("-then-")
    }
}

/// A step that failed, and where all that it said is.
struct Failure {
    error: anyhow::Error,
    log: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = workspace().join("target/fresh");
    let clone = folder.join("clone");
    let lock;
    if !arguments.cloned {
        setup::programs(Purpose::Fresh)?;
        fs::create_dir_all(&folder)?;
        lock = File::create(folder.join("lock")).context("creating a lock")?;
        ensure!(
            lock.try_lock().is_ok(),
            "another `cargo xtask fresh` is at work in this checkout"
        );
        make_clone(&arguments.commit, &clone)?;
    }
    if !is_root() {
        let mut again = as_root(env::current_exe()?)?;
        again.args(env::args_os().skip(1)).arg("--cloned");
        ensure!(again.status()?.success(), "it failed, as said above");
        return Ok(());
    }
    let orders = match arguments.orders.as_slice() {
        [] => Order::value_variants(),
        orders => orders,
    };
    // In the sandbox, apt's and dpkg's own files are out of sight.
    let base = Base::new(&folder)?;
    let failures = netns::sandbox(|sandbox| {
        base.ensure()?;
        let outside = Network::new(sandbox)?;
        let mut failures = Vec::new();
        for order in orders {
            println!("\na new machine: {}", order.name());
            let system = System::new(&base, &folder, &clone).context("making the machine")?;
            failures.extend(follow(*order, &system, &outside, &folder));
        }
        anyhow::Ok(failures)
    })?;
    for Failure { error, log } in &failures {
        println!("\n{error:#}\nall that it said is in {}", log.display());
        for missing in missing::programs(&fs::read_to_string(log)?) {
            println!("missing: {missing}");
        }
    }
    ensure!(failures.is_empty(), "not all is well on a new machine");
    println!("\nall is well on a new machine");
    Ok(())
}

fn make_clone(commit: &str, clone: &Path) -> Result<()> {
    let git =
        |arguments: &[&str]| said(Command::new("git").current_dir(workspace()).args(arguments));
    let name = format!("{commit}^{{commit}}");
    let commit = git(&["rev-parse", "--verify", &name])?;
    let _ = fs::remove_dir_all(clone);
    let clone = clone.to_str().context("the checkout's path is no text")?;
    git(&["clone", "--quiet", "--no-checkout", ".", clone])?;
    git(&[
        "-C",
        clone,
        "checkout",
        "--quiet",
        "--detach",
        commit.trim_end(),
    ])?;
    Ok(())
}

/// One command after the other, until one fails.
fn follow(order: Order, system: &System, outside: &Network, folder: &Path) -> Option<Failure> {
    order.tasks().iter().find_map(|task| {
        let log = folder.join(format!("{}.{task}.log", order.name()));
        let ended = outside.inside(|| system.cargo_xtask(task, &log));
        ended.err().map(|error| Failure { error, log })
    })
}
