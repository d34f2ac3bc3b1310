//! What `cargo xtask package` made: what is in it, where it runs, and that installing, upgrading and removing it leaves no gap and
//! nothing behind.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{
    collections::BTreeSet,
    env, fs,
    net::UdpSocket,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use sipguard_tests::netns::{BPFFS, End, Finished, Host, SCRATCH, join, sandbox};

/// As `dpkg-deb --contents` shows them.
const FILES: &[(&str, &str)] = &[
    ("-rw-r--r--", "etc/sipguard/sipguard.toml"),
    ("-rwxr-xr-x", "usr/bin/sipguard"),
    ("-rw-r--r--", "usr/lib/sysctl.d/50-sipguard.conf"),
    ("-rw-r--r--", "usr/lib/systemd/system/sipguard.service"),
    (
        "-rw-r--r--",
        "usr/lib/systemd/system/sipguard-interface@.service",
    ),
    ("-rw-r--r--", "usr/lib/udev/rules.d/90-sipguard.rules"),
    (
        "-rw-r--r--",
        "usr/share/bash-completion/completions/sipguard",
    ),
    ("-rw-r--r--", "usr/share/doc/sipguard/changelog.gz"),
    ("-rw-r--r--", "usr/share/doc/sipguard/copyright"),
    (
        "-rw-r--r--",
        "usr/share/fish/vendor_completions.d/sipguard.fish",
    ),
    ("-rw-r--r--", "usr/share/lintian/overrides/sipguard"),
    ("-rw-r--r--", "usr/share/man/man1/sipguard.1.gz"),
    ("-rw-r--r--", "usr/share/man/man1/sipguard-apply.1.gz"),
    ("-rw-r--r--", "usr/share/zsh/vendor-completions/_sipguard"),
];

const LARGEST: u64 = 8_000_000;

/// What the oldest system has that we promise to run on (Debian 11).
const GLIBC: (u32, u32) = (2, 31);

/// `target/package`, as the tests' own programs are somewhere in `target`.
fn folder() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.ancestors()
        .map(|folder| folder.join("package"))
        .find(|folder| folder.join("SHA256SUMS").is_file())
        .expect("there is a package to test; `cargo xtask package` makes it")
}

fn file(extension: &str) -> PathBuf {
    let found: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(extension))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

fn run(program: &str, arguments: &[&str]) -> String {
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

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The package's files in a folder that is gone with the value.
fn unpacked() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    run(
        "dpkg-deb",
        &["--extract", path(&file(".deb")), path(root.path())],
    );
    root
}

#[test]
fn the_package_holds_what_a_gateway_needs() {
    let listed = run("dpkg-deb", &["--contents", path(&file(".deb"))]);
    let found: BTreeSet<_> = listed
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            assert_eq!(words[1], "0/0", "{line}");
            (words[0], words[5].trim_start_matches("./"))
        })
        .collect();
    for wanted in FILES {
        assert!(found.contains(wanted), "{wanted:?} is not in\n{listed}");
    }
    let strays: Vec<_> = found
        .iter()
        .filter(|(mode, path)| {
            mode.starts_with('-')
                && !path.starts_with("usr/share/man/man1/sipguard-")
                && !FILES.iter().any(|(_, wanted)| wanted == path)
        })
        .collect();
    assert!(strays.is_empty(), "{strays:?}");
    assert_eq!(
        run("dpkg-deb", &["--info", path(&file(".deb")), "conffiles"]),
        "/etc/sipguard/sipguard.toml\n"
    );
}

#[test]
fn it_is_small() {
    for file in [file(".deb"), file(".tar.gz")] {
        let size = fs::metadata(&file).unwrap().len();
        assert!(size < LARGEST, "{}: {size} bytes", file.display());
    }
    let root = unpacked();
    let binary = root.path().join("usr/bin/sipguard");
    let size = fs::metadata(&binary).unwrap().len();
    assert!(size < LARGEST, "{}: {size} bytes", binary.display());
}

