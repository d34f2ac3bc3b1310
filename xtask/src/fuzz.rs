//! `cargo xtask fuzz`: looks for inputs that break the parsers, under AddressSanitizer. Everything it writes is below `target/fuzz`.
//!
//! What each target begins with runs first, by itself. For `verdict` that is the whole verdict table, each frame of it cut to every length:
//! when it ends well, parse and decide read nothing of a frame that is not in it. Of the kernel's build the verifier proves that.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::Path,
    process::Command,
};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::{machine, setup};

#[derive(Args)]
pub(crate) struct Arguments {
    /// What to fuzz, one after the other [default: all]
    targets: Vec<Target>,
    /// How long to fuzz each
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// The targets in tests/fuzz.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// parse and decide, against the naive model
    Verdict,
    /// The config parser
    Config,
    /// The capture reader
    Capture,
    /// The import of other tools' output
    Import,
    /// What the fetcher writes
    Found,
    /// What packets say in SIP
    Sip,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Config => "config",
            Self::Capture => "capture",
            Self::Import => "import",
            Self::Found => "found",
            Self::Sip => "sip",
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run(&[])?;
    let fuzzer = setup::fuzzer::ensure()?;
    let folder = machine::workspace().join("target/fuzz");
    let (seeds, build) = (folder.join("seeds"), folder.join("build"));

    let mut write = machine::cargo();
    write
        .args(["run", "--package", "sipguard-tests"])
        .args(["--example", "seeds", "--"])
        .arg(&seeds);
    succeed(&mut write)?;

    let targets = match arguments.targets.as_slice() {
        [] => Target::value_variants(),
        targets => targets,
    };
    for target in targets {
        let name = target.name();
        let [corpus, found] = ["corpus", "found"].map(|kind| folder.join(kind).join(name));
        for folder in [&corpus, &found] {
            fs::create_dir_all(folder)?;
        }
        let seeds = seeds.join(name);
        let run = |inputs: &[&Path], limit: String| {
            let mut fuzz = Command::new(&fuzzer);
            fuzz.current_dir(machine::workspace())
                // The sanitizer is an unstable option; the compiler that builds sipguard has it all the same.
                .env("RUSTC_BOOTSTRAP", "1")
                .args(["fuzz", "run", "--sanitizer", "address"])
                .args(["--fuzz-dir", "tests/fuzz", "--target-dir"])
                .arg(&build)
                .arg(name)
                .args(inputs)
                .args(["--", "-print_final_stats=1", "-timeout=10", &limit])
                .arg(format!("-artifact_prefix={}/", found.display()));
            if !io::stdout().is_terminal() {
                fuzz.arg("-verbosity=0");
            }
            succeed(&mut fuzz)
        };
        run(&[&seeds], "-runs=0".to_owned())?;
        let count = fs::read_dir(&seeds)?.count();
        println!("{name}: no error in the {count} inputs that it begins with");
        run(
            &[&corpus, &seeds],
            format!("-max_total_time={}", arguments.seconds),
        )?;
    }
    Ok(())
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
    ensure!(status.success(), "cargo {}: {status}", arguments.join(" "));
    Ok(())
}
