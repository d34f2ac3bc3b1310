//! What `cargo xtask deploy` does to the gateway, and what it does not.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{config, in_force, reach};
use crate::{
    netns,
    vm::{
        gateway::Gateway,
        image::Image,
        network::{ADMIN, GATEWAY, INTERFACE},
        probe::{self, Answer, Protocol, SOON},
    },
};

/// How long the gateway waits for the deployer's next word: beside other work, an emulated machine takes minutes for what is done in
/// seconds elsewhere.
const UNHURRIED: &str = "300s";
/// The same where it will wait in vain.
const CUT: &str = "60s";

pub(super) struct Deployer<'a> {
    image: &'a Image,
    /// The folder that `cargo xtask package` made.
    packages: &'a Path,
}

impl<'a> Deployer<'a> {
    pub(super) fn new(image: &'a Image, packages: &'a Path) -> Self {
        Self { image, packages }
    }

    pub(super) fn first(&self, gateway: &Gateway<'_>) -> Result<String> {
        succeeded(&self.deploy(&config::good(), UNHURRIED)?)?;
        let version = gateway.run("dpkg-query --show --showformat='${Version}' sipguard")?;
        let status = gateway.run("sipguard status")?;
        let native = status.lines().any(|line| {
            // Behind its name there may be others that it has.
            let mut words = line.split_whitespace();
            words.next() == Some(INTERFACE) && words.next_back() == Some("native")
        });
        ensure!(native, "not in the driver:\n{status}");
        mended(gateway)?;
        Ok(format!(
            "{version}, in the driver of {INTERFACE}; doctor content once its command was run"
        ))
    }

    pub(super) fn again(&self, gateway: &Gateway<'_>) -> Result<String> {
        let standing = || -> Result<String> {
            Ok(in_force(gateway)?
                + &gateway.run(&format!(
                    "ip -details link show dev {INTERFACE} | grep prog/xdp"
                ))?)
        };
        let before = standing()?;
        succeeded(&self.deploy(&config::good(), UNHURRIED)?)?;
        let after = standing()?;
        ensure!(before == after, "before:\n{before}\nafter:\n{after}");
        Ok("same program, entries, config and package".to_owned())
    }

    pub(super) fn refused(&self, gateway: &Gateway<'_>) -> Result<String> {
        let before = in_force(gateway)?;
        failed(&self.deploy(&config::bad(), UNHURRIED)?)?;
        let after = in_force(gateway)?;
        ensure!(before == after, "before:\n{before}\nafter:\n{after}");
        reach::as_guarded(gateway)?;
        Ok("all as before".to_owned())
    }

    /// Everybody is allowed to guard SSH, too, and to forget himself.
    pub(super) fn cut_off(&self, gateway: &Gateway<'_>) -> Result<String> {
        let before = in_force(gateway)?;
        let (deployed, outage) = watching_ssh(|| self.deploy(&config::cutting(), CUT))?;
        failed(&deployed)?;
        ensure!(
            outage > Duration::from_secs(5),
            "SSH was never away: the config did not come into force"
        );
        gateway.until_ssh()?;
        let after = in_force(gateway)?;
        ensure!(before == after, "before:\n{before}\nafter:\n{after}");
        reach::as_guarded(gateway)?;
        Ok(format!(
            "SSH away for {} s, then all as before",
            outage.as_secs()
        ))
    }

    fn deploy(&self, config: &str, confirm: &str) -> Result<Output> {
        let file = Path::new(netns::SCRATCH).join("deployed.toml");
        fs::write(&file, config)?;
        let [address, _] = GATEWAY.addresses;
        // Also where somebody builds another one meanwhile.
        let mut deploy = Command::new("/proc/self/exe");
        deploy
            .args(["deploy", "--host", &format!("admin@{address}")])
            .arg("--identity")
            .arg(self.image.key())
            .arg("--known-hosts")
            .arg(self.image.known_hosts())
            .arg("--config")
            .arg(&file)
            .args(["--confirm", confirm])
            .arg("--package")
            .arg(self.packages)
            .stdin(Stdio::null());
        deploy.output().context("starting cargo xtask deploy")
    }
}

/// Debian's kernel lets no service listen as Debian sets it up: doctor finds that and nothing else, and the command that it tells is all there is to do.
fn mended(gateway: &Gateway<'_>) -> Result<()> {
    let told = gateway.run("sipguard doctor || [ $? = 1 ]")?;
    let commands: Vec<_> = told
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .collect();
    let [command] = commands[..] else {
        return Err(anyhow!("doctor finds:\n{told}"));
    };
    ensure!(command.contains("perf_event_paranoid"), "{told}");
    gateway.run(command)?;
    gateway.run("sipguard doctor").map(drop)
}

fn succeeded(deployed: &Output) -> Result<()> {
    ensure!(deployed.status.success(), "{}", said(deployed));
    Ok(())
}

fn failed(deployed: &Output) -> Result<()> {
    ensure!(
        deployed.status.code() == Some(1),
        "it should have failed: {}\n{}",
        deployed.status,
        said(deployed)
    );
    Ok(())
}

fn said(deployed: &Output) -> String {
    let [stdout, stderr] =
        [&deployed.stdout, &deployed.stderr].map(|it| String::from_utf8_lossy(it));
    format!("cargo xtask deploy: {}\n{stdout}{stderr}", deployed.status)
}

/// Returns the longest time that sshd did not answer the administrator, too.
fn watching_ssh<T>(meanwhile: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| -> Result<Duration> {
            let ([from, _], [to, _]) = (ADMIN.addresses, GATEWAY.addresses);
            let (mut answered, mut longest) = (Instant::now(), Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                if probe::ask(Protocol::Tcp, from, (to, 22).into(), SOON)? == Answer::Reply {
                    longest = longest.max(asked - answered);
                    answered = Instant::now();
                }
                // sshd refuses who comes more often, as it does with scanners.
                thread::sleep(Duration::from_millis(500));
            }
            Ok(longest.max(answered.elapsed()))
        });
        let ended = meanwhile();
        over.store(true, Ordering::Relaxed);
        let outage = watch.join().map_err(|_| anyhow!("a probe panicked"))??;
        Ok((ended?, outage))
    })
}