#[test]
fn checksums_and_tarball_agree() {
    let folder = folder();
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(String::from_utf8_lossy(&checked.stdout).lines().count(), 2);
    let root = unpacked();
    let tarball = tempfile::tempdir().unwrap();
    run(
        "tar",
        &[
            "--extract",
            "--file",
            path(&file(".tar.gz")),
            "--strip-components=1",
            "--directory",
            path(tarball.path()),
        ],
    );
    fs::remove_dir_all(root.path().join("usr/share/lintian")).unwrap();
    run(
        "diff",
        &["--recursive", path(root.path()), path(tarball.path())],
    );
}

#[test]
fn it_runs_on_the_oldest_system_that_is_promised() {
    let root = unpacked();
    let binary = root.path().join("usr/bin/sipguard");
    let symbols = run("readelf", &["--dyn-syms", "--wide", path(&binary)]);
    let newest = symbols
        .split("GLIBC_")
        .skip(1)
        .filter_map(|rest| {
            let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
            let (major, minor) = rest[..end.unwrap_or(rest.len())].split_once('.')?;
            let minor = minor.split('.').next()?;
            Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
        })
        .max();
    assert!(newest.is_none_or(|newest| newest <= GLIBC), "{newest:?}");
    // Nor a loader, whose place differs.
    let segments = run("readelf", &["--program-headers", "--wide", path(&binary)]);
    assert!(!segments.contains("INTERP"), "{segments}");
    assert!(run(path(&binary), &["--version"]).starts_with("sipguard "));
}

#[test]
fn lintian_finds_no_error() {
    run(
        "lintian",
        &["--fail-on", "error", "--allow-root", path(&file(".deb"))],
    );
}

#[test]
fn completions_and_pages_are_the_commands() {
    let root = unpacked();
    let binary = root.path().join("usr/bin/sipguard");
    let completions = run(path(&binary), &["completions", "bash"]);
    let installed = root
        .path()
        .join("usr/share/bash-completion/completions/sipguard");
    assert_eq!(fs::read_to_string(installed).unwrap(), completions);
    assert!(
        root.path()
            .join("usr/share/man/man1/sipguard-check.1.gz")
            .exists()
    );
}

/// A copy of this system that can be written to, in a sandbox's mount namespace, with its bpffs: where a package is really installed.
struct System<'a> {
    host: &'a Host,
    root: PathBuf,
}

impl<'a> System<'a> {
    fn new(host: &'a Host) -> Self {
        let folder = Path::new(SCRATCH).join("system");
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
        // The copy has no systemd running, wherever this runs.
        run("mount", &["-t", "tmpfs", "tmpfs", path(&root.join("run"))]);
        let _ = fs::remove_file(root.join("etc/resolv.conf"));
        fs::copy(file(".deb"), root.join("sipguard.deb")).unwrap();
        Self { host, root }
    }

    /// Without triggers, which look through all manual pages of the system.
    fn dpkg(&self, words: &str) -> Finished {
        self.run(&format!("dpkg --no-triggers {words}"))
    }

    fn run(&self, words: &str) -> Finished {
        let mut chroot = Command::new("chroot");
        chroot
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg(&self.root)
            .args(words.split_whitespace());
        self.host.run(&mut chroot)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path), text).unwrap();
    }

    /// The XDP program on the interface.
    fn program(&self) -> Option<String> {
        let shown = self.host.ip("-details link show eth0").stdout;
        let (_, rest) = shown.split_once("prog/xdp id ")?;
        rest.split_whitespace().next().map(str::to_owned)
    }

    /// Everything of ours, but for dpkg's own records of what it did.
    fn traces() -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![Path::new(SCRATCH).join("system/upper")];
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

fn on_a_system(test: impl FnOnce(&System<'_>, &Host) + Send) {
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
        test(&System::new(&gateway), &other);
    });
}

