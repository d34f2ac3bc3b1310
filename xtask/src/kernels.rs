//! `cargo xtask kernels`: tests on other kernels than this machine's, booted in machines of software.

mod build;
mod debian;
mod guest;
mod image;
mod matrix;
mod modules;
mod plan;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use self::{
    build::Built,
    debian::Unpacked,
    image::Image,
    matrix::{Exception, KERNELS, Kernel, MODULES, PROGRAMS},
    modules::Modules,
    plan::{Event, Job, PLAN, Plan},
    report::Results,
};
use crate::{
    machine,
    qemu::Machine,
    setup::{self, Purpose},
};

/// Where tests find the command beside them, as they do below `target/`.
const SIPGUARD: &str = "/target/debug/sipguard";
const TESTS: &str = "/target/debug/deps";
const GUEST: &str = "/guest";
/// No kernel takes that long, not even beside other work.
const LIMIT: Duration = Duration::from_mins(40);
const MEMORY: u32 = 1536;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Kernels by the names that the table has; all where none is named
    kernels: Vec<String>,
    /// Only this file of tests/tests (may be given several times)
    #[arg(long, value_name = "NAME")]
    test: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let kernels = chosen(&arguments.kernels)?;
    let binaries = matrix::binaries(&arguments.test)?;
    setup::run(&[Purpose::Kernels])?;
    let folder = machine::workspace().join("target/kernels");
    let programs = folder.join("programs");
    fs::create_dir_all(&programs).with_context(|| format!("creating {}", programs.display()))?;
    let matrix = Matrix {
        sipguard: build::sipguard(&programs)?,
        guest: build::guest(&programs)?,
        tests: build::tests(&binaries, &programs)?,
    };
    let mut all = Vec::new();
    for kernel in kernels {
        let folder = folder.join(kernel.name);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let unpacked = debian::fetch(kernel, &folder)?;
        all.push(matrix.run(kernel, &unpacked, &folder)?);
    }
    report::table(&all);
    ensure!(all.iter().all(Results::good), "not all is well");
    Ok(())
}

/// What `guest` runs, as the first process of a machine.
pub(crate) fn guest() -> Result<()> {
    guest::run()
}

fn chosen(names: &[String]) -> Result<Vec<&'static Kernel>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    let find = |name: &String| {
        let found = KERNELS.iter().find(|kernel| kernel.name == name);
        found.with_context(|| {
            let names: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
            format!("no kernel {name}; there are {}", names.join(", "))
        })
    };
    names.iter().map(find).collect()
}

/// What runs on every kernel.
struct Matrix {
    sipguard: PathBuf,
    guest: PathBuf,
    tests: Vec<Built>,
}

impl Matrix {
    fn run(&self, kernel: &Kernel, unpacked: &Unpacked, folder: &Path) -> Result<Results> {
        let mut results = Results::new(&unpacked.release);
        let initrd = folder.join("initramfs");
        let expected = self.image(kernel, unpacked, &mut results, &initrd)?;
        let machine = Machine {
            kernel: unpacked.image.clone(),
            initrd,
            command_line: format!("rdinit={GUEST} -- kernels-guest"),
            memory: MEMORY,
            processors: 2,
            arguments: Vec::new(),
            console: folder.join("console.log"),
            messages: Some(folder.join("kernel.log")),
        };
        let mut up = None;
        let mut ended = 0;
        let mut end = Err("the machine ended before its tests".to_owned());
        let off = machine
            .start()?
            .until_off(LIMIT, |line| match serde_json::from_str(line) {
                Ok(Event::Up(release)) => up = Some(release),
                Ok(Event::Ended(test)) => {
                    ended += 1;
                    results.end(test);
                }
                Ok(Event::Stuck(why)) => end = Err(why),
                Ok(Event::Done) => end = Ok(()),
                Err(error) => end = Err(format!("{error}: {line}")),
            });
        if let Err(error) = off {
            end = Err(format!("{error:#}"));
        }
        if end.is_ok() && (ended != expected || up.as_deref() != Some(&unpacked.release)) {
            end = Err(format!("{ended} of {expected} tests on {up:?}"));
        }
        results.close(end.err().map(|why| {
            let log = folder.join("kernel.log");
            format!("{why}; what the kernel said is in {}", log.display())
        }));
        Ok(results)
    }

    /// Writes the initramfs; returns how many tests are in it.
    fn image(
        &self,
        kernel: &Kernel,
        unpacked: &Unpacked,
        results: &mut Results,
        path: &Path,
    ) -> Result<usize> {
        let modules = Modules::of(&unpacked.modules)?;
        let mut image = Image::default();
        let mut jobs = Vec::new();
        for built in &self.tests {
            let binary = built.binary;
            let mut files = Vec::new();
            for module in modules.with_needed(&[MODULES, binary.modules].concat())? {
                let file = format!("/modules/{}.ko", module.name);
                image.file(&file, module.object);
                files.push(file);
            }
            let program = format!("{TESTS}/{}", binary.name);
            for test in &built.tests {
                let name = format!("{}::{test}", binary.name);
                if !kernel.only.is_empty() && !kernel.only.contains(&name.as_str()) {
                    continue;
                }
                if let Some(exception) = Exception::find(&name, &unpacked.release) {
                    results.except(&name, exception.why);
                    continue;
                }
                image.executable(&program, built.program.clone())?;
                jobs.push(Job {
                    name,
                    program: program.clone(),
                    arguments: ["--exact", "--nocapture", test].map(str::to_owned).into(),
                    environment: binary
                        .environment
                        .iter()
                        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                        .collect(),
                    modules: files.clone(),
                });
            }
        }
        let count = jobs.len();
        image.executable(GUEST, self.guest.clone())?;
        image.executable(SIPGUARD, self.sipguard.clone())?;
        for program in PROGRAMS {
            image.program(program)?;
        }
        image.file(PLAN, serde_json::to_vec(&Plan { jobs })?);
        image.write(path)?;
        Ok(count)
    }
}
