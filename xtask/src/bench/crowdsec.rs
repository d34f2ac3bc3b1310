//! Decisions of CrowdSec, until the kernel drops those whom they ban: sipguard, and CrowdSec's own bouncer with nftables, each as it asks the same
//! local API (LAPI). Times are counted from the end of the LAPI's answer, which a relay between them sees. No systemd runs here: what was
//! found is put in force as `sipguard-refresh.path` would have it done, and what that takes to notice it is left out.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::{
    Effort, bans,
    guard::{Guard, INTERFACE, Mode},
    in_force::judged_otherwise,
    watched,
};
use crate::{
    crowdsec::{CrowdSec, KEYS},
    machine,
    netns::{End, Host, Process, SCRATCH, Sandbox, join},
};

/// How often both ask, unless said otherwise.
const EVERY: &str = "10s";
/// Who is banned, and is not any more: nobody else says anything of him.
const ONE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// How often.
const SINGLE: u32 = 2;
/// An answer without anything in it has at most so many bytes, and one with a decision has more.
const NOTHING_NEW: usize = 220;
/// How often it is told how far a slow one is.
const TELL: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_mins(30);

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) by: &'static str,
    pub(super) decisions: usize,
    /// Until all are in force.
    pub(super) seconds: f64,
    /// Of the processor, until then.
    pub(super) processor_seconds: f64,
    /// The most memory, of all its processes together.
    pub(super) peak_mib: f64,
    /// Until one more is in force in the kernel, and until one is not any more: the slowest.
    pub(super) more_seconds: f64,
    pub(super) less_seconds: f64,
    /// Until it is on the disk, too, where it ever is: the slowest of both.
    pub(super) on_disk_seconds: Option<f64>,
    /// Processors in use while nothing changes.
    pub(super) idle: f64,
}

pub(super) fn run(sandbox: &Sandbox, effort: &Effort) -> Result<Vec<Row>> {
    let (host, peer) = (sandbox.host(), sandbox.host());
    let end = |host| End {
        host,
        interface: INTERFACE,
        addresses: &[],
    };
    join(end(&host), end(&peer));
    let folder = Path::new(SCRATCH).join("crowdsec");
    fs::create_dir_all(&folder)?;
    let crowdsec = CrowdSec::new(&host, &folder);
    let _lapi = crowdsec.start(&host);
    let relay = Relay::start(&host)?;
    let mut lines = String::new();
    for place in 0..effort.decisions {
        let address = Ipv4Addr::from_bits(
            0x0b00_0000 + (place as u32).wrapping_mul(0x9e37_79b1) % 0xd000_0000,
        );
        writeln!(lines, "{address},4h,crowdsecurity/ssh-bf")?;
    }
    crowdsec.import(&host, &lines);
    let world = World {
        host,
        crowdsec,
        relay,
        decisions: effort.decisions,
        folder,
    };
    let mut rows = vec![bans::on_disk(&world.host, || world.ours())?];
    let bouncer = machine::workspace()
        .join("target/tools/crowdsec-firewall-bouncer/usr/bin/crowdsec-firewall-bouncer");
    if bouncer.is_file() && machine::find("nft").is_some() {
        rows.push(world.bouncer(&bouncer)?);
    }
    Ok(rows)
}

struct World {
    host: Host,
    crowdsec: CrowdSec,
    relay: Relay,
    decisions: usize,
    folder: PathBuf,
}

impl World {
    fn ours(&self) -> Result<Row> {
        let key = self.folder.join("key");
        fs::write(&key, KEYS[0])?;
        let guard = Guard::new("203.0.113.0/24\n", Mode::Native)?;
        guard.deny_live(&format!(
            "crowdsec = \"{}\", key_file = \"{}\", every = \"{EVERY}\"",
            self.relay.url(),
            key.display()
        ))?;
        guard.run(&self.host, &["apply", "--offline"])?;
        let found = Path::new(SCRATCH).join("sipguard-fetch");
        fs::create_dir_all(&found)?;
        let found = found.join("live.json");
        let stamp = || {
            fs::metadata(&found)
                .ok()
                .map(|file| (file.ino(), file.mtime_nsec()))
        };
        let fetch = machine::workspace().join("target/release/sipguard-fetch");
        let refresh = ["refresh", "live", "--offline"];

        // Of another part of the benchmark.
        let _ = fs::remove_file(&found);
        let service = self.host.spawn(Command::new(fetch).arg("--loop"));
        wait("all are found", || stamp().is_some())?;
        let refreshed = watched::run("refresh", &self.host, &mut guard.command(&refresh))?;
        let seconds = self.relay.since_answer();
        let status = self.host.run(&mut guard.command(&["--json", "status"]));
        let wanted = format!("\"in_kernel\":{}", self.decisions);
        ensure!(status.stdout.contains(&wanted), "{}", status.stdout);
        let mut row = Row {
            by: "sipguard",
            decisions: self.decisions,
            seconds,
            processor_seconds: used(&service)? + refreshed.processor_seconds,
            peak_mib: 0.0,
            more_seconds: 0.0,
            less_seconds: 0.0,
            on_disk_seconds: Some(0.0),
            idle: 0.0,
        };
        let mut peak = refreshed.peak_mib;
        for _ in 0..SINGLE {
            for (words, slowest) in [
                ("add", &mut row.more_seconds),
                ("delete", &mut row.less_seconds),
            ] {
                let before = stamp();
                self.crowdsec
                    .cscli(&self.host, &format!("decisions {words} --ip {ONE}"));
                wait("it is found", || stamp() != before)?;
                let answered = self.relay.answered();
                let mut command = guard.command(&refresh);
                let again = || watched::run("refresh", &self.host, &mut command);
                let (again, in_force) = judged_otherwise(ONE, again)?;
                let in_force = in_force.duration_since(answered).as_secs_f64();
                *slowest = slowest.max(in_force);
                let on_disk = answered.elapsed().as_secs_f64();
                row.on_disk_seconds = row.on_disk_seconds.map(|slowest| slowest.max(on_disk));
                peak = peak.max(again.peak_mib);
            }
        }
        row.idle = idle(&service)?;
        let fetcher = watched::peak_mib(pid(&service)).context("the fetcher runs")?;
        row.peak_mib = fetcher + peak;
        guard.down(&self.host)?;
        Ok(row)
    }