const CONFIG: &str = "etc/sipguard/sipguard.toml";
const POLICY: &str = "interfaces = [\"eth0\"]\n[sources]\nus = [\"203.0.113.0/24\"]\n\
                      [services.sip]\nudp = [5060]\nallow = [\"us\"]\n";

#[test]
fn installing_upgrading_and_removing_are_boring() {
    on_a_system(|system, _| {
        let pins = Path::new(BPFFS).join("sipguard");
        system.dpkg("--install /sipguard.deb").succeeded();
        assert!(!pins.exists(), "installing put something in force");
        assert!(
            system
                .root
                .join("etc/systemd/system/sysinit.target.wants/sipguard.service")
                .is_symlink()
        );

        system.write(CONFIG, POLICY);
        system.run("sipguard apply").succeeded();
        let first = system.program().expect("filtered");

        // An upgrade puts what the config says now in force, with the program changed in its place.
        system.write(CONFIG, &POLICY.replace("5060", "5060, 5061"));
        system.dpkg("--install /sipguard.deb").succeeded();
        let second = system.program().expect("filtered");
        assert_ne!(first, second);
        assert!(
            system
                .run("sipguard status")
                .succeeded()
                .stdout
                .contains("5061")
        );

        // One with a config that is not right says so and leaves what there is.
        system.write(CONFIG, "interfaces = [");
        let upgraded = system.dpkg("--install /sipguard.deb").succeeded();
        assert!(
            upgraded
                .stderr
                .contains("what was in force before still is"),
            "{upgraded:?}"
        );
        assert_eq!(system.program().as_deref(), Some(second.as_str()));

        let removed = system.dpkg("--remove sipguard").succeeded();
        assert_eq!(system.program(), None, "{removed:?}");
        assert!(!pins.exists());
        assert!(
            system.root.join(CONFIG).exists(),
            "a config is kept until purge"
        );
        assert!(system.root.join("var/lib/sipguard").exists());

        system.dpkg("--purge sipguard").succeeded();
        let traces: Vec<_> = System::traces()
            .into_iter()
            .filter(|path| !path.ends_with("sipguard.deb"))
            .collect();
        assert!(traces.is_empty(), "{traces:?}");
    });
}

#[test]
fn no_packet_gets_through_an_upgrade() {
    on_a_system(|system, stranger| {
        system.dpkg("--install /sipguard.deb").succeeded();
        let server = system
            .host
            .enter(|| UdpSocket::bind("203.0.113.1:5060").unwrap());
        let client = stranger.enter(|| UdpSocket::bind("198.51.100.7:5060").unwrap());
        let patience = Some(Duration::from_secs(10));
        server.set_read_timeout(patience).unwrap();
        let send = |word: &[u8]| client.send_to(word, "203.0.113.1:5060").unwrap();
        // Otherwise silence would prove nothing.
        send(b"before");
        let mut word = [0; 16];
        let (length, _) = server.recv_from(&mut word).unwrap();
        assert_eq!(&word[..length], b"before");

        system.write(CONFIG, POLICY);
        system.run("sipguard apply").succeeded();
        let first = system.program();
        let upgrading = AtomicBool::new(true);
        let flood = thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                let mut packets = 0_u32;
                while upgrading.load(Ordering::Relaxed) {
                    send(b"during");
                    packets += 1;
                }
                packets
            });
            system.write(CONFIG, &POLICY.replace("5060", "5060, 5061"));
            system.dpkg("--install /sipguard.deb").succeeded();
            upgrading.store(false, Ordering::Relaxed);
            flooding.join().unwrap()
        });
        assert_ne!(system.program(), first);
        assert!(flood > 1000, "{flood}");
        system.run("sipguard down").succeeded();
        send(b"after");
        let (length, _) = server.recv_from(&mut word).unwrap();
        assert_eq!(&word[..length], b"after", "one of {flood} packets");
    });
}

