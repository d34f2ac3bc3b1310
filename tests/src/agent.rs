//! An agent, and the journal that it writes to.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::mount::{MountFlags, mount};
use sipguard::agent::journal::SOCKET;

use crate::netns::{Host, Process, Sandbox, sipguard};

/// How long a test waits before it fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// An entry of the journal: each field by its name.
pub type Entry = BTreeMap<String, String>;

/// What journald would have got.
pub struct Journal {
    socket: UnixDatagram,
    /// All entries so far.
    pub entries: Vec<Entry>,
}

impl Journal {
    /// Begins to listen in a sandbox, whose `/run` is its own from now on.
    #[must_use]
    pub fn listen(_: &Sandbox) -> Self {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", "/run", "tmpfs", flags, None).expect("tmpfs can be mounted");
        let path = Path::new(SOCKET);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is ours");
        let socket = UnixDatagram::bind(path).expect("nobody listens there");
        let moment = Some(Duration::from_millis(100));
        socket.set_read_timeout(moment).expect("an option");
        Self {
            socket,
            entries: Vec::new(),
        }
    }

    /// Reads what has come.
    pub fn read(&mut self) {
        let mut buffer = vec![0; 65_536];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8(buffer[..length].to_vec()).expect("text");
            let fields = text.lines().map(|line| {
                let (name, value) = line.split_once('=').expect("a field");
                (name.to_owned(), value.to_owned())
            });
            self.entries.push(fields.collect());
        }
    }

    /// Those of one kind.
    #[must_use]
    pub fn of(&self, kind: &str) -> Vec<&Entry> {
        let is_of = |entry: &&Entry| entry["SIPGUARD_HAPPENED"] == kind;
        self.entries.iter().filter(is_of).collect()
    }

    /// Waits for an entry of this kind, the one of this number (from 0 on).
    pub fn wait_for(&mut self, kind: &str, number: usize) -> Entry {
        let begin = Instant::now();
        loop {
            if let Some(entry) = self.of(kind).get(number) {
                return (*entry).clone();
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "no {kind} of number {number} among {:?}",
                self.entries
            );
            self.read();
        }
    }
}

/// A running agent, started as systemd would.
pub struct Agent {
    /// The process.
    pub process: Process,
    notified: mpsc::Receiver<String>,
}

impl Agent {
    /// Starts one on a host, and waits until it is ready.
    #[must_use]
    pub fn start(host: &Host) -> Self {
        Self::start_as(host, Self::command())
    }

    /// The same with a command of the caller's.
    #[must_use]
    pub fn start_as(host: &Host, mut command: Command) -> Self {
        let path = Path::new("/run/notify");
        let _ = fs::remove_file(path);
        let socket = UnixDatagram::bind(path).expect("nobody listens there");
        let (sender, notified) = mpsc::channel();
        // As systemd does, which never lets signs of life pile up.
        thread::spawn(move || {
            let mut buffer = [0; 256];
            while let Ok(length) = socket.recv(&mut buffer) {
                let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if sender.send(said).is_err() {
                    return;
                }
            }
        });
        command
            .env("NOTIFY_SOCKET", path)
            .env("WATCHDOG_USEC", "1000000");
        let agent = Self {
            process: host.spawn(&mut command),
            notified,
        };
        agent.says("READY=1");
        agent
    }

    /// The program, with the capabilities that the package's service has.
    #[must_use]
    pub fn command() -> Command {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--bounding-set=-all,+bpf,+net_admin,+perfmon",
                "--inh-caps=-all",
            ])
            .arg(sipguard())
            .arg("agent");
        command
    }

    /// Waits until it says this to systemd.
    pub fn says(&self, what: &str) {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            match self.notified.recv_timeout(PATIENCE) {
                Ok(said) if said == what => return,
                Ok(_) => {}
                Err(error) => panic!("{what}: {error}; {}", self.process.stderr()),
            }
        }
        panic!("it never says {what}");
    }
}
