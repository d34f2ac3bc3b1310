//! Gateways to deploy to: systems of their own, each with an sshd, a bpffs, a package database and processes that no other has; and
//! the host that deploys to them.
#![expect(
    clippy::unwrap_used,
    reason = "a fixture that panics is a test that fails"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    netns::{End, Finished, Host, Process, SCRATCH, join, sandbox, sipguard},
    package::{self, System, path, run},
};

/// A user who may use sudo without a password.
pub const OPERATOR: &str = "operator";
/// A user who may not use sudo.
pub const GUEST: &str = "guest";

/// A system with an sshd, whose `eth0` leads to the [`Deployer`].
#[derive(Debug)]
pub struct Gateway<'a> {
    /// What it runs on.
    pub system: System<'a>,
    /// What the deployer calls it.
    pub address: String,
    /// The same, IPv6.
    pub address6: String,
    sshd: Option<Process>,
}

/// Where `cargo xtask deploy` runs.
#[derive(Debug)]
pub struct Deployer<'a> {
    /// Its network.
    pub host: &'a Host,
    /// A folder for configs, and for the files below.
    pub folder: PathBuf,
}

/// Some gateways, and who deploys to them. The deployer's interface to each is `gw0`, `gw1`, …
pub fn on_gateways(count: u8, test: impl FnOnce(&Deployer<'_>, &mut [Gateway<'_>]) + Send) {
    sandbox(|sandbox| {
        let folder = Path::new(SCRATCH).join("deployer");
        fs::create_dir_all(&folder).unwrap();
        hide_own_settings();
        for key in ["key", "other-key"] {
            new_key(&folder.join(key));
        }
        let deployer = sandbox.host();
        let hosts: Vec<_> = (0..count).map(|_| sandbox.host()).collect();
        let mut gateways: Vec<_> = hosts
            .iter()
            .zip(0_u8..)
            .map(|(host, number)| Gateway::new(host, &deployer, number, &folder))
            .collect();
        let deployer = Deployer {
            host: &deployer,
            folder,
        };
        deployer.know(&gateways);
        for gateway in &mut gateways {
            gateway.start(&[]);
        }
        test(&deployer, &mut gateways);
    });
}

/// What a developer's own ssh is told is no part of a test.
fn hide_own_settings() {
    let home = std::env::home_dir().unwrap().join(".ssh");
    if home.is_dir() {
        run("mount", &["-t", "tmpfs", "tmpfs", path(&home)]);
    }
}

fn new_key(file: &Path) {
    let file = path(file);
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", file]);
}

impl<'a> Gateway<'a> {
    fn new(host: &'a Host, deployer: &Host, number: u8, folder: &Path) -> Self {
        let address = format!("192.0.2.{}", number * 4 + 1);
        let address6 = format!("2001:db8:{number}::1");
        join(
            End {
                host,
                interface: "eth0",
                addresses: &[&format!("{address}/30"), &format!("{address6}/64")],
            },
            End {
                host: deployer,
                interface: &format!("gw{number}"),
                addresses: &[
                    &format!("192.0.2.{}/30", number * 4 + 2),
                    &format!("2001:db8:{number}::2/64"),
                ],
            },
        );
        let system = System::new(host, &format!("gateway{number}"));
        // Otherwise all gateways' pins would be in one.
        run(
            "mount",
            &["-t", "bpf", "bpf", path(&system.root.join("sys/fs/bpf"))],
        );
        fs::remove_file(system.root.join("sipguard.deb")).unwrap();
        install_sshd(&system, &folder.join("key.pub"));
        Self {
            system,
            address,
            address6,
            sshd: None,
        }
    }

    /// Starts its sshd, with another program before it; from then on this is a machine with processes of its own.
    pub fn start(&mut self, with: &[&str]) {
        // Whatever sshd starts, and leaves behind, ends with its first process.
        let script = "mount -t proc proc \"$0\"/proc && exec \"$@\"";
        let root = path(&self.system.root);
        let mut sshd = Command::new("unshare");
        sshd.args(["--pid", "--fork", "--kill-child", "--mount"])
            .args(["sh", "-c", script, root])
            .args(with)
            .args(["chroot", root, "/usr/sbin/sshd", "-D", "-e"]);
        // The one before has to be gone: the port is its own.
        self.sshd = None;
        let sshd = self.system.host.spawn(&mut sshd);
        sshd.wait_for_error("Server listening on 0.0.0.0 port 22");
        self.sshd = Some(sshd);
    }

    /// Restarts the machine, as far as there is one: no process is left, and the kernel has forgotten what was pinned.
    pub fn restart(&mut self) {
        self.sshd = None;
        let bpffs = self.system.root.join("sys/fs/bpf");
        run("umount", &[path(&bpffs)]);
        run("mount", &["-t", "bpf", "bpf", path(&bpffs)]);
        self.start(&[]);
    }

    /// Cuts the cable, or mends it.
    pub fn cable(&self, state: &str) {
        self.system.host.ip(&format!("link set eth0 {state}"));
    }

    /// The text of a file; nothing where there is none.
    #[must_use]
    pub fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.system.root.join(file)).ok()
    }

    /// Everything that a failed deployment must leave as it was.
    #[must_use]
    pub fn state(&self) -> String {
        let config = self.read(package::CONFIG);
        let version = self
            .system
            .run("dpkg-query --show --showformat=${db:Status-Abbrev}${Version} sipguard");
        let binary = self.system.run("sha256sum /usr/bin/sipguard").stdout;
        let leftovers = self
            .system
            .run("find /var/lib /etc/sipguard -maxdepth 1 -name *deploy*")
            .stdout;
        let services = self.system.run("sipguard status --json");
        let services = services
            .stdout
            .split_once("\"services\":")
            .map(|(_, rest)| rest.to_owned());
        format!(
            "config {config:?}\npackage {:?}\nbinary {binary:?}\nfiltered {}\npolicy {services:?}\nleft {leftovers:?}",
            version.stdout,
            self.system.program().is_some(),
        )
    }
}

