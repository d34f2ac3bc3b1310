//! `cargo xtask fuzz`: looks for inputs that break the parsers. Everything it writes is below `target/fuzz`.

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::{machine, setup};

#[derive(Args)]
pub(crate) struct Arguments {
    /// What to fuzz [default: all, one after the other]
    target: Option<Target>,
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
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Config => "config",
            Self::Capture => "capture",
            Self::Import => "import",
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    let fuzzer = setup::fuzzer::ensure()?;
    let folder = machine::workspace().join("target/fuzz");
    let (seeds, build) = (folder.join("seeds"), folder.join("build"));

    let mut write = machine::cargo();
    write
        .args(["run", "--manifest-path", "tests/fuzz/Cargo.toml"])
        .args(["--example", "seeds", "--target-dir"])
        .arg(&build)
        .arg("--")
        .arg(&seeds);
    succeed(&mut write)?;

    let targets = match &arguments.target {
        Some(target) => std::slice::from_ref(target),
        None => Target::value_variants(),
    };
    for target in targets {
        let name = target.name();
        let [corpus, found] = ["corpus", "found"].map(|kind| folder.join(kind).join(name));
        for folder in [&corpus, &found] {
            std::fs::create_dir_all(folder)?;
        }
        let mut fuzz = std::process::Command::new(&fuzzer);
        fuzz.current_dir(machine::workspace())
            // The sanitizer is an unstable option; the compiler that builds sipguard has it all the same.
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["fuzz", "run", "--fuzz-dir", "tests/fuzz", "--target-dir"])
            .arg(&build)
            .arg(name)
            .args([&corpus, &seeds.join(name)])
            .args(["--", "-print_final_stats=1", "-timeout=10"])
            .arg(format!("-max_total_time={}", arguments.seconds))
            .arg(format!("-artifact_prefix={}/", found.display()));
        succeed(&mut fuzz)?;
    }
    Ok(())
}

fn succeed(command: &mut std::process::Command) -> Result<()> {
    let status = command.status()?;
    let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
    ensure!(status.success(), "cargo {}: {status}", arguments.join(" "));
    Ok(())
}
