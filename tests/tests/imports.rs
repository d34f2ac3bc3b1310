//! Files of one folder import each other in one direction only, so that each can be understood with what it imports. A folder's `mod.rs`
//! only leads to them: what it exports again counts as the file's that has it, and what its children share has a file of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Where the sources of each package are.
const ROOTS: [&str; 5] = [
    "sipguard-ebpf/src",
    "sipguard/src",
    "xtask/src",
    "tests/src",
    "tests/tests",
];

/// Folders with Rust files, below `folder`.
fn folders(folder: &Path, found: &mut Vec<PathBuf>) {
    found.push(folder.to_owned());
    for entry in fs::read_dir(folder).expect("the sources can be read") {
        let path = entry.expect("the sources can be read").path();
        if path.is_dir() {
            folders(&path, found);
        }
    }
}

/// A file's text without comments and texts, which may look like imports.
fn read(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("the sources can be read");
    let mut code = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let outside = line.split('"').step_by(2);
        code.extend(outside);
        code.push('\n');
    }
    // Tests may look at whatever they test.
    let tests = code.find("#[cfg(test)]\nmod tests {");
    code.truncate(tests.unwrap_or(code.len()));
    code
}

/// The paths of all `use` in a text: what is in braces has a path of its own.
fn imports(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let is_word = !code[..at].ends_with(|it: char| it.is_alphanumeric() || it == '_');
        if is_word && let Some(end) = code[at..].find(';') {
            expand(&[], &code[at + 4..at + end], &mut paths);
        }
    }
    paths
}

fn expand(before: &[String], tree: &str, paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let (path, inside) = tree.split_once('{').unwrap_or((tree, ""));
    let path = path.split(" as ").next().unwrap_or_default();
    let names = path.split("::").map(str::trim);
    let mut begin = before.to_vec();
    begin.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
    let Some(inside) = inside.trim().strip_suffix('}') else {
        paths.push(begin);
        return;
    };
    let (mut depth, mut from) = (0, 0);
    for (at, letter) in inside.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&begin, &inside[from..at], paths);
                from = at + 1;
            }
            _ => {}
        }
    }
    if !inside[from..].trim().is_empty() {
        expand(&begin, &inside[from..], paths);
    }
}

/// A folder's files, each with those of the same folder that it imports.
fn graph(root: &Path, folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let files: BTreeMap<String, PathBuf> = fs::read_dir(folder)
        .expect("the sources can be read")
        .map(|entry| entry.expect("the sources can be read").path())
        .filter(|path| path.extension().is_some_and(|it| it == "rs"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy();
            (name.into_owned(), path)
        })
        .collect();
    let below = folder.strip_prefix(root).expect("below the root");
    let below: Vec<_> = below.iter().map(|it| it.to_string_lossy()).collect();
    // What the folder's own file makes known under another name than the file's that has it.
    let leader = [folder.join("mod.rs"), folder.with_extension("rs")];
    let leader = leader.iter().find(|file| file.exists());
    let exported: BTreeMap<String, String> = leader
        .map(|file| imports(&read(file)))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|path| match &path[..] {
            [first, module, .., name] if first == "self" && files.contains_key(module) => {
                Some((name.clone(), module.clone()))
            }
            _ => None,
        })
        .collect();
    let mut graph = BTreeMap::new();
    for (name, file) in &files {
        // A crate's root and a folder's file only lead to the others; tests look at what they test.
        if ["lib", "main", "mod", "tests"].contains(&name.as_str()) {
            continue;
        }
        let mut imported = BTreeSet::new();
        for path in imports(&read(file)) {
            let rest = match &path[..] {
                [first, rest @ ..] if first == "super" => rest,
                [first, rest @ ..] if first == "crate" && rest.len() > below.len() => {
                    let (inside, rest) = rest.split_at(below.len());
                    if inside.iter().ne(below.iter()) {
                        continue;
                    }
                    rest
                }
                _ => continue,
            };
            let Some(first) = rest.first() else { continue };
            let of = if files.contains_key(first) {
                first
            } else if let Some(of) = exported.get(first) {
                of
            } else if folder.join("mod.rs").exists() && path[0] == "super" && first != "super" {
                // Defined there.
                imported.insert("mod".to_owned());
                continue;
            } else {
                continue;
            };
            if of != name {
                imported.insert(of.clone());
            }
        }
        graph.insert(name.clone(), imported);
    }
    graph
}

#[test]
fn files_of_one_folder_import_each_other_in_one_direction() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for root in ROOTS.map(|root| project.join(root)) {
        let mut all = Vec::new();
        folders(&root, &mut all);
        for folder in all {
            let graph = graph(&root, &folder);
            for (one, imported) in &graph {
                seen += imported.len();
                for other in imported {
                    let back = graph.get(other).is_some_and(|it| it.contains(one));
                    if back && one < other {
                        wrong.push(format!("{}: {one} and {other}", folder.display()));
                    }
                    if other == "mod" {
                        wrong.push(format!(
                            "{}: {one} imports what mod.rs defines",
                            folder.display()
                        ));
                    }
                }
            }
        }
    }
    assert!(seen > 200, "{seen} imports are too few to be all");
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn imports_are_read() {
    let read = imports("pub use self::{a::B, c::{D as E, f}};\nuse super::g;\nmuse x;");
    let read: Vec<_> = read.iter().map(|path| path.join("::")).collect();
    assert_eq!(read, ["self::a::B", "self::c::D", "self::c::f", "super::g"]);
}
