//! The tests that README and the threat model name as proof are there.

use std::{collections::HashSet, fs, path::Path};

use sipguard_tests::verdict_table::rows;

/// With how many of them each has at least.
const PAGES: [(&str, usize); 2] = [("README.md", 70), ("sipguard/THREATS.md", 4)];

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `[text](target)`, as text, target and what follows up to the next one.
fn links(page: &str) -> Vec<(&str, &str, &str)> {
    let mut pieces = page.split("](");
    let mut before = pieces.next().unwrap_or_default();
    let mut found = Vec::new();
    for piece in pieces {
        let (_, text) = before
            .rsplit_once('[')
            .expect("a link begins with a bracket");
        let (target, rest) = piece.split_once(')').expect("a link ends with a bracket");
        let rest = rest.split('[').next().unwrap_or_default();
        found.push((text, target, rest));
        before = piece;
    }
    found
}

/// What stands between backticks right behind a link, with nothing but commas and the ends of lines in between.
fn names(mut rest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    while let Some(begun) = rest
        .trim_start_matches([':', ',', ' ', '\n'])
        .strip_prefix('`')
    {
        let (name, behind) = begun.split_once('`').expect("backticks come in pairs");
        names.push(name);
        rest = behind;
    }
    names
}

/// What is wrong with a page: of its link to a Rust file, the names behind it are those of tests there, or of rows of the verdict table.
/// And how many there are.
fn wrong(page: &str, text: &str) -> (Vec<String>, usize) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = workspace.join(page);
    let folder = folder.parent().expect("a page is in a folder");
    let table: HashSet<_> = rows().into_iter().map(|row| row.name).collect();
    let (mut wrong, mut found) = (Vec::new(), 0);
    for (text, target, rest) in links(text) {
        if target.starts_with('#') || target.contains("://") {
            continue;
        }
        let file = folder.join(target.split('#').next().unwrap_or_default());
        if !file.exists() {
            wrong.push(format!("{page}: {target} is not there"));
            continue;
        }
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        if !file.ends_with(text) {
            wrong.push(format!("{page}: {text} leads to {target}"));
        }
        let source = read(&file);
        for name in names(rest) {
            let is_row = file.ends_with("src/verdict_table.rs") && table.contains(name);
            let function = format!("fn {name}(");
            let is_test = source
                .split("#[test]")
                .any(|behind| behind.trim_start().starts_with(&function));
            if !is_row && !is_test {
                wrong.push(format!("{page}: {target} has no {name}"));
            }
            found += 1;
        }
    }
    (wrong, found)
}

#[test]
fn every_test_that_is_named_is_there() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (page, least) in PAGES {
        let (wrong, found) = wrong(page, &read(workspace.join(page)));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(found >= least, "{page}: only {found} tests are named");
    }
}

#[test]
fn what_is_not_there_is_told() {
    let page = "[live.rs](tests/tests/live.rs) `jumbo_frames`,\n`nothing_of_the_kind`; [a](tests/gone.rs); \
                [live.rs](tests/tests/netns.rs); [verdict_table.rs](tests/src/verdict_table.rs) `arp`, `no-row`.";
    let (wrong, found) = wrong("README.md", page);
    let wanted = [
        "README.md: tests/tests/live.rs has no nothing_of_the_kind",
        "README.md: tests/gone.rs is not there",
        "README.md: live.rs leads to tests/tests/netns.rs",
        "README.md: tests/src/verdict_table.rs has no no-row",
    ];
    assert_eq!((&wrong[..], found), (&wanted.map(str::to_owned)[..], 4));
}

/// Every way around the filter has a test.
#[test]
fn every_row_of_the_evasion_table_names_a_test() {
    let readme = read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"));
    let (_, section) = readme
        .split_once("## Ways around a filter\n")
        .expect("README has the section");
    let (section, _) = section.split_once("\n## ").expect("it is not the last");
    let rows: Vec<_> = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(2)
        .collect();
    assert!(rows.len() >= 20, "only {} rows", rows.len());
    for row in rows {
        let proof = row.rsplit('|').nth(1).expect("columns");
        let named = links(proof).into_iter().map(|(_, target, rest)| {
            let rust = Path::new(target).extension().is_some_and(|it| it == "rs");
            if rust { names(rest).len() } else { 0 }
        });
        let named: usize = named.sum();
        // None that is looked over.
        assert_eq!(named, proof.matches('`').count() / 2, "{row}");
        assert!(named > 0, "no test is named: {row}");
    }
}
