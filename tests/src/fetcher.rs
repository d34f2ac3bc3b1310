//! The fetcher on a gateway of a test, from what sipguard asks for to what sipguard takes.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use jiff::Timestamp;
use sipguard::sources::{Accept, Circumstances, Copies, NewCopy, take};
use sipguard_lists::{
    found::{Entry, Head, Reader, file_name},
    task::{Task, Tasks, Url, Widest},
};

use crate::netns::{End, Finished, Host, Process, SCRATCH, STATE, Sandbox, join, sipguard_fetch};

/// The one source that tests have.
pub const SOURCE: &str = "live";

/// Where the host is that the gateway asks.
pub const SERVER: &str = "192.0.2.53";

/// A gateway, and a host that it asks.
#[must_use]
pub fn gateway_and_server(sandbox: &Sandbox) -> (Host, Host) {
    let (gateway, server) = (sandbox.host(), sandbox.host());
    let end = |host, addresses| End {
        host,
        interface: "eth0",
        addresses,
    };
    join(
        end(&gateway, &["192.0.2.1/24"]),
        end(&server, &["192.0.2.53/24"]),
    );
    (gateway, server)
}

/// A list of the server's, over TLS with the certificate in this folder.
#[must_use]
pub fn list(name: &str, certificates: &Path) -> Url {
    Url {
        url: format!("https://{SERVER}/{name}.txt"),
        every: Url::EVERY,
        insecure: false,
        ca_file: Some(certificates.join("ca.pem")),
        path: None,
        tolerate: 0,
        widest: Widest::default(),
    }
}

/// The fetcher's folder, in a sandbox.
#[derive(Debug)]
pub struct Fetcher {
    folder: PathBuf,
}

impl Fetcher {
    /// With nothing found yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        let folder = Path::new(SCRATCH).join("sipguard-fetch");
        fs::create_dir(&folder).expect("a sandbox has an empty folder for it");
        Self { folder }
    }

    /// Where it writes.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join(file_name(SOURCE))
    }

    /// Says what is to be asked for, as `apply` does.
    pub fn order(&self, tasks: &Tasks) {
        tasks
            .write(Path::new(STATE), None)
            .expect("a sandbox has a state folder");
    }

    /// Asks once.
    pub fn run(&self, gateway: &Host, tasks: &Tasks) -> Finished {
        self.order(tasks);
        gateway.run(&mut Command::new(sipguard_fetch()))
    }

    /// Asks again and again.
    #[must_use]
    pub fn service(&self, gateway: &Host) -> Process {
        gateway.spawn(Command::new(sipguard_fetch()).arg("--loop"))
    }

    /// What sipguard takes of it; a list may be another one than before.
    #[must_use]
    pub fn taken(&self, task: &Task) -> Vec<Entry> {
        let circumstances = Circumstances {
            now: Timestamp::now(),
            own: &[],
        };
        let copies = Copies::at(Path::new(STATE).join("sources"));
        let outcome = take(&self.folder, &copies, task, Accept::Any, circumstances);
        let outcome = outcome.unwrap_or_else(|error| panic!("{error}"));
        let copy = outcome.map(|taken| taken.copy.expect("there is room for a copy"));
        copy.map(NewCopy::keep)
            .transpose()
            .expect("there is room for a copy");
        let mut taken = Vec::new();
        let read = copies.read(task, circumstances, |entry| taken.push(entry));
        read.expect("it is a copy");
        taken
    }

    /// What it says of the last question.
    #[must_use]
    pub fn head(&self) -> Head {
        let file = File::open(self.file()).expect("it was asked");
        Reader::new(file).expect("it is whole").head().clone()
    }

    /// How many files there are in its folder.
    #[must_use]
    pub fn files(&self) -> usize {
        fs::read_dir(&self.folder).expect("it is there").count()
    }
}

/// What the kernel says of a process's memory, in kilobytes: `VmRSS` is what it has, `VmHWM` the most that it had.
#[must_use]
pub fn memory(process: &Process, what: &str) -> u64 {
    let pid = process.pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kilobytes = line.and_then(|line| line.strip_prefix(':')?.trim().strip_suffix(" kB"));
    let kilobytes = kilobytes.and_then(|text| text.parse().ok());
    kilobytes.expect("the kernel says so")
}
