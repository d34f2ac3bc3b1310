//! The package that `cargo xtask package` made, and systems to install it on.
#![expect(
    clippy::unwrap_used,
    reason = "a fixture that panics is a test that fails"
)]

use std::{
    collections::HashSet,
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::netns::{BPFFS, End, Finished, Host, SCRATCH, join, sandbox};

/// The config file on a [`System`].
pub const CONFIG: &str = "etc/sipguard/sipguard.toml";
/// Guards `eth0`'s port 5060 from everybody but 203.0.113.0/24.
pub const POLICY: &str = "interfaces = [\"eth0\"]\n[sources]\nus = [\"203.0.113.0/24\"]\n\
                      [services.sip]\nudp = [5060]\nallow = [\"us\"]\n";

/// `target/package`, as the tests' own programs are somewhere in `target`.
#[must_use]
pub fn folder() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.ancestors()
        .map(|folder| folder.join("package"))
        .find(|folder| folder.join("SHA256SUMS").is_file())
        .expect("there is a package to test; `cargo xtask package` makes it")
}

/// The packages' names; the second one needs the first.
pub const PACKAGES: [&str; 2] = ["sipguard", "sipguard-fetch"];

/// The Debian package of this name.
#[must_use]
pub fn deb(name: &str) -> PathBuf {
    file(name, ".deb")
}

/// Both of them, for systems without dpkg.
#[must_use]
pub fn tarball() -> PathBuf {
    file("sipguard", ".tar.gz")
}

fn file(name: &str, extension: &str) -> PathBuf {
    let found: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let file = path.file_name().unwrap().to_str().unwrap();
            file.split('_').next() == Some(name) && file.ends_with(extension)
        })
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

/// Runs a program, which must succeed, and returns what it prints.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Paths here are plain.
#[must_use]
pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A copy of this system that can be written to, in a sandbox's mount namespace, with its bpffs: where a package is really installed.
#[derive(Debug)]
pub struct System<'a> {
    /// Whose network it has.
    pub host: &'a Host,
    /// Its top folder.
    pub root: PathBuf,
    /// What it has and the machine has not.
    upper: PathBuf,
}

impl<'a> System<'a> {
    /// One that is called so in this sandbox.
    #[must_use]
    pub fn new(host: &'a Host, name: &str) -> Self {
        let folder = Path::new(SCRATCH).join(name);
        let [upper, work, root] = ["upper", "work", "root"].map(|name| folder.join(name));
        for folder in [&upper, &work, &root] {
            fs::create_dir_all(folder).unwrap();
        }
        let layers = format!(
            "lowerdir=/,upperdir={},workdir={}",
            path(&upper),
            path(&work)
        );
        run(
            "mount",
            &["-t", "overlay", "overlay", "-o", &layers, path(&root)],
        );
        for folder in ["/proc", "/sys", "/dev"] {
            let inside = format!("{}{folder}", path(&root));
            run("mount", &["--rbind", folder, &inside]);
        }
        hide_undeclared(&root, &env::var_os("PATH").unwrap());
        // The copy has no systemd running, wherever this runs.
        run("mount", &["-t", "tmpfs", "tmpfs", path(&root.join("run"))]);
        let _ = fs::remove_file(root.join("etc/resolv.conf"));
        for name in PACKAGES {
            fs::copy(deb(name), root.join(format!("{name}.deb"))).unwrap();
        }
        Self { host, root, upper }
    }

    /// Without triggers, which look through all manual pages of the system.
    pub fn dpkg(&self, words: &str) -> Finished {
        self.run(&format!("dpkg --no-triggers {words}"))
    }

    /// Runs a command on it.
    pub fn run(&self, words: &str) -> Finished {
        let mut chroot = Command::new("chroot");
        chroot
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg(&self.root)
            .args(words.split_whitespace());
        self.host.run(&mut chroot)
    }

