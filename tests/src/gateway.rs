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
    package::{self, PACKAGES, System, path, run},
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
        let name = format!("gateway{number}");
        let disk = Path::new(SCRATCH).join(&name);
        fs::create_dir(&disk).unwrap();
        run(
            "mount",
            &["-t", "tmpfs", "-o", "size=256m", "disk", path(&disk)],
        );
        let system = System::new(host, &name);
        // Otherwise all gateways' pins would be in one.
        run(
            "mount",
            &["-t", "bpf", "bpf", path(&system.root.join("sys/fs/bpf"))],
        );
        for name in PACKAGES {
            fs::remove_file(system.root.join(format!("{name}.deb"))).unwrap();
        }
        // Whatever the machine has.
        for folder in ["etc/sipguard", "var/lib/sipguard", "var/lib/sipguard-fetch"] {
            let _ = fs::remove_dir_all(system.root.join(folder));
        }
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

    /// Installs `cargo xtask package`'s packages by hand and puts a policy in force.
    pub fn install(&self, policy: &str) {
        let files = PACKAGES.map(|name| format!("by-hand-{name}.deb"));
        for (name, file) in PACKAGES.iter().zip(&files) {
            fs::copy(package::deb(name), self.system.root.join(file)).unwrap();
        }
        let [first, second] = &files;
        self.system
            .run(&format!("dpkg --install /{first} /{second}"))
            .succeeded();
        for file in files {
            fs::remove_file(self.system.root.join(file)).unwrap();
        }
        self.system.write(package::CONFIG, policy);
        self.system.run("sipguard apply").succeeded();
    }

    /// Leaves some MiB free on its disk.
    pub fn fill_disk(&self) {
        let file = self.system.root.join("filled");
        let file = fs::File::create(file).unwrap();
        let room = rustix::fs::fstatvfs(&file).unwrap();
        let bytes = room.f_bavail * room.f_frsize;
        let filled = bytes.saturating_sub(8 << 20);
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, filled).unwrap();
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

    /// Whether anything of a deployment goes on there, or is left.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        let folders = fs::read_dir(self.system.root.join("var/lib")).unwrap();
        let left = folders.into_iter().any(|entry| {
            let name = entry.unwrap().file_name();
            name.to_string_lossy().starts_with("sipguard-deploy")
        });
        left || self.runs("transaction.sh")
    }

    /// Whether a step of a deployment goes on there, and not only what watches over it.
    #[must_use]
    pub fn is_in_a_step(&self) -> bool {
        ["begin", "install", "apply"]
            .iter()
            .any(|step| self.runs(&format!(" {step}")))
    }

    /// Whether one of its processes has this in its command line.
    fn runs(&self, text: &str) -> bool {
        // Its first process is the only child of the one that has made its namespace.
        let parent = self.sshd.as_ref().unwrap().pid();
        let first = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(first.trim());
        fs::read_dir("/proc").unwrap().any(|entry| {
            let pid = entry.unwrap().file_name();
            let pid = pid.to_string_lossy();
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.replace('\0', " ").contains(text) && namespace(&pid) == own
        })
    }

    /// What there is of sipguard, with its pins and its user.
    #[must_use]
    pub fn traces(&self) -> Vec<PathBuf> {
        let mut found = self.system.traces();
        let pins = self.system.root.join("sys/fs/bpf/sipguard");
        if pins.exists() {
            found.push(pins);
        }
        let users = ["etc/passwd", "etc/group"].map(|file| self.system.root.join(file));
        found.extend(users.into_iter().filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            text.contains("sipguard")
        }));
        found
    }

    /// Everything that a failed deployment must leave as it was.
    #[must_use]
    pub fn state(&self) -> String {
        let config = self.read(package::CONFIG);
        let version = self
            .system
            .run("dpkg-query --show --showformat=${db:Status-Abbrev}${Version}\\n sipguard sipguard-fetch");
        let binary = self.system.run("sha256sum /usr/bin/sipguard").stdout;
        let leftovers = self
            .system
            .run("find /var/lib /etc/sipguard -maxdepth 1 -name *deploy*")
            .stdout;
        let services = self.system.run("sipguard status --json");
        let services = services
            .stdout
            .split_once("\"services\":")
            .map(|(_, rest)| {
                // Time goes on.
                rest.split_once("\"until\"")
                    .map_or(rest, |(first, _)| first)
                    .to_owned()
            });
        format!(
            "config {config:?}\npackage {:?}\nbinary {binary:?}\nfiltered {}\npolicy {}\nleft {leftovers:?}",
            version.stdout,
            self.system.program().is_some(),
            services.unwrap_or_default().trim_end(),
        )
    }
}

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nsshd:x:65501:65501::/:/bin/false\n\
                      operator:x:65502:65502::/:/bin/sh\nguest:x:65503:65503::/:/bin/sh\n";
