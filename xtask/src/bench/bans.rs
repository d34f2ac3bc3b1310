//! What a ban by another program takes: a process each, and by fail2ban, beside its own action for nftables and beside one whose command does
//! nothing, which shows what is fail2ban's own. The state is on the disk that the workspace is on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::guard::{Guard, INTERFACE, Mode};
use crate::{
    machine,
    netns::{End, Host, Process, SCRATCH, STATE, Sandbox, join},
};

/// How many bans one process each makes.
const SINGLE: usize = 1000;
/// How many fail2ban makes.
const BY_FAIL2BAN: usize = 300;
/// How often. Each of a jail's two threads looks only every fifth of a second whether it is to stop, which is as long as all that sipguard has to do
/// with it and longer: of few rounds the best is a matter of luck.
const ROUNDS: u32 = 9;
/// What it makes them with, a jail each.
const JAILS: [&str; 3] = ["true", "nftables", OURS];
const OURS: &str = "sipguard";

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) by: &'static str,
    pub(super) bans: usize,
    /// Until all are in force.
    pub(super) seconds: f64,
    /// Until fail2ban's jail has stopped, and none is in force any more.
    pub(super) stop_seconds: Option<f64>,
}

pub(super) fn run(sandbox: &Sandbox) -> Result<Vec<Row>> {
    let (host, peer) = (sandbox.host(), sandbox.host());
    join(
        End {
            host: &host,
            interface: INTERFACE,
            addresses: &[],
        },
        End {
            host: &peer,
            interface: INTERFACE,
            addresses: &[],
        },
    );
    on_disk(&host, || measured(&host))
}

/// Has the state on the disk that the workspace is on meanwhile.
pub(super) fn on_disk<T>(host: &Host, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let disk = machine::workspace().join("target/bench-state");
    let _ = fs::remove_dir_all(&disk);
    fs::create_dir_all(&disk)?;
    succeeded(
        host,
        Command::new("mount")
            .arg("--bind")
            .args([&disk, Path::new(STATE)]),
    )?;
    let done = work();
    succeeded(host, Command::new("umount").arg(STATE))?;
    fs::remove_dir_all(&disk)?;
    done
}

fn measured(host: &Host) -> Result<Vec<Row>> {
    let guard = Guard::new("203.0.113.0/24\n", Mode::Native)?;
    guard.apply(host)?;
    let began = Instant::now();
    for number in 0..SINGLE {
        let address = format!("198.18.{}.{}", number / 250, number % 250);
        guard.run(
            host,
            &["-q", "ban", &address, "--for", "1h", "--by", "bench"],
        )?;
    }
    let mut rows = vec![Row {
        by: "a process each",
        bans: SINGLE,
        seconds: began.elapsed().as_secs_f64(),
        stop_seconds: None,
    }];
    guard.run(host, &["-q", "unban", "--by", "bench", "--all"])?;
    if machine::find("fail2ban-server").is_some() && machine::find("nft").is_some() {
        rows.extend(by_fail2ban(host, &guard)?);
    }
    guard.down(host)?;
    Ok(rows)
}

/// The best of several rounds, in each of which all have their turn.
fn by_fail2ban(host: &Host, guard: &Guard) -> Result<Vec<Row>> {
    let fail2ban = Fail2ban::start(host)?;
    let mut rows: Vec<Row> = JAILS
        .map(|jail| Row {
            by: jail,
            bans: BY_FAIL2BAN,
            seconds: f64::INFINITY,
            stop_seconds: Some(f64::INFINITY),
        })
        .into();
    for _ in 0..ROUNDS {
        for row in &mut rows {
            let mut words = vec!["set".to_owned(), row.by.to_owned(), "banip".to_owned()];
            words.extend(
                (0..row.bans).map(|number| format!("198.19.{}.{}", number / 250, number % 250)),
            );
            fail2ban.ask(&["start", row.by])?;
            let mut seconds = fail2ban.ask(&words)?;
            if row.by == OURS {
                // Its action works behind fail2ban's back.
                seconds += until_in_force(host, guard, row.bans)?;
            }
            row.seconds = row.seconds.min(seconds);
            let stopped = fail2ban.ask(&["stop", row.by])?;
            row.stop_seconds = row.stop_seconds.map(|best| best.min(stopped));
            // A jail that was stopped is gone until all is read again.
            fail2ban.ask(&["reload"])?;
        }
    }
    Ok(rows)
}

