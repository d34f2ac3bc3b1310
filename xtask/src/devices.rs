//! `cargo xtask devices`: what sipguard does on real drivers, for each network card that QEMU models, on several kernels.
//!
//! All cards are in one machine a kernel. Each has a cable of its own: two taps and a bridge in a network namespace of this machine, with a
//! card at the other end, from which the story (`tests/tests/cards.rs`) sends. Taps carry offloads as a hypervisor's network does, and some
//! drivers are wrong with those only.

mod cards;
mod report;

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use self::{
    cards::{CARDS, Card, KERNELS, cable},
    report::Story,
};
use crate::{
    kernels::{
        boot::{self, Boot, Programs, TESTS},
        build, debian,
        image::Image,
        matrix::{Binary, Kernel, PLAIN},
        modules::Modules,
        plan::Job,
    },
    machine,
    netns::{self, Host},
    setup::{self, Purpose},
};

const STORY: Binary = Binary {
    name: "cards",
    features: &["modules"],
    only: &["story"],
    ..PLAIN
};
/// The programs that it calls.
const PROGRAMS: &[&str] = &["ip", "ethtool"];
/// Beside the cards' own: the bus that they are on, VLANs, what tc filters with, and what others need by another name, which is not said where
/// it can be read.
const MODULES: &[&str] = &[
    "virtio_pci",
    "8021q",
    "sch_ingress",
    "cls_bpf",
    "crc32c_generic",
];

#[derive(Args)]
pub(crate) struct Arguments {
    /// Kernels by the names that the table has; all where none is named
    kernels: Vec<String>,
    /// Only cards with this in their names
    #[arg(long, value_name = "NAME", default_value = "")]
    card: String,
    /// All is set up and built: what this command says to itself through sudo
    #[arg(long, hide = true)]
    built: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let kernels: Vec<&Kernel> = KERNELS
        .iter()
        .filter(|kernel| {
            let names = &arguments.kernels;
            names.is_empty() || names.iter().any(|name| name == kernel.name)
        })
        .collect();
    let cards: Vec<(usize, &Card)> = CARDS
        .iter()
        .enumerate()
        .filter(|(_, card)| card.name.contains(&arguments.card))
        .collect();
    ensure!(
        !kernels.is_empty() && !cards.is_empty(),
        "no such kernel or card"
    );
    if !arguments.built {
        prepare(&kernels, &cards)?;
    }
    if !machine::is_root() {
        let mut again = machine::as_root(env::current_exe()?)?;
        again.args(env::args_os().skip(1)).arg("--built");
        ensure!(again.status()?.success(), "not all is well");
        return Ok(());
    }
    let mut stories = Vec::new();
    let mut broken = Vec::new();
    for kernel in kernels {
        let ended = netns::sandbox(|sandbox| {
            let host = sandbox.host();
            plug_in(&host, &cards);
            host.enter(|| boot(kernel, &cards, &mut stories))
        });
        if let Err(error) = ended {
            broken.push(format!("{}: {error:#}", kernel.name));
        }
    }
    report::table(&stories);
    ensure!(broken.is_empty(), broken.join("\n"));
    ensure!(stories.iter().all(Story::well), "not all is well");
    Ok(())
}

fn folder(kernel: &Kernel) -> PathBuf {
    machine::workspace()
        .join("target/devices")
        .join(kernel.name)
}

/// Everything that needs no root: kernels, programs, and what is booted of both.
fn prepare(kernels: &[&Kernel], cards: &[(usize, &Card)]) -> Result<()> {
    setup::run(&[Purpose::Kernels, Purpose::Devices])?;
    let programs = machine::workspace().join("target/devices/programs");
    fs::create_dir_all(&programs).with_context(|| format!("creating {}", programs.display()))?;
    let tests = build::tests(&[&STORY], &[], &programs)?;
    let story = &tests.first().context("a story")?.program;
    let programs = Programs {
        guest: build::guest(&programs)?,
        sipguard: build::sipguard(&programs)?,
    };
    for kernel in kernels {
        let folder = folder(kernel);
        fs::create_dir_all(&folder)?;
        image(&programs, story, kernel, cards)
            .with_context(|| format!("preparing {}", folder.display()))?;
    }
    Ok(())
}

fn image(
    programs: &Programs,
    story: &Path,
    kernel: &Kernel,
    cards: &[(usize, &Card)],
) -> Result<()> {
    let folder = folder(kernel);
    let unpacked = debian::fetch(kernel, &folder.join("packages"))?;
    fs::copy(&unpacked.image, folder.join("vmlinuz"))?;
    fs::write(folder.join("release"), &unpacked.release)?;
    let mut image = Image::default();
    let names: Vec<&str> = cards.iter().map(|(_, card)| card.module).collect();
    let mut modules = Vec::new();
    // The other ends are virtio_net's.
    let names = [MODULES, &["virtio_net"], &names].concat();
    for module in Modules::of(&unpacked.modules)?.with_needed(&names)? {
        let file = format!("/modules/{}.ko", module.name);
        image.file(&file, module.object);
        modules.push(file);
    }
    for program in PROGRAMS {
        image.program(program)?;
    }
    let program = format!("{TESTS}/{}", STORY.name);
    image.executable(&program, story.to_owned())?;
    let jobs = cards.iter().map(|(number, card)| {
        let [own, peer] = cable(*number).map(|end| end.address);
        let runs_xdp = card.runs_xdp(&unpacked.release).to_string();
        let environment = [
            ("SIPGUARD_CARD", own),
            ("SIPGUARD_PEER", peer),
            ("SIPGUARD_DRIVER_RUNS_XDP", runs_xdp),
            ("SIPGUARD_CARD_SLEEPS", card.sleeps.to_string()),
        ];
        Job {
            name: card.name.to_owned(),
            program: program.clone(),
            arguments: ["--exact", "--nocapture", "story"]
                .map(str::to_owned)
                .into(),
            environment: environment
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            modules: modules.clone(),
            limit: boot::TEST_LIMIT,
        }
    });
    programs.complete(image, jobs.collect(), &folder.join("initramfs"))
}

/// Makes the cables.
fn plug_in(host: &Host, cards: &[(usize, &Card)]) {
    for (number, _) in cards {
        let bridge = format!("cable{number}");
        host.ip(&format!("link add {bridge} type bridge mcast_snooping 0"));
        for end in cable(*number) {
            let tap = &end.tap;
            let queues = if end.multiqueue() { " multi_queue" } else { "" };
            host.ip(&format!("tuntap add mode tap name {tap}{queues}"));
            host.ip(&format!("link set {tap} mtu 9100 master {bridge} up"));
        }
        host.ip(&format!("link set {bridge} mtu 9100 up"));
    }
}

fn boot(kernel: &Kernel, cards: &[(usize, &Card)], stories: &mut Vec<Story>) -> Result<()> {
    let folder = folder(kernel);
    let release = fs::read_to_string(folder.join("release"))?;
    let mut arguments: Vec<OsString> = vec!["-machine".into(), "q35".into()];
    for (number, _) in cards {
        for end in cable(*number) {
            arguments.extend(end.arguments().map(OsString::from));
        }
    }
    let boot = Boot {
        kernel: &folder.join("vmlinuz"),
        release: &release,
        initrd: &folder.join("initramfs"),
        arguments,
        folder: &folder,
        limit: boot::LIMIT,
    };
    boot.run(cards.len(), |ended| {
        let story = Story::new(&release, &ended);
        story.print(&ended);
        stories.push(story);
    })
    .map_err(anyhow::Error::msg)
}