    /// Writes a file; the path has no slash at its beginning.
    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path), text).unwrap();
    }

    /// Boots it with its own systemd, as far as sipguard's service needs, runs a script there, and returns what the script printed.
    #[must_use]
    pub fn boot(&self, script: &str) -> String {
        let cgroup = Cgroup::new();
        self.write("script.sh", script);
        self.write(
            "etc/systemd/system/probe.service",
            "[Unit]\nDefaultDependencies=no\nWants=sipguard.service network-pre.target\nAfter=sipguard.service\n\
             [Service]\nType=oneshot\n\
             ExecStart=/bin/sh -c 'sh /script.sh > /printed 2>&1; systemctl --force --force poweroff'\n",
        );
        let boot = format!(
            "set -e\ncd {root}\nmount -t proc proc proc\nmount -o bind,ro /proc/sys proc/sys\n\
             mount -t sysfs sysfs sys\nmount --bind {BPFFS} sys/fs/bpf\nmount -t cgroup2 cgroup2 sys/fs/cgroup\n\
             mount -t tmpfs tmpfs run\nmount -t tmpfs tmpfs tmp\n\
             exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test chroot . /lib/systemd/systemd \
             --unit=probe.service --show-status=no --log-target=null\n",
            root = path(&self.root)
        );
        let enter = format!(
            "echo $$ > {}/cgroup.procs\n\
             exec unshare --pid --fork --kill-child --mount --cgroup --uts --ipc sh -c \"$0\"",
            path(&cgroup.folder)
        );
        // A machine that was powered off has no exit code worth reading.
        let ended = self
            .host
            .run(Command::new("sh").args(["-ec", &enter, &boot]));
        fs::read_to_string(self.root.join("printed"))
            .unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }

    /// The XDP program on the interface.
    #[must_use]
    pub fn program(&self) -> Option<String> {
        let shown = self.host.ip("-details link show eth0").stdout;
        let (_, rest) = shown.split_once("prog/xdp id ")?;
        rest.split_whitespace().next().map(str::to_owned)
    }

    /// Everything of ours, but for dpkg's own records of what it did.
    #[must_use]
    pub fn traces(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.upper.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let path = entry.path();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    folders.push(path.clone());
                }
                let named = path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().contains("sipguard"));
                // What was there before and is gone is a device in an overlay's upper layer.
                if named && (kind.is_file() || kind.is_dir() || kind.is_symlink()) {
                    found.push(path);
                }
            }
        }
        found
    }
}

/// Takes away from a copy of this system what is not on a `PATH`, the tests' own: only what is declared in xtask/src/setup/programs.rs is on every
/// machine, and in there neither sudo's own `PATH`, nor a shell that sshd starts, nor a whole path gets at more.
fn hide_undeclared(root: &Path, path: &OsStr) {
    let mut declared = HashSet::new();
    for folder in env::split_paths(path) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            // With all the names on the way to the program itself: `awk`, then `/etc/alternatives/awk`, then `mawk`.
            let mut next = Some(entry.unwrap().path());
            while let Some(file) = next {
                declared.insert(file.file_name().unwrap().to_owned());
                let target = fs::read_link(&file).ok();
                next = target.map(|target| file.parent().unwrap().join(target));
            }
        }
    }
    for folder in ["bin", "sbin", "games"]
        .map(|name| ["", "usr", "usr/local"].map(|it| root.join(it).join(name)))
        .as_flattened()
    {
        let own = fs::symlink_metadata(folder).is_ok_and(|it| it.is_dir());
        for entry in fs::read_dir(folder).into_iter().flatten().filter(|_| own) {
            let entry = entry.unwrap();
            if !declared.contains(&entry.file_name()) && !entry.file_type().unwrap().is_dir() {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

/// A system with `eth0` at 203.0.113.1, and a host at its other end with an address that [`POLICY`] lists and 198.51.100.7.
pub fn on_a_system(test: impl FnOnce(&System<'_>, &Host) + Send) {
    sandbox(|sandbox| {
        let (gateway, other) = (sandbox.host(), sandbox.host());
        let end = |host, address| End {
            host,
            interface: "eth0",
            addresses: address,
        };
        join(
            end(&gateway, &["203.0.113.1/24"]),
            end(&other, &["203.0.113.5/24"]),
        );
        // The config's list has the first of the other's addresses only.
        other.ip("address add 198.51.100.7/24 dev eth0");
        gateway.ip("route add 198.51.100.0/24 dev eth0");
        test(&System::new(&gateway, "system"), &other);
    });
}

/// What a booted system may call its own.
struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let all = Path::new(SCRATCH).join("cgroup");
        fs::create_dir(&all).unwrap();
        run("mount", &["-t", "cgroup2", "cgroup2", path(&all)]);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = all.join(format!("sipguard-test-{}-{number}", process::id()));
        fs::create_dir(&folder).unwrap();
        Self { folder }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel ends what is in there with the namespace's first process. Folders that stay are empty.
        let _ = Command::new("find")
            .arg(&self.folder)
            .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
            .status();
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_is_not_on_the_path_is_hidden_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let [root, path] = ["root", "path"].map(|name| folder.path().join(name));
        let programs = [
            "usr/bin/mawk",
            "usr/bin/ss",
            "usr/sbin/ss",
            "usr/local/bin/ip",
            "sbin/tc",
        ];
        for file in programs {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        fs::create_dir(&path).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        // By the name of an alternative, as Debian has them.
        symlink("mawk", root.join("usr/bin/awk")).unwrap();
        symlink(root.join("usr/bin/awk"), path.join("awk")).unwrap();
        symlink("/usr/sbin/ip", path.join("ip")).unwrap();
        hide_undeclared(&root, path.as_os_str());
        let left: BTreeSet<String> = ["usr/bin", "usr/sbin", "usr/local/bin", "sbin"]
            .iter()
            .flat_map(|name| fs::read_dir(root.join(name)).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(left, ["awk", "ip", "mawk"].map(str::to_owned).into());
    }
}
