//! What `cargo xtask package` made: what is in it, and where it runs.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use sipguard_tests::package::{file, folder, path, run};

/// As `dpkg-deb --contents` shows them, besides the manual.
const FILES: &[(&str, &str)] = &[
    ("-rw-r--r--", "etc/fail2ban/action.d/sipguard.conf"),
    ("-rw-r--r--", "etc/sipguard/sipguard.toml"),
    ("-rwxr-xr-x", "usr/bin/sipguard"),
    ("-rw-r--r--", "usr/lib/sysctl.d/50-sipguard.conf"),
    ("-rw-r--r--", "usr/lib/systemd/system/sipguard.service"),
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
    ("-rw-r--r--", "usr/share/man/man1/sipguard-apply.1.gz"),
    ("-rw-r--r--", "usr/share/man/man5/sipguard.toml.5.gz"),
    ("-rw-r--r--", "usr/share/zsh/vendor-completions/_sipguard"),
];

const LARGEST: u64 = 8_000_000;

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
    let manual = manual();
    assert!(manual.len() > 5, "{manual:?}");
    let manual: Vec<_> = manual
        .iter()
        .map(|page| ("-rw-r--r--", page.as_str()))
        .collect();
    let wanted = || FILES.iter().chain(&manual);
    for wanted in wanted() {
        assert!(found.contains(wanted), "{wanted:?} is not in\n{listed}");
    }
    let strays: Vec<_> = found
        .iter()
        .filter(|(mode, path)| {
            mode.starts_with('-')
                && !path.starts_with("usr/share/man/man1/sipguard-")
                && !wanted().any(|(_, wanted)| wanted == path)
        })
        .collect();
    assert!(strays.is_empty(), "{strays:?}");
    assert_eq!(
        run("dpkg-deb", &["--info", path(&file(".deb")), "conffiles"]),
        "/etc/sipguard/sipguard.toml\n/etc/fail2ban/action.d/sipguard.conf\n"
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
