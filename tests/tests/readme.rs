//! The tests that README and the threat model name as proof are there.

use std::{collections::HashSet, fs, path::Path};

use sipguard_tests::verdict_table::rows;

const PAGES: [&str; 2] = ["README.md", "sipguard/THREATS.md"];

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `[text](target)` in a line, as text, target and what follows up to the next one.
fn links(line: &str) -> Vec<(&str, &str, &str)> {
    let mut pieces = line.split("](");
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

/// What stands between backticks.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Of a page's link to a Rust file, the names behind it are those of tests there, or of rows of the verdict table.
fn hold(page: &str, found: &mut usize) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = workspace.join(page);
    let folder = folder.parent().expect("a page is in a folder");
    let table: HashSet<_> = rows().into_iter().map(|row| row.name).collect();
    for line in read(workspace.join(page)).lines() {
        for (text, target, rest) in links(line) {
            if target.starts_with('#') || target.contains("://") {
                continue;
            }
            let file = folder.join(target.split('#').next().unwrap_or_default());
            assert!(file.exists(), "{page}: {target} is not there: {line}");
            if file.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            assert!(file.ends_with(text), "{page}: {text} leads to {target}");
            let source = read(&file);
            for name in names(rest) {
                let is_row = file.ends_with("src/verdict_table.rs") && table.contains(name);
                let function = format!("fn {name}(");
                let is_test = source
                    .split("#[test]")
                    .any(|behind| behind.trim_start().starts_with(&function));
                assert!(is_row || is_test, "{page}: {target} has no {name}: {line}");
                *found += 1;
            }
        }
    }
}

#[test]
fn every_test_that_is_named_is_there() {
    let mut found = 0;
    for page in PAGES {
        hold(page, &mut found);
    }
    assert!(found > 40, "only {found} tests are named");
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
        let proven = links(proof).into_iter().any(|(_, target, rest)| {
            let rust = Path::new(target).extension().is_some_and(|it| it == "rs");
            rust && names(rest).next().is_some()
        });
        assert!(proven, "no test is named: {row}");
    }
}
