//! Real etcd servers, in the versions that clusters have.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::netns::{Finished, Host, Process, until};

/// Debian's releases with etcd 3.4 and 3.5.
pub const RELEASES: [&str; 2] = ["bookworm", "trixie"];

/// Where it would speak with others of its cluster.
const PEER: &str = "http://127.0.0.1:2380";

/// A cluster of one server, on a host that has no other one.
#[derive(Debug)]
pub struct Etcd {
    host: Host,
    programs: PathBuf,
    folder: PathBuf,
    address: &'static str,
}

impl Etcd {
    /// In a folder in which it has a certificate for its address ([`crate::certificates::certify`]), and keeps what it has to keep.
    #[must_use]
    pub fn new(release: &str, host: Host, folder: &Path, address: &'static str) -> Self {
        Self {
            host,
            programs: programs(release),
            folder: folder.to_owned(),
            address,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://{}:2379", self.address)
    }

    /// Starts it, and waits until it answers.
    #[must_use]
    pub fn start(&self, options: &[&str]) -> Process {
        let folder = self.folder.display();
        let endpoint = self.endpoint();
        let mut command = Command::new(self.programs.join("etcd"));
        command
            .arg(format!("--data-dir={folder}/data"))
            .arg(format!("--cert-file={folder}/server.pem"))
            .arg(format!("--key-file={folder}/server.key"))
            .arg(format!("--listen-client-urls={endpoint}"))
            .arg(format!("--advertise-client-urls={endpoint}"))
            .arg(format!("--listen-peer-urls={PEER}"))
            .arg(format!("--initial-advertise-peer-urls={PEER}"))
            .arg(format!("--initial-cluster=default={PEER}"))
            // What it keeps is no longer needed than the test runs.
            .arg("--unsafe-no-fsync")
            .args(options);
        let server = self.host.spawn(&mut command);
        until("etcd answers", || {
            self.host
                .run(&mut self.command("endpoint health"))
                .status
                .success()
        });
        server
    }

    /// Runs etcdctl with these words.
    pub fn ctl(&self, words: &str) -> Finished {
        self.host.run(&mut self.command(words)).succeeded()
    }

    /// Puts a value to a key; returns when the cluster has it.
    pub fn put(&self, key: &str, value: &str) {
        self.put_as("", key, value);
    }

    /// Puts it as somebody who logs in, `NAME:PASSWORD`.
    pub fn put_as(&self, user: &str, key: &str, value: &str) {
        if value.is_empty() {
            // It would not be read from a file.
            let mut command = self.command(&format!("--user={user} put {key}"));
            self.host.run(command.arg("")).succeeded();
            return;
        }
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(value.as_bytes()).expect("room for it");
        let put = self.command(&format!("--user={user} put {key}"));
        // An argument may not be as long as a value.
        let mut command = Command::new("sh");
        command
            .envs(
                put.get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .args(["-c", "file=$1; shift; exec \"$@\" < \"$file\"", "sh"])
            .arg(file.path())
            .arg(put.get_program())
            .args(put.get_args());
        self.host.run(&mut command).succeeded();
    }

    /// Replaces what it keeps by a copy that etcdctl saved; it is not to run.
    pub fn restore(&self, copy: &Path) {
        let data = self.folder.join("data");
        fs::remove_dir_all(&data).expect("it was started");
        let (copy, data) = (copy.display(), data.display());
        self.ctl(&format!(
            "snapshot restore {copy} --data-dir={data} --initial-advertise-peer-urls={PEER} --initial-cluster=default={PEER}"
        ));
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(self.programs.join("etcdctl"));
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.endpoint()))
            .arg(format!("--cacert={}", self.folder.join("ca.pem").display()))
            .args(words.split_whitespace());
        command
    }
}

/// `target/tools/etcd/RELEASE`, as the tests' own programs are somewhere in `target`.
fn programs(release: &str) -> PathBuf {
    let test = env::current_exe().expect("a running test has a path");
    test.ancestors()
        .map(|folder| folder.join("tools/etcd").join(release).join("usr/bin"))
        .find(|folder| folder.is_dir())
        .expect("`cargo xtask setup` fetches etcd")
}
