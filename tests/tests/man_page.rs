//! `man sipguard.toml` is whole and true.

use std::{fs, path::Path, process::Command};

use sipguard::config;

/// Relative to the workspace.
const PAGE: &str = "sipguard/dist/sipguard.toml.5";

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn page() -> String {
    fs::read_to_string(workspace().join(PAGE)).expect("there is a page")
}

/// What is wrong with a config.
fn wrong(text: &str) -> String {
    let config = Path::new("/nowhere/sipguard.toml");
    let problems = config::parse(text, config).expect_err("it is wrong");
    problems.to_string()
}

/// The keys that the config reader takes for possible, as it says itself where it meets another one.
fn keys() -> Vec<String> {
    let unknown = [
        "x.y = 1",
        "[[interface]]\nx.y = 1",
        "[services.sip]\nx.y = 1",
        "[sources]\nmine = { x.y = 1 }",
        "[sources]\nmine = { names = [], x.y = 1 }",
        "[sources]\nmine = { sip = \"\", x.y = 1 }",
        "[sources]\nmine = { url = \"\", x.y = 1 }",
        "[sources]\nmine = { url = \"\", widest = { x.y = 1 } }",
        "[sources]\nmine = { countries = [], x.y = 1 }",
        "[sources]\nmine = { crowdsec = \"\", x.y = 1 }",
        "[sources]\nmine = { etcd = [], x.y = 1 }",
        "[dns]\nx.y = 1",
        "[notify]\nx.y = 1",
        "[notify]\nwebhook = { x.y = 1 }",
        "[notify]\nmail = { x.y = 1 }",
        "[events]\nx.y = 1",
    ];
    let mut keys = Vec::new();
    for text in unknown {
        let problems = wrong(text);
        let list = problems
            .lines()
            .find_map(|line| line.split_once("; the keys here are "));
        let (_, list) = list.unwrap_or_else(|| panic!("{text}: {problems}"));
        keys.extend(list.split(", ").map(str::to_owned));
    }
    keys
}

#[test]
fn every_key_of_the_config_is_in_the_page() {
    let page = page();
    let keys = keys();
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys {
        // As a heading of its own, with a value or as a table.
        let headings = [
            format!("\n.B \"{key} = "),
            format!("\n.B [[{key}]]\n"),
            format!("\n.B [{key}]\n"),
            format!("\n.BI [{key}. NAME ]\n"),
            format!("\n.IB NAME \" = {{ {key} = "),
            // What a kind of source takes besides, in its text.
            format!("\n.B {key}\n"),
            format!("\n.BR {key} "),
            format!("\n.BR \"{key} = "),
            format!("\n.B {key} = "),
            format!(", {key} = "),
            format!("{{ {key} = "),
        ];
        let found = headings.iter().any(|heading| page.contains(heading));
        assert!(found, "{key} is not in {PAGE}");
    }
    // There is no place for keys but those that are asked above.
    let folder = workspace().join("sipguard/src/config");
    let mut files: Vec<_> = fs::read_dir(&folder).expect("readable").collect();
    files.extend(fs::read_dir(folder.join("sources")).expect("readable"));
    files.extend(fs::read_dir(folder.join("..")).expect("readable"));
    let places: usize = files
        .into_iter()
        .map(|file| file.expect("readable").path())
        .filter(|file| file.is_file())
        .map(|file| {
            fs::read_to_string(file)
                .expect("text")
                .matches("document.fields(")
                .count()
        })
        .sum();
    assert_eq!(places, 16, "another table: add it to `keys`");
}

#[test]
fn its_examples_are_configs() {
    let page = page();
    let examples: Vec<_> = page.split(".EX\n").skip(1).collect();
    assert_eq!(examples.len(), 2);
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("blocked.txt");
    fs::write(&list, "198.51.100.66\n").expect("there is room");
    for example in examples {
        let (example, _) = example.split_once(".EE\n").expect("it ends");
        let text = example.replace("/etc/sipguard/blocked.txt", &list.display().to_string());
        let config = folder.path().join("sipguard.toml");
        let policy = config::parse(&text, &config).unwrap_or_else(|error| panic!("{error}"));
        assert!(!policy.interfaces.is_empty() && !policy.entries.is_empty());
    }
}

#[test]
fn it_can_be_read() {
    let shown = Command::new("groff")
        .args(["-man", "-ww", "-Tutf8", "-P-c"])
        .arg(workspace().join(PAGE))
        .output()
        .expect("groff can be run");
    let warnings = String::from_utf8_lossy(&shown.stderr);
    assert!(shown.status.success() && warnings.is_empty(), "{warnings}");
    let text = String::from_utf8_lossy(&shown.stdout);
    for line in [
        "INTERFACES",
        "interfaces = [\"eth0\", \"wan.100\"]",
        "SEE ALSO",
    ] {
        assert!(
            text.contains(line) || text.contains(&overstruck(line)),
            "{line}: {text}"
        );
    }
}

/// As terminals of paper showed bold letters.
fn overstruck(text: &str) -> String {
    text.chars()
        .flat_map(|letter| match letter {
            ' ' => vec![' '],
            _ => vec![letter, '\u{8}', letter],
        })
        .collect()
}
