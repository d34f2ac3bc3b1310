//! A million entries: all of them count, and no command needs much memory for them.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use sipguard_tests::{
    netns::{SCRATCH, sandbox},
    scene::Scene,
};

const ENTRIES: u32 = 1_000_000;
/// What one command may have in memory at most.
const BYTES: i64 = 400 << 20;

/// An address that is listed, a neighbour of it that is not, and the prefix: half of them IPv4, half of them IPv6, in no order.
fn entry(number: u32) -> [String; 3] {
    // An odd factor mixes the numbers without two becoming one.
    let mixed = number.wrapping_mul(0x9e37_79b1) & 0xf_ffff;
    match number % 4 {
        0 | 2 => {
            // 16.0.0.0 and above, sixteen addresses apart.
            let address = 0x1000_0000 + (mixed << 4);
            let at = |bits: u32| Ipv4Addr::from_bits(bits).to_string();
            if number.is_multiple_of(4) {
                [at(address), at(address + 1), at(address)]
            } else {
                [
                    at(address + 3),
                    at(address + 4),
                    format!("{}/30", at(address)),
                ]
            }
        }
        kind => {
            let address = (0x2001_0db8_u128 << 96) + (u128::from(mixed) << 76);
            let at = |bits: u128| Ipv6Addr::from_bits(bits).to_string();
            let length = if kind == 1 { 64 } else { 56 };
            let size = 1 << (128 - length);
            [
                at(address + 7),
                at(address + size),
                format!("{}/{length}", at(address)),
            ]
        }
    }
}

/// The most that any command so far had in memory, in bytes.
fn most_memory() -> i64 {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure of the right type.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    assert_eq!(result, 0, "getrusage");
    usage.ru_maxrss * 1024
}

#[test]
fn a_million_entries() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let mut text = String::new();
        let mut prefixes = BTreeSet::new();
        for number in 0..ENTRIES {
            let [_, _, prefix] = entry(number);
            writeln!(text, "{prefix}").expect("a string takes everything");
            prefixes.insert(prefix);
        }
        assert_eq!(prefixes.len(), ENTRIES as usize, "each once");
        fs::write(Path::new(SCRATCH).join("list.txt"), text).expect("room");
        scene.configure(
            "interfaces = [\"eth0\"]\n[sources]\nmany = { file = \"list.txt\" }\n[services.sip]\nudp = [5060]\nallow = [\"many\"]\n",
        );
        let told = scene.sipguard(["apply", "--dry-run"]).succeeded();
        assert!(
            told.stdout.contains("… and 999,995 more"),
            "{}",
            told.stdout
        );
        let applied = scene.sipguard(["apply"]).succeeded();
        assert!(
            applied.stdout.contains("entries +1,000,000"),
            "{}",
            applied.stdout
        );
        assert!(
            !applied.stderr.contains('\r'),
            "no progress where nobody watches"
        );
        scene
            .sipguard(["allow", "198.51.100.7", "--service", "all", "--for", "1h"])
            .succeeded();
        let told = scene.sipguard(["apply", "--dry-run"]).succeeded();
        assert_eq!(told.stdout, "nothing would change\n");

        for number in (0..ENTRIES).step_by(9_973) {
            let [listed, not_listed, prefix] = entry(number);
            assert!(scene.passes("eth0", &listed, 5060), "{listed} of {prefix}");
            assert!(
                !scene.passes("eth0", &not_listed, 5060),
                "{not_listed}, beside {prefix}"
            );
        }
        assert!(scene.passes("eth0", "198.51.100.7", 5060));
        // Printing needs every entry in order.
        let listed = scene
            .sipguard(["list", "--format", "prefixes", "--action", "allow"])
            .succeeded();
        let mut listed: BTreeSet<_> = listed.stdout.lines().map(str::to_owned).collect();
        assert!(listed.remove("198.51.100.7"));
        assert!(listed == prefixes, "{} are listed", listed.len());

        // All of them against all of them but one.
        let text = fs::read_to_string(Path::new(SCRATCH).join("list.txt")).expect("it is there");
        let (_, rest) = text.split_once('\n').expect("lines");
        fs::write(Path::new(SCRATCH).join("list.txt"), rest).expect("room");
        let told = scene.sipguard(["apply", "--dry-run"]).succeeded();
        let [gone, ..] = entry(0);
        assert!(
            told.stdout
                .starts_with(&format!("- allow {gone} for sip\n")),
            "{}",
            told.stdout
        );
        let applied = scene.sipguard(["apply"]).succeeded();
        assert!(
            applied.stdout.contains("changes: entries -1\n"),
            "{}",
            applied.stdout
        );
        assert!(!scene.passes("eth0", &gone, 5060));

        let memory = most_memory();
        assert!(memory < BYTES, "{} MiB", memory >> 20);
        println!("at most {} MiB", memory >> 20);
    });
}