/// sshd, sudo and users: from packages that were fetched, for a machine need not have them.
fn install_sshd(system: &System<'_>, key: &Path) {
    let root = path(&system.root);
    let packages = package::folder().with_file_name("tools/sshd");
    for entry in fs::read_dir(&packages).expect("`cargo xtask setup` has fetched sshd") {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|it| it == "deb") {
            // `/lib` is a link, and has to stay one.
            let unpack =
                "dpkg-deb --fsys-tarfile \"$0\" | tar -xf - --keep-directory-symlink -C \"$1\"";
            run("sh", &["-ec", unpack, path(&file), root]);
        }
    }
    let users = [("sshd", 65501), (OPERATOR, 65502), (GUEST, 65503)];
    let mut passwd = fs::read_to_string(system.root.join("etc/passwd")).unwrap();
    passwd = passwd
        .lines()
        .filter(|line| {
            users
                .iter()
                .all(|(name, _)| !line.starts_with(&format!("{name}:")))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let mut shadow = "root:*:1::::::\n".to_owned();
    for (name, number) in users {
        passwd += &format!("{name}:x:{number}:{number}::/:/bin/sh\n");
        shadow += &format!("{name}:*:1::::::\n");
    }
    system.write("etc/passwd", &passwd);
    system.write("etc/shadow", &shadow);
    system.write(
        "etc/sudoers",
        &format!("{OPERATOR} ALL=(ALL) NOPASSWD: ALL\n"),
    );
    let sudoers = fs::Permissions::from_mode(0o440);
    fs::set_permissions(system.root.join("etc/sudoers"), sudoers).unwrap();

    for folder in ["run/sshd", "etc/ssh"] {
        fs::create_dir_all(system.root.join(folder)).unwrap();
    }
    new_key(&system.root.join("etc/ssh/host_key"));
    fs::copy(key, system.root.join("etc/ssh/authorized_keys")).unwrap();
    system.write(
        "etc/ssh/sshd_config",
        "HostKey /etc/ssh/host_key\nAuthorizedKeysFile /etc/ssh/authorized_keys\nPermitRootLogin prohibit-password\n\
         PasswordAuthentication no\nUsePAM no\nUseDNS no\nStrictModes no\n",
    );
}

impl Deployer<'_> {
    /// Writes down whose keys the gateways' are.
    pub fn know(&self, gateways: &[Gateway<'_>]) {
        let known: String = gateways
            .iter()
            .map(|gateway| {
                let key = gateway.read("etc/ssh/host_key.pub").unwrap();
                format!("{},{} {key}", gateway.address, gateway.address6)
            })
            .collect();
        self.write("known_hosts", &known);
    }

    /// Writes a file in its folder.
    pub fn write(&self, name: &str, text: &str) {
        let file = self.folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// `cargo xtask` with these words, run in its folder, with the key that the gateways let in and the package of `cargo xtask package`.
    #[must_use]
    pub fn xtask(&self, words: &str) -> Command {
        let mut xtask = Command::new(sipguard().with_file_name("xtask"));
        xtask
            .current_dir(&self.folder)
            .args(words.split_whitespace());
        if !words.contains("--identity") {
            xtask.args(["--identity", "key"]);
        }
        if !words.contains("--known-hosts") {
            xtask.args(["--known-hosts", "known_hosts"]);
        }
        if words.starts_with("deploy") && !words.contains("--package") {
            xtask.arg("--package").arg(package::folder());
        }
        xtask
    }

    /// Runs it to its end.
    pub fn run(&self, words: &str) -> Finished {
        self.host.run(&mut self.xtask(words))
    }
}

/// The package as another version of it, in a folder like `target/package`.
#[must_use]
pub fn other_version(folder: &Path, version: &str) -> PathBuf {
    let made = folder.join(version);
    let name = format!("sipguard_{version}_amd64");
    let [tree, plain] = ["tree", &name].map(|name| made.join(name));
    fs::create_dir_all(&made).unwrap();
    run(
        "dpkg-deb",
        &["--raw-extract", path(&package::file(".deb")), path(&tree)],
    );
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let text: String = text
        .lines()
        .map(|line| match line.strip_prefix("Version: ") {
            Some(_) => format!("Version: {version}\n"),
            None => format!("{line}\n"),
        })
        .collect();
    fs::write(control, text).unwrap();
    // A program does not mind what comes after it.
    let program = tree.join("usr/bin/sipguard");
    let mut bytes = fs::read(&program).unwrap();
    bytes.extend(version.bytes());
    fs::write(&program, bytes).unwrap();
    let deb = made.join(format!("{name}.deb"));
    run("dpkg-deb", &["-Znone", "--build", path(&tree), path(&deb)]);
    fs::remove_dir_all(tree.join("DEBIAN")).unwrap();
    fs::rename(&tree, &plain).unwrap();
    let tarball = format!("{}.tar.gz", path(&plain));
    run("tar", &["-czf", &tarball, "-C", path(&made), &name]);
    fs::remove_dir_all(&plain).unwrap();
    let sums = run(
        "sh",
        &["-ec", "cd \"$0\"; sha256sum *.deb *.tar.gz", path(&made)],
    );
    fs::write(made.join("SHA256SUMS"), sums).unwrap();
    made
}