const SHADOW: &str = "root:*:1::::::\nsshd:*:1::::::\noperator:*:1::::::\nguest:*:1::::::\n";

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
    // A machine that has them is not sent them.
    for program in ["usr/sbin/sshd", "usr/bin/sudo"] {
        if !system.root.join(program).exists() {
            fs::copy(Path::new("/").join(program), system.root.join(program)).unwrap();
        }
    }
    // Whoever comes first counts.
    let passwd = fs::read_to_string(system.root.join("etc/passwd")).unwrap();
    system.write("etc/passwd", &format!("{PASSWD}{passwd}"));
    system.write("etc/shadow", SHADOW);
    system.write(
        "etc/sudoers",
        &format!("{OPERATOR} ALL=(ALL) NOPASSWD: ALL\n"),
    );
    let sudoers = fs::Permissions::from_mode(0o440);
    fs::set_permissions(system.root.join("etc/sudoers"), sudoers).unwrap();

    // Triggers look through all manual pages of the system.
    system.write("etc/dpkg/dpkg.cfg.d/fast", "no-triggers\nforce-unsafe-io\n");
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
        let known: Vec<_> = gateways
            .iter()
            .map(|gateway| {
                let key = gateway.read("etc/ssh/host_key.pub").unwrap();
                format!("{},{} {key}", gateway.address, gateway.address6)
            })
            .collect();
        let known = known.concat();
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

/// The packages as another version of them, in a folder like `target/package`.
#[must_use]
pub fn other_version(folder: &Path, version: &str) -> PathBuf {
    let made = folder.join(version);
    let plain = made.join(format!("sipguard_{version}_amd64"));
    fs::create_dir_all(&plain).unwrap();
    for name in PACKAGES {
        let tree = made.join("tree");
        run(
            "dpkg-deb",
            &["--raw-extract", path(&package::deb(name)), path(&tree)],
        );
        let control = tree.join("DEBIAN/control");
        let text = fs::read_to_string(&control).unwrap();
        let (first, rest) = text.split_once("\nVersion: ").unwrap();
        let (old, rest) = rest.split_once('\n').unwrap();
        let rest = rest.replace(
            &format!("sipguard (= {old})"),
            &format!("sipguard (= {version})"),
        );
        fs::write(control, format!("{first}\nVersion: {version}\n{rest}")).unwrap();
        // A program does not mind what comes after it.
        let program = tree.join("usr/bin").join(name);
        let mut bytes = fs::read(&program).unwrap();
        bytes.extend(version.bytes());
        fs::write(&program, bytes).unwrap();
        let deb = made.join(format!("{name}_{version}_amd64.deb"));
        run("dpkg-deb", &["-Znone", "--build", path(&tree), path(&deb)]);
        fs::remove_dir_all(&tree).unwrap();
        run("dpkg-deb", &["--extract", path(&deb), path(&plain)]);
    }
    let tarball = format!("{}.tar.gz", path(&plain));
    let name = plain.file_name().unwrap().to_str().unwrap();
    run("tar", &["-czf", &tarball, "-C", path(&made), name]);
    fs::remove_dir_all(&plain).unwrap();
    let sums = run(
        "sh",
        &["-ec", "cd \"$0\"; sha256sum *.deb *.tar.gz", path(&made)],
    );
    fs::write(made.join("SHA256SUMS"), sums).unwrap();
    made
}