/// Waits until the kernel has so many bans of fail2ban's; in seconds.
fn until_in_force(host: &Host, guard: &Guard, bans: usize) -> Result<f64> {
    let began = Instant::now();
    loop {
        let took = began.elapsed();
        let list = host.run(&mut guard.command(&["list", "--service", "sip", "--json"]));
        let is_in_force = |line: &&str| {
            line.contains(r#""source":"fail2ban-sipguard""#) && line.contains(r#""in_force":true"#)
        };
        if list.stdout.lines().filter(is_in_force).count() == bans {
            return Ok(took.as_secs_f64());
        }
        ensure!(took < Duration::from_mins(1), "they don't come in force");
    }
}

/// fail2ban with a jail for each action, all in a folder of its own.
struct Fail2ban<'h> {
    host: &'h Host,
    folder: PathBuf,
    _server: Process,
}

impl<'h> Fail2ban<'h> {
    fn start(host: &'h Host) -> Result<Self> {
        let folder = Path::new(SCRATCH).join("fail2ban");
        let actions = folder.join("action.d");
        fs::create_dir_all(&actions)?;
        fs::create_dir_all(folder.join("filter.d"))?;
        for name in ["nftables.conf", "nftables-common.conf"] {
            let stock = Path::new("/etc/fail2ban/action.d").join(name);
            if stock.exists() {
                fs::copy(stock, actions.join(name))?;
            }
        }
        fs::copy(
            machine::workspace().join("sipguard/dist/fail2ban.py"),
            actions.join("sipguard.py"),
        )?;
        let command = machine::workspace().join("target/release/sipguard");
        let sipguard = format!("sipguard.py[sipguard={}]", command.display());
        fs::write(
            actions.join("true.conf"),
            "[Definition]\nactionban = true\nactionunban = true\nactionflush = true\n",
        )?;
        let at = folder.display();
        fs::write(
            folder.join("fail2ban.conf"),
            format!(
                "[Definition]\nloglevel = ERROR\nlogtarget = {at}/log\nsyslogsocket = auto\nsocket = {at}/sock\npidfile = {at}/pid\n\
                 dbfile = None\nallowipv6 = yes\n"
            ),
        )?;
        fs::write(folder.join("messages"), "")?;
        let mut jails = vec![format!(
            "[DEFAULT]\nenabled = true\nfilter =\nbackend = polling\nbantime = 3600\nlogpath = {at}/messages\n"
        )];
        for jail in JAILS {
            let action = if jail == OURS { &sipguard } else { jail };
            jails.push(format!(
                "[{jail}]\naction = {action}[port=5060, protocol=udp]\n"
            ));
        }
        fs::write(folder.join("jail.conf"), jails.concat())?;
        let mut server = Command::new("fail2ban-server");
        let server = host.spawn(server.arg("-f").arg("-c").arg(&folder));
        let fail2ban = Self {
            host,
            folder,
            _server: server,
        };
        let began = Instant::now();
        while fail2ban.ask(&["status", "sipguard"]).is_err() {
            ensure!(
                began.elapsed() < Duration::from_secs(30),
                "fail2ban does not start"
            );
            thread::sleep(Duration::from_millis(50));
        }
        Ok(fail2ban)
    }

    /// How long it took until it was done, in seconds.
    fn ask(&self, words: &[impl AsRef<str>]) -> Result<f64> {
        let began = Instant::now();
        let mut client = Command::new("fail2ban-client");
        client.arg("-c").arg(&self.folder);
        client.args(words.iter().map(AsRef::as_ref));
        succeeded(self.host, &mut client)?;
        Ok(began.elapsed().as_secs_f64())
    }
}

fn succeeded(host: &Host, command: &mut Command) -> Result<()> {
    let finished = host.run(command);
    let name = command.get_program().display();
    ensure!(
        finished.status.success(),
        "{name}: {}",
        finished.stderr.trim()
    );
    Ok(())
}
