//! What `cargo xtask package` made: what is in it, and where it runs.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use sipguard_tests::package::{PACKAGES, deb, folder, path, run, tarball};

/// As `dpkg-deb --contents` shows them, besides the manual.
const FILES: &[(&str, &str)] = &[
    ("-rw-r--r--", "etc/fail2ban/action.d/sipguard.py"),
    ("-rw-r--r--", "etc/sipguard/sipguard.toml"),
    ("-rwxr-xr-x", "usr/bin/sipguard"),
    ("-rw-r--r--", "usr/lib/sysctl.d/50-sipguard.conf"),
    ("-rw-r--r--", "usr/lib/systemd/system/sipguard.service"),
    (
        "-rw-r--r--",
        "usr/lib/systemd/system/sipguard-agent.service",
    ),
    (
        "-rw-r--r--",
        "usr/lib/systemd/system/sipguard-interface@.service",
    ),
    (
        "-rw-r--r--",
        "usr/lib/systemd/system/sipguard-repair.service",
    ),
    ("-rw-r--r--", "usr/lib/systemd/system/sipguard-repair.timer"),
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
    ("-rw-r--r--", "usr/share/sipguard/grafana.json"),
    ("-rw-r--r--", "usr/share/sipguard/prometheus-rules.yml"),
    ("-rw-r--r--", "usr/share/man/man1/sipguard-apply.1.gz"),
    ("-rw-r--r--", "usr/share/man/man5/sipguard.toml.5.gz"),
    ("-rw-r--r--", "usr/share/zsh/vendor-completions/_sipguard"),
];

/// The same of the package sipguard-fetch.
const FILES_OF_THE_FETCHER: &[(&str, &str)] = &[
    ("-rwxr-xr-x", "usr/bin/sipguard-fetch"),
    (
        "-rw-r--r--",
        "usr/lib/systemd/system/sipguard-fetch.service",
    ),
    ("-rw-r--r--", "usr/lib/systemd/system/sipguard-refresh.path"),
    (
        "-rw-r--r--",
        "usr/lib/systemd/system/sipguard-refresh.service",
    ),
    (
        "-rw-r--r--",
        "usr/lib/systemd/system/sipguard-agent.service.d/sipguard-fetch.conf",
    ),
    (
        "-rw-r--r--",
        "usr/lib/systemd/system/sipguard-repair.service.d/sipguard-fetch.conf",
    ),
    (
        "-rw-r--r--",
        "usr/lib/systemd/system/sipguard-repair.service.d/sipguard-refresh.conf",
    ),
    (
        "-rw-r--r--",
        "usr/lib/systemd/system/sipguard.service.d/sipguard-fetch.conf",
    ),
    ("-rw-r--r--", "usr/lib/sysusers.d/sipguard-fetch.conf"),
    ("-rw-r--r--", "usr/share/doc/sipguard-fetch/changelog.gz"),
    ("-rw-r--r--", "usr/share/doc/sipguard-fetch/copyright"),
    ("-rw-r--r--", "usr/share/lintian/overrides/sipguard-fetch"),
    ("-rw-r--r--", "usr/share/man/man1/sipguard-fetch.1.gz"),
];

const LARGEST: u64 = 9_600_000;

/// What the oldest system has that we promise to run on (Debian 11).
const GLIBC: (u32, u32) = (2, 31);

/// Where the package has the pages of the manual.
fn manual() -> Vec<String> {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sipguard/docs");
    fs::read_dir(pages)
        .unwrap()
        .map(|page| {
            let name = page.unwrap().file_name();
            format!("usr/share/doc/sipguard/{}", name.display())
        })
        .collect()
}

/// The packages' files in a folder that is gone with the value.
fn unpacked() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in PACKAGES {
        run(
            "dpkg-deb",
            &["--extract", path(&deb(name)), path(root.path())],
        );
    }
    root
}

