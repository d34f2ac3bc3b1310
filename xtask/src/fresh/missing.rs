//! Programs that were not there, by what was said when somebody looked for them.

use std::{collections::BTreeSet, process::Command};

use crate::{machine, setup};

/// Each with its Debian package, for people.
pub(super) fn programs(said: &str) -> Vec<String> {
    let names: BTreeSet<&str> = said.lines().filter_map(name).collect();
    let mut all = Vec::new();
    for name in names {
        let why = match setup::package(name) {
            Some(package) => format!("{package}, declared for other tasks than this one"),
            None => match installed(name) {
                Some(package) => format!("{package}, declared for no task"),
                None => "package unknown here, declared for no task".to_owned(),
            },
        };
        all.push(format!("{name} ({why}, in xtask/src/setup/programs.rs)"));
    }
    all
}

/// The package that this machine has it from.
fn installed(name: &str) -> Option<String> {
    let pattern = format!("*bin/{name}");
    let found = machine::answer(Command::new("dpkg-query").args(["--search", &pattern]))?;
    let (package, _) = found.lines().next()?.split_once(':')?;
    Some(package.to_owned())
}

/// What a shell, a test, an error of ours or `env` says about a program that is not there.
fn name(line: &str) -> Option<&str> {
    let line = line.trim_end();
    let found = if let Some(before) = line
        .strip_suffix(": not found")
        .or_else(|| line.strip_suffix(": command not found"))
    {
        // sh: 3: iptables: not found
        before.rsplit_once(": ").map(|it| it.1)
    } else if let Some((before, _)) = line.split_once(": No such file or directory") {
        // "ethtool" "-L" …: No such file …; starting strip: No such file …; env: ‘python3’: No such file …
        let quoted = before.find('"').map(|at| &before[at + 1..]);
        quoted
            .and_then(|rest| rest.split('"').next())
            .or_else(|| Some(before.split_once("starting ")?.1))
            .or_else(|| before.split_once("env: ").map(|it| it.1))
    } else {
        None
    };
    let found = found?.trim_matches(['‘', '’', '\'', ' ']);
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._+-".contains(letter);
    (!found.is_empty() && found.chars().all(plain)).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn whoever_looked_for_it() {
        for (line, wanted) in [
            ("sh: 3: iptables: not found", Some("iptables")),
            ("bash: line 1: ipset: command not found", Some("ipset")),
            (
                r#"thread 'x' panicked at a.rs:1: "ethtool" "-L" "eth0": No such file or directory (os error 2)"#,
                Some("ethtool"),
            ),
            (
                "error: starting strip: No such file or directory (os error 2)",
                Some("strip"),
            ),
            (
                "/usr/bin/env: ‘python3’: No such file or directory",
                Some("python3"),
            ),
            (
                r#""/tmp/x" "y": No such file or directory (os error 2)"#,
                None,
            ),
            ("test x ... ok", None),
            ("error: the rule set of ssh: not found", None),
        ] {
            assert_eq!(name(line), wanted, "{line}");
        }
    }
}