    fn bouncer(&self, program: &Path) -> Result<Row> {
        let config = self.folder.join("bouncer.yaml");
        fs::write(
            &config,
            format!(
                "mode: nftables\npid_dir: {at}\nlog_dir: {at}\nupdate_frequency: {EVERY}\ndaemonize: false\nlog_mode: stdout\nlog_level: info\n\
                 api_url: {url}/\napi_key: {key}\ndisable_ipv6: false\ndeny_action: DROP\ndeny_log: false\nsupported_decisions_types: [ban]\n\
                 blacklists_ipv4: banned\nblacklists_ipv6: banned6\n\
                 nftables: {{ipv4: {{enabled: true, set-only: false, table: crowdsec, chain: crowdsec}},\n  \
                 ipv6: {{enabled: true, set-only: false, table: crowdsec6, chain: crowdsec6}}}}\nprometheus: {{enabled: false}}\n",
                at = self.folder.display(),
                url = self.relay.url(),
                key = KEYS[1],
            ),
        )?;
        let nft = |words: &str| {
            let mut nft = Command::new("nft");
            self.host.run(nft.args(words.split(' ')))
        };
        let service = self
            .host
            .spawn(Command::new(program).arg("-c").arg(&config));
        let (began, mut told) = (Instant::now(), Instant::now());
        loop {
            let looking = Instant::now();
            let set = nft("list set ip crowdsec banned").stdout;
            let banned = set.matches("expires").count();
            if banned >= self.decisions {
                break;
            }
            // It takes six minutes for 100,000, and more on a busy machine.
            if told.elapsed() >= TELL {
                told = Instant::now();
                eprintln!(
                    "crowdsec-firewall-bouncer: {banned} of {} are in force after {:.0} s …",
                    self.decisions,
                    began.elapsed().as_secs_f64()
                );
            }
            // It takes a while itself.
            thread::sleep(10 * looking.elapsed());
            ensure!(began.elapsed() < PATIENCE, "{}", service.stdout());
        }
        let mut row = Row {
            by: "crowdsec-firewall-bouncer",
            decisions: self.decisions,
            seconds: self.relay.since_answer(),
            processor_seconds: used(&service)?,
            peak_mib: 0.0,
            more_seconds: 0.0,
            less_seconds: 0.0,
            on_disk_seconds: None,
            idle: 0.0,
        };
        let is_banned = || {
            let words = format!("get element ip crowdsec banned {{ {ONE} }}");
            nft(&words).status.success()
        };
        self.crowdsec
            .cscli(&self.host, &format!("decisions add --ip {ONE}"));
        wait("it is banned", is_banned)?;
        row.more_seconds = self.relay.since_answer();
        self.crowdsec
            .cscli(&self.host, &format!("decisions delete --ip {ONE}"));
        wait("it is not banned", || !is_banned())?;
        row.less_seconds = self.relay.since_answer();
        row.idle = idle(&service)?;
        row.peak_mib = watched::peak_mib(pid(&service)).context("the bouncer runs")?;
        Ok(row)
    }
}

fn wait(what: &str, done: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !done() {
        ensure!(
            began.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

fn pid(process: &Process) -> u32 {
    process.pid().as_raw_nonzero().get().unsigned_abs()
}

fn used(process: &Process) -> Result<f64> {
    watched::processor_seconds(pid(process)).context("it has ended")
}

/// Processors in use over ten seconds.
fn idle(process: &Process) -> Result<f64> {
    let (began, before) = (Instant::now(), used(process)?);
    thread::sleep(Duration::from_secs(10));
    Ok((used(process)? - before) / began.elapsed().as_secs_f64())
}

/// Between the LAPI and who asks it.
struct Relay {
    port: u16,
    /// When an answer with something in it ended.
    answered: Arc<Mutex<Instant>>,
}

impl Relay {
    fn start(host: &Host) -> Result<Self> {
        let answered = Arc::new(Mutex::new(Instant::now()));
        let noted = Arc::clone(&answered);
        // Threads stay in the namespace in which they began.
        let port = host.enter(|| -> Result<u16> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = listener.local_addr()?.port();
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let noted = Arc::clone(&noted);
                    // A connection that breaks is asked for again.
                    thread::spawn(move || relay(client, &noted).ok());
                }
            });
            Ok(port)
        })?;
        Ok(Self { port, answered })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn answered(&self) -> Instant {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_answer(&self) -> f64 {
        self.answered().elapsed().as_secs_f64()
    }
}

fn relay(mut client: TcpStream, answered: &Mutex<Instant>) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, 8080))?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = server.read(&mut buffer)?;
        if read == 0 {
            return client.shutdown(Shutdown::Write);
        }
        client.write_all(&buffer[..read])?;
        if read > NOTHING_NEW {
            *answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}
