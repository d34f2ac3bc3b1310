//! README and the manual are true: what they link to is there, the tests that they name as proof are there, and the commands that they
//! show do what they show.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sipguard_tests::{
    capture_file::{CaptureFile, Format, Order},
    netns::{SCRATCH, sandbox, sipguard},
    scene::{SCANNER, Scene},
    verdict_table::rows,
};

/// With how many of them each has at least, where it has to have some.
const PROOFS: [(&str, usize); 2] = [
    ("sipguard/docs/bypasses.md", 60),
    ("sipguard/docs/threats.md", 4),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README and the manual, as seen from the workspace.
fn pages() -> Vec<String> {
    let folder = "sipguard/docs";
    let manual = fs::read_dir(workspace().join(folder)).expect("there is a manual");
    let manual = manual.map(|page| {
        let name = page.expect("readable").file_name();
        format!("{folder}/{}", name.display())
    });
    // Pictures lead nowhere.
    let is_page = |page: &String| Path::new(page).extension().is_some_and(|it| it == "md");
    let mut pages: Vec<_> = manual.filter(is_page).collect();
    pages.sort();
    pages.push("README.md".to_owned());
    pages
}

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

/// As GitHub makes them of headings, for links that lead to a part of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    prose(text)
        .filter_map(|line| {
            line.trim_start_matches('#')
                .strip_prefix(' ')
                .filter(|_| line.starts_with('#'))
        })
        .map(|heading| {
            let kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
            let anchor: String = heading.chars().filter(kept).collect();
            anchor.to_lowercase().replace(' ', "-")
        })
        .collect()
}

/// The lines that are not between fences.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    })
}

/// What is wrong with a page: a link leads nowhere, or behind one to a Rust file a name is neither of a test there nor of a row of the
/// verdict table. And how many names there are.
fn wrong(page: &str, text: &str) -> (Vec<String>, usize) {
    let path = workspace().join(page);
    let folder = path.parent().expect("a page is in a folder");
    let table: HashSet<_> = rows().into_iter().map(|row| row.name).collect();
    let (mut wrong, mut found) = (Vec::new(), 0);
    for (label, target, rest) in links(text) {
        if target.contains("://") {
            continue;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let file = if file.is_empty() {
            path.clone()
        } else {
            folder.join(file)
        };
        if !file.exists() {
            wrong.push(format!("{page}: {target} is not there"));
            continue;
        }
        if !anchor.is_empty() {
            let own = file == path;
            let there = if own { text.to_owned() } else { read(&file) };
            if !anchors(&there).contains(anchor) {
                wrong.push(format!("{page}: {target} is not there"));
            }
        }
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        if !file.ends_with(label) {
            wrong.push(format!("{page}: {label} leads to {target}"));
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
fn links_lead_somewhere_and_every_test_that_is_named_is_there() {
    for page in pages() {
        let (wrong, found) = wrong(&page, &read(workspace().join(&page)));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let least = PROOFS.iter().find(|(proof, _)| *proof == page);
        let least = least.map_or(0, |(_, least)| *least);
        assert!(found >= least, "{page}: only {found} tests are named");
    }
}

/// Nobody finds a page that nothing leads to, and README is read in one sitting.
#[test]
fn the_index_leads_to_every_page() {
    let index = read(workspace().join("sipguard/docs/README.md"));
    let linked: BTreeSet<_> = links(&index).into_iter().map(|(_, page, _)| page).collect();
    for page in pages() {
        let name = page.rsplit('/').next().expect("a name");
        assert!(name == "README.md" || linked.contains(name), "{page}");
    }
    let lines = read(workspace().join("README.md")).lines().count();
    assert!(lines <= 200, "README has {lines} lines");
}

#[test]
fn what_is_not_there_is_told() {
    let page = "[live.rs](tests/tests/live.rs) `jumbo_frames`,\n`nothing_of_the_kind`; [a](tests/gone.rs); \
                [live.rs](tests/tests/netns.rs); [verdict_table.rs](tests/src/verdict_table.rs) `arp`, `no-row`; \
                [b](#nowhere); [c](sipguard/docs/gateway.md#nowhere), [d](sipguard/docs/gateway.md#at-boot).";
    let (wrong, found) = wrong("README.md", page);
    let wanted = [
        "README.md: tests/tests/live.rs has no nothing_of_the_kind",
        "README.md: tests/gone.rs is not there",
        "README.md: live.rs leads to tests/tests/netns.rs",
        "README.md: tests/src/verdict_table.rs has no no-row",
        "README.md: #nowhere is not there",
        "README.md: sipguard/docs/gateway.md#nowhere is not there",
    ];
    assert_eq!((&wrong[..], found), (&wanted.map(str::to_owned)[..], 4));
}

/// Every way around the filter has a test.
#[test]
fn every_row_of_the_evasion_table_names_a_test() {
    let page = read(workspace().join("sipguard/docs/bypasses.md"));
    let rows: Vec<_> = page
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

/// The fenced blocks of a page: what language, and what is in them.
fn blocks(text: &str) -> Vec<(&str, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| *line != "```");
            let inside: Vec<_> = inside.collect();
            blocks.push((language, inside.join("\n")));
        }
    }
    blocks
}

/// Of a block, the commands that run sipguard, and what they are said to print.
fn commands(block: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command.to_owned(), String::new()));
        } else if let Some((_, output)) = commands.last_mut() {
            output.push_str(line);
            output.push('\n');
        }
    }
    commands.retain(|(command, _)| {
        let command = command.strip_prefix("sudo ").unwrap_or(command);
        command.starts_with("sipguard ")
    });
    commands
}