/// The whole contents of a package are these, and what is called so.
fn holds(name: &str, files: &[(&str, &str)], others: &str) {
    let listed = run("dpkg-deb", &["--contents", path(&deb(name))]);
    let found: BTreeSet<_> = listed
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            assert_eq!(words[1], "0/0", "{line}");
            (words[0], words[5].trim_start_matches("./"))
        })
        .collect();
    for wanted in files {
        assert!(found.contains(wanted), "{wanted:?} is not in\n{listed}");
    }
    let strays: Vec<_> = found
        .iter()
        .filter(|(mode, path)| {
            mode.starts_with('-')
                && !path.starts_with(others)
                && !files.iter().any(|(_, wanted)| wanted == path)
        })
        .collect();
    assert!(strays.is_empty(), "{strays:?}");
}

#[test]
fn the_packages_hold_what_a_gateway_needs() {
    let manual = manual();
    assert!(manual.len() > 5, "{manual:?}");
    let manual = manual.iter().map(|page| ("-rw-r--r--", page.as_str()));
    let files: Vec<_> = FILES.iter().copied().chain(manual).collect();
    holds("sipguard", &files, "usr/share/man/man1/sipguard-");
    assert_eq!(
        run("dpkg-deb", &["--info", path(&deb("sipguard")), "conffiles"]),
        "/etc/sipguard/sipguard.toml\n/etc/fail2ban/action.d/sipguard.py\n"
    );
    holds("sipguard-fetch", FILES_OF_THE_FETCHER, "nothing");
}

#[test]
fn the_fetcher_goes_with_its_own_version() {
    let field = |name: &str, field: &str| {
        let said = run("dpkg-deb", &["--field", path(&deb(name)), field]);
        said.trim_end().to_owned()
    };
    let version = field("sipguard", "Version");
    assert_eq!(field("sipguard-fetch", "Version"), version);
    let depends = field("sipguard-fetch", "Depends");
    assert!(
        depends.contains(&format!("sipguard (= {version})")),
        "{depends}"
    );
}

#[test]
fn it_is_small() {
    let root = unpacked();
    let programs = PACKAGES.map(|name| root.path().join("usr/bin").join(name));
    let packages = PACKAGES.map(deb);
    for file in programs.iter().chain(&packages).chain([&tarball()]) {
        let size = fs::metadata(file).unwrap().len();
        assert!(size < LARGEST, "{}: {size} bytes", file.display());
    }
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
    assert_eq!(String::from_utf8_lossy(&checked.stdout).lines().count(), 3);
    let root = unpacked();
    let packed = tarball();
    let tarball = tempfile::tempdir().unwrap();
    run(
        "tar",
        &[
            "--extract",
            "--file",
            path(&packed),
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
    for name in PACKAGES {
        runs_anywhere(&root.path().join("usr/bin").join(name));
    }
}

fn runs_anywhere(binary: &Path) {
    let symbols = run("readelf", &["--dyn-syms", "--wide", path(binary)]);
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
    let segments = run("readelf", &["--program-headers", "--wide", path(binary)]);
    assert!(!segments.contains("INTERP"), "{segments}");
    // Nor the C library's ways to find hosts and users, which load others of its version.
    let bytes = fs::read(binary).unwrap();
    let found = bytes.windows(13).any(|bytes| bytes == b"nsswitch.conf");
    assert!(!found, "{} asks the C library", binary.display());
    let name = binary.file_name().unwrap().to_str().unwrap();
    assert!(run(path(binary), &["--version"]).starts_with(&format!("{name} ")));
}

#[test]
fn lintian_finds_no_error() {
    for name in PACKAGES {
        run(
            "lintian",
            &["--fail-on", "error", "--allow-root", path(&deb(name))],
        );
    }
}

#[test]
fn the_fetcher_s_page_has_its_options() {
    let root = unpacked();
    let page = root.path().join("usr/share/man/man1/sipguard-fetch.1.gz");
    let page = run("gzip", &["--decompress", "--stdout", path(&page)]).replace('\\', "");
    let help = run(
        path(&root.path().join("usr/bin/sipguard-fetch")),
        &["--help"],
    );
    let options: Vec<_> = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"))
        .collect();
    assert!(options.len() > 4, "{help}");
    for option in options {
        assert!(page.contains(option), "{option}");
    }
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
