//! CrowdSec's local API (LAPI) alone, Debian's: nothing is read, nothing is sent to anybody, and what is in force is what a test says.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::netns::{Finished, Host, Process};

/// Where it listens.
pub const URL: &str = "http://127.0.0.1:8080";
/// The keys of two bouncers.
pub const KEYS: [&str; 2] = ["0123456789abcdef", "fedcba9876543210"];

/// A LAPI on a host that has no other one.
#[derive(Debug)]
pub struct CrowdSec {
    folder: PathBuf,
}

impl CrowdSec {
    /// In an empty folder, with no decisions yet.
    #[must_use]
    pub fn new(host: &Host, folder: &Path) -> Self {
        let at = folder.display();
        let config = format!(
            "common: {{daemonize: false, log_media: stdout, log_level: info, log_dir: {at}, working_dir: {at}}}\n\
             config_paths: {{config_dir: {at}, data_dir: {at}, simulation_path: {at}/simulation.yaml, hub_dir: {at}/hub,\n  \
             index_path: {at}/hub/.index.json, notification_dir: {at}/notifications, plugin_dir: {at}/plugins}}\n\
             crowdsec_service: {{acquisition_path: {at}/acquis.yaml, parser_routines: 1}}\n\
             cscli: {{output: human, color: no}}\n\
             db_config: {{log_level: info, type: sqlite, db_path: {at}/crowdsec.db, use_wal: true, flush: {{max_items: 500000, max_age: 7d}}}}\n\
             api:\n  client: {{insecure_skip_verify: false, credentials_path: {at}/client.yaml}}\n  \
             server: {{log_level: info, listen_uri: '127.0.0.1:8080', profiles_path: {at}/profiles.yaml}}\n\
             prometheus: {{enabled: false}}\n"
        );
        let profile = "name: all\nfilters: [Alert.Remediation == true]\ndecisions: [{type: ban, duration: 4h}]\non_success: break\n";
        for below in ["hub", "notifications", "plugins"] {
            fs::create_dir(folder.join(below)).expect("it is empty");
        }
        for (file, text) in [
            ("config.yaml", &*config),
            ("profiles.yaml", profile),
            ("simulation.yaml", "simulation: off\n"),
            ("client.yaml", &format!("url: {URL}\n")),
        ] {
            fs::write(folder.join(file), text).expect("it is ours");
        }
        let new = Self {
            folder: folder.to_owned(),
        };
        new.cscli(
            host,
            &format!("machines add test --password secret --force -f {at}/client.yaml"),
        );
        for (name, key) in ["sipguard", "other"].into_iter().zip(KEYS) {
            new.cscli(host, &format!("bouncers add {name} -k {key}"));
        }
        new
    }

    /// Runs cscli with these words.
    pub fn cscli(&self, host: &Host, words: &str) -> Finished {
        let mut command = self.program("cscli");
        host.run(command.args(words.split_whitespace())).succeeded()
    }

    /// Adds decisions, as lines `value,duration,reason`.
    pub fn import(&self, host: &Host, lines: &str) {
        let file = self.folder.join("list.csv");
        fs::write(&file, format!("value,duration,reason\n{lines}")).expect("it is ours");
        self.cscli(host, &format!("decisions import -i {}", file.display()));
    }

    /// Starts it, and waits until it answers.
    #[must_use]
    pub fn start(&self, host: &Host) -> Process {
        let mut command = self.program("crowdsec");
        let started = host.spawn(command.args(["-no-cs", "-no-capi"]));
        host.wait_until_bound("tcp", 8080);
        started
    }

    fn program(&self, name: &str) -> Command {
        let test = env::current_exe().expect("a running program has a path");
        let mut folders = test.ancestors().map(|it| it.join("tools/crowdsec"));
        let folder = folders.find(|folder| folder.is_dir());
        let folder = folder.expect("`cargo xtask setup` unpacks it");
        let unpacked = folder.join("usr/bin").join(name);
        // A machine that has it needs no other one.
        let installed = Path::new("/usr/bin").join(name);
        let program = if unpacked.is_file() {
            unpacked
        } else {
            installed
        };
        let mut command = Command::new(program);
        // What it needs and the machine has not.
        let library = folder
            .join("usr/lib")
            .join(format!("{}-linux-gnu", env::consts::ARCH));
        command.env("LD_LIBRARY_PATH", library);
        command.arg("-c").arg(self.folder.join("config.yaml"));
        command
    }
}
