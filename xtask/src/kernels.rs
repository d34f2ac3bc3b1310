//! `cargo xtask kernels`: tests on other kernels than this machine's, booted in machines of software.

pub(crate) mod boot;
pub(crate) mod build;
pub(crate) mod debian;
mod guest;
pub(crate) mod image;
pub(crate) mod matrix;
pub(crate) mod modules;
pub(crate) mod plan;
mod report;

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use self::{
    boot::{Boot, Programs, TESTS},
    build::Built,
    debian::Unpacked,
    image::Image,
    matrix::{Exception, KERNELS, Kernel, MODULES, PROGRAMS},
    modules::Modules,
    plan::Job,
    report::Results,
};
use crate::{
    machine,
    setup::{self, Purpose},
};

/// For somebody who sits beside it.
const AS_LONG_AS_IT_TAKES: Duration = Duration::from_hours(24);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Kernels by the names that the table has; all where none is named
    kernels: Vec<String>,
    /// Only this file of tests/tests, module of it or test, as in `modules::gre` (may be given several times)
    #[arg(long, value_name = "NAME")]
    test: Vec<String>,
    /// Cases that `differential` runs, for as long as they take: as many on a cable, a fourth of that on each other carrier
    #[arg(long, value_name = "N")]
    cases: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let kernels = chosen(&arguments.kernels)?;
    let binaries = matrix::binaries(&arguments.test)?;
    setup::run(&[Purpose::Kernels])?;
    let folder = machine::workspace().join("target/kernels");
    let programs = folder.join("programs");
    fs::create_dir_all(&programs).with_context(|| format!("creating {}", programs.display()))?;
    let matrix = Matrix {
        programs: Programs {
            guest: build::guest(&programs)?,
            sipguard: build::sipguard(&programs)?,
        },
        tests: build::tests(&binaries, &arguments.test, &programs)?,
        cases: arguments.cases,
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
    programs: Programs,
    tests: Vec<Built>,
    /// How many cases the differential test runs, where that is not what the table says.
    cases: Option<u64>,
}

impl Matrix {
    fn run(&self, kernel: &Kernel, unpacked: &Unpacked, folder: &Path) -> Result<Results> {
        let mut results = Results::new(&unpacked.release);
        let initrd = folder.join("initramfs");
        let expected = self.image(kernel, unpacked, &mut results, &initrd)?;
        let boot = Boot {
            kernel: &unpacked.image,
            release: &unpacked.release,
            initrd: &initrd,
            arguments: Vec::new(),
            folder,
            limit: self.cases.map_or(boot::LIMIT, |_| AS_LONG_AS_IT_TAKES),
        };
        let end = boot.run(expected, |ended| results.end(ended));
        results.close(end.err());
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
                let environment = binary
                    .environment
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                let cases = self.cases.iter();
                let cases = cases.map(|cases| ("SIPGUARD_CASES".to_owned(), cases.to_string()));
                jobs.push(Job {
                    name,
                    program: program.clone(),
                    arguments: ["--exact", "--nocapture", test].map(str::to_owned).into(),
                    environment: environment.chain(cases).collect(),
                    modules: files.clone(),
                    limit: self.cases.map_or(boot::TEST_LIMIT, |_| AS_LONG_AS_IT_TAKES),
                });
            }
        }
        let count = jobs.len();
        for program in PROGRAMS {
            image.program(program)?;
        }
        self.programs.complete(image, jobs, path)?;
        Ok(count)
    }
}