/// What a reader has who comes to a page of the manual: the policy of README in force, and another one to try.
const IN_FORCE: &str = r#"
interfaces = ["eth0"]
[sources]
providers = ["203.0.113.0/24", "2001:db8:100::/48"]
admins = ["198.51.100.10"]
"#;
const NEW: &str = r#"
interfaces = ["eth0"]
mode = "monitor"
"#;

/// Runs a command of a page on a gateway, as a shell does; returns what it printed.
fn run(scene: &Scene, command: &str) -> String {
    // A reader names no config file, and so asks what is in force.
    let script = format!(
        "cd {SCRATCH}
        sudo() {{ \"$@\"; }}
        sipguard() {{
            case $* in *--config*|*--pcap*) ;; check*) set -- \"$@\" --live ;; esac
            {} --config {} \"$@\"
        }}
        {command}",
        sipguard().display(),
        scene.config().display()
    );
    let ran = scene.gateway.run(Command::new("sh").args(["-c", &script]));
    ran.succeeded().stdout
}

/// What is another one each time it runs: dates and ages.
fn timeless(text: &str) -> String {
    text.lines()
        .map(|line| match line.split_once(", applied ") {
            Some((before, _)) => format!("{before}, applied some time ago\n"),
            None => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn readme_leads_to_a_policy() {
    let page = read(workspace().join("README.md"));
    let mut run_ones = 0;
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        // As the package does.
        scene.gateway.enter(|| {
            fs::write(
                "/proc/sys/net/ipv4/ip_local_reserved_ports",
                "80,5060-5061,50600",
            )
            .expect("IPv4 can be set up");
        });
        for (language, block) in blocks(&page) {
            if language == "toml" {
                // The reader fills these lines in, and leaves the rest of what `init` wrote.
                let written = read(scene.config());
                let services = "[services.sip]";
                let (_, rest) = written.split_once(services).expect("services");
                scene.configure(&format!("{block}\n{services}{rest}"));
            }
            for (command, shown) in commands(&block) {
                let printed = run(&scene, &command);
                let config = scene.config().display().to_string();
                // Where the file is where the reader has it, nobody has to be told.
                let printed = printed.replace(&format!(" --config {config}"), "");
                let printed = printed.replace(&config, "/etc/sipguard/sipguard.toml");
                assert_eq!(
                    timeless(&printed).trim_end(),
                    timeless(&shown).trim_end(),
                    "{command}"
                );
                run_ones += 1;
            }
        }
    });
    assert!(run_ones >= 8, "only {run_ones}");
}

#[test]
fn the_commands_of_the_manual_run() {
    let mut run_ones = 0;
    for page in pages().iter().filter(|page| *page != "README.md") {
        let text = read(workspace().join(page));
        let commands: Vec<_> = blocks(&text)
            .iter()
            .flat_map(|(_, block)| commands(block))
            .collect();
        run_ones += commands.len();
        if commands.is_empty() {
            continue;
        }
        sandbox(|sandbox| {
            let scene = Scene::new(sandbox, &["eth0"]);
            scene.configure(IN_FORCE);
            scene.sipguard(["apply"]).succeeded();
            scene.configure(NEW);
            let mut capture = CaptureFile::new(Format::Micro, Order::Little, 1);
            let knock = scene.frame("eth0", SCANNER).udp(5060);
            capture.add(&knock.bytes());
            for (name, bytes) in [("new.toml", NEW.as_bytes()), ("day.pcap", capture.bytes())] {
                fs::write(Path::new(SCRATCH).join(name), bytes).expect("writable");
            }
            for (command, _) in commands {
                run(&scene, &command);
            }
        });
    }
    assert!(run_ones >= 5, "only {run_ones}");
}
