//! The gateway: a machine of software with one network card, and a way in over SSH.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::{
    image::{self, Image},
    network::{ADMIN, GATEWAY, MAC, TAP},
    probe::{self, Answer, Protocol},
};
use crate::{
    netns,
    qemu::{Machine, Running},
};

/// On a slow machine where much else runs.
const BOOT: Duration = Duration::from_mins(4);
/// How long a command may take to be accepted, and to end.
const PATIENCE: Duration = Duration::from_mins(3);
/// What systemd says on the console when sshd runs, in whichever colours.
const SSHD_RUNS: [&str; 2] = ["Started", "OpenBSD Secure Shell server"];
/// The cable, for QEMU.
const CABLE: &str = "cable";
/// Between two questions whether it is there.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// A gateway with a disk of its own.
pub(super) struct Gateway<'a> {
    image: &'a Image,
    disk: PathBuf,
    /// Where QEMU takes orders (QMP).
    monitor: PathBuf,
    machine: Option<Running>,
}

impl<'a> Gateway<'a> {
    /// One that was never switched on, with a disk that is gone with the sandbox.
    pub(super) fn new(image: &'a Image) -> Result<Self> {
        let disk = Path::new(netns::SCRATCH).join("disk.img");
        // Most of it is empty, and it is in memory.
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always").arg(image.disk()).arg(&disk);
        finish(&mut copy).context("copying the gateway's disk")?;
        Ok(Self {
            image,
            disk,
            monitor: Path::new(netns::SCRATCH).join("monitor"),
            machine: None,
        })
    }

    /// Switches it on, from a thread in the network namespace with the cable.
    pub(super) fn switch_on(&mut self) -> Result<()> {
        let mut drive = OsString::from("if=none,id=disk,format=raw,cache=unsafe,file=");
        drive.push(&self.disk);
        let mut monitor = OsString::from("unix:");
        monitor.push(&self.monitor);
        monitor.push(",server=on,wait=off");
        let machine = Machine {
            kernel: self.image.kernel(),
            initrd: self.image.initrd(),
            command_line: "root=/dev/vda rw quiet mitigations=off no5lvl systemd.show_status=1"
                .to_owned(),
            memory: 1024,
            processors: 2,
            arguments: vec![
                "-drive".into(),
                drive,
                "-device".into(),
                "virtio-blk-pci,drive=disk".into(),
                "-qmp".into(),
                monitor,
                "-netdev".into(),
                format!("tap,id={CABLE},ifname={TAP},script=no,downscript=no").into(),
                "-device".into(),
                format!("virtio-net-pci,netdev={CABLE},mac={MAC},addr=3,romfile=").into(),
            ],
            console: image::folder().join("console.log"),
            messages: None,
        };
        self.machine = Some(machine.start()?);
        Ok(())
    }

    /// The same without the cable in it, which is put in when sshd runs.
    pub(super) fn switch_on_unplugged(&mut self) -> Result<()> {
        self.switch_on()?;
        self.cable(false)?;
        let machine = self.machine.as_mut().context("a machine that is on")?;
        machine.until_said("started sshd", BOOT, |line| {
            SSHD_RUNS.iter().all(|word| line.contains(word))
        })?;
        self.cable(true)
    }

    /// Puts the cable in, or pulls it out.
    fn cable(&self, is_in: bool) -> Result<()> {
        let started = Instant::now();
        let mut orders = loop {
            match UnixStream::connect(&self.monitor) {
                Ok(orders) => break orders,
                // QEMU makes it soon.
                Err(_) if started.elapsed() < PATIENCE => thread::sleep(PAUSE),
                Err(error) => return Err(error).context("QEMU takes no orders"),
            }
        };
        let mut answers = BufReader::new(orders.try_clone()?).lines();
        for order in [
            json!({"execute": "qmp_capabilities"}),
            json!({"execute": "set_link", "arguments": {"name": CABLE, "up": is_in}}),
        ] {
            writeln!(orders, "{order}")?;
            // Before it comes who QEMU is, and what happens to it.
            let mut answer = answers.by_ref().filter(|answer| {
                answer.as_ref().map_or(true, |answer| {
                    answer.starts_with("{\"return\"") || answer.starts_with("{\"error\"")
                })
            });
            let answer = answer.next().context("QEMU has ended")??;
            ensure!(answer.starts_with("{\"return\""), "{order}: {answer}");
        }
        Ok(())
    }

    /// Waits until sshd greets, which is where an administrator's waiting ends, too.
    pub(super) fn until_ssh(&self) -> Result<()> {
        ensure!(self.machine.is_some(), "the gateway is off");
        let started = Instant::now();
        let [from, _] = ADMIN.addresses;
        let [to, _] = GATEWAY.addresses;
        while probe::ask(Protocol::Tcp, from, (to, 22).into(), probe::SOON)? != Answer::Reply {
            ensure!(
                started.elapsed() < BOOT,
                "the gateway's sshd does not answer; see {}",
                image::folder().join("console.log").display()
            );
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Runs a shell command as root there, which must succeed, and returns what it prints.
    pub(super) fn run(&self, command: &str) -> Result<String> {
        let quoted = command.replace('\'', r"'\''");
        let mut ssh = self.client("ssh");
        let [address, _] = GATEWAY.addresses;
        ssh.arg(format!("admin@{address}"))
            .arg(format!("sudo sh -ec '{quoted}'"));
        finish(&mut ssh).with_context(|| format!("on the gateway: {command}"))
    }

    /// Copies a file into the administrator's home.
    pub(super) fn copy(&self, file: &Path) -> Result<()> {
        let [address, _] = GATEWAY.addresses;
        let mut scp = self.client("scp");
        scp.arg(file).arg(format!("admin@{address}:"));
        finish(&mut scp).with_context(|| format!("copying {} there", file.display()))?;
        Ok(())
    }

    /// Writes its config.
    pub(super) fn put(&self, config: &str) -> Result<()> {
        self.run(&format!(
            "cat > /etc/sipguard/sipguard.toml <<'END'\n{config}END\n"
        ))
        .map(drop)
    }

    /// Has it shut down in order, and waits until it is off.
    pub(super) fn switch_off(&mut self, command: &str) -> Result<()> {
        // The connection may end before its answer comes.
        let _ = self.run(command);
        let machine = self.machine.as_mut().context("a machine that is on")?;
        machine.until_off(PATIENCE, |_| ())?;
        self.machine = None;
        Ok(())
    }

    /// ssh or scp, knowing nobody but the gateway, and its administrator's key only.
    fn client(&self, program: &str) -> Command {
        let mut client = Command::new(program);
        client.args(["-F", "none", "-i"]).arg(self.image.key());
        for option in [
            "BatchMode=yes".to_owned(),
            "ConnectTimeout=60".to_owned(),
            "GlobalKnownHostsFile=none".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            format!("UserKnownHostsFile={}", self.image.known_hosts().display()),
        ] {
            client.args(["-o", &option]);
        }
        client
    }
}

fn finish(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        bail!(
            "{}\n{}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
    }
    Ok(text(&output.stdout))
}