#[test]
fn the_units_hold_together() {
    on_a_system(|system, _| {
        system.dpkg("--install /sipguard.deb").succeeded();
        let units = "/usr/lib/systemd/system";
        system
            .run(&format!(
                "systemd-analyze verify {units}/sipguard.service {units}/sipguard-interface@eth0.service"
            ))
            .succeeded();
        // Tenths: at most 3.0.
        system
            .run(&format!(
                "systemd-analyze security --offline=true --threshold=30 {units}/sipguard.service"
            ))
            .succeeded();
        let unit =
            fs::read_to_string(system.root.join(&units[1..]).join("sipguard.service")).unwrap();
        assert!(
            !unit.contains("\nExecStop"),
            "a stop must not detach:\n{unit}"
        );
    });
}

#[test]
fn an_interface_of_the_config_that_appears_is_filtered_again() {
    on_a_system(|system, _| {
        system.dpkg("--install /sipguard.deb").succeeded();
        // With the network namespace's own interfaces.
        system.write(
            "appears.sh",
            "mount -t sysfs sysfs /sys && udevadm test --action=add /sys/class/net/eth0 2>&1",
        );
        let wanted = "SYSTEMD_WANTS=sipguard-interface@eth0.service";
        let appears = || {
            system
                .run("unshare --mount sh /appears.sh")
                .succeeded()
                .stdout
        };
        system.write(CONFIG, POLICY);
        assert!(appears().contains(wanted), "{}", appears());
        system.write(CONFIG, &POLICY.replace("eth0", "eth01"));
        assert!(!appears().contains(wanted), "{}", appears());
    });
}

/// As systemd does it: mounts of its own that the host's reach but not the other way, everything read-only but for what the unit
/// names, and no capability but the unit's.
#[test]
fn with_the_units_hardening_the_filter_outlives_it() {
    on_a_system(|system, _| {
        system.dpkg("--install /sipguard.deb").succeeded();
        system.write(CONFIG, POLICY);
        let unit = system.root.join("usr/lib/systemd/system/sipguard.service");
        let unit = fs::read_to_string(unit).unwrap();
        let setting = |name: &str| {
            let line = unit.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name}")).to_owned()
        };
        let capabilities: Vec<_> = setting("CapabilityBoundingSet=")
            .split_whitespace()
            .map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()))
            .collect();
        let writable = format!(
            "{} /var/lib/{}",
            setting("ReadWritePaths="),
            setting("StateDirectory=")
        );
        let script = format!(
            "set -e\nmkdir -p /var/lib/sipguard\n\
             for folder in {writable}; do mount --rbind $folder $folder; done\n\
             mount -o remount,ro,bind /\nmount -o remount,ro,bind /sys\nmount -o remount,ro,bind /proc\n\
             if touch /etc/sipguard/written 2> /dev/null; then exit 9; fi\n\
             exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,{} sipguard apply\n",
            capabilities.join(",")
        );
        system.write("service.sh", &script);
        run("mount", &["--make-rshared", path(&system.root)]);
        system
            .run("unshare --mount --propagation slave sh /service.sh")
            .succeeded();
        assert!(system.program().is_some());
        assert!(Path::new(BPFFS).join("sipguard/links/eth0").exists());
        // What the service made, everybody else can use.
        system.run("sipguard status").succeeded();
        assert!(system.root.join("var/lib/sipguard/state.json").exists());
    });
}

#[test]
fn what_cannot_be_detached_is_not_removed() {
    on_a_system(|system, _| {
        system.dpkg("--install /sipguard.deb").succeeded();
        system.write(CONFIG, POLICY);
        system.run("sipguard apply").succeeded();
        // The state's lock can't be had: its place is taken.
        let lock = system.root.join("var/lib/sipguard/lock");
        fs::remove_file(&lock).unwrap();
        symlink("/nowhere/at/all", &lock).unwrap();
        let removed = system.dpkg("--remove sipguard");
        assert!(!removed.status.success(), "{removed:?}");
        assert!(system.program().is_some());
        fs::remove_file(&lock).unwrap();
        system.dpkg("--remove sipguard").succeeded();
        assert_eq!(system.program(), None);
    });
}
