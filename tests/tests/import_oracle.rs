//! `sipguard import` against netfilter: rule sets are loaded into a kernel, frames come from the edges of everything that they name and from
//! elsewhere, and what got through is held against what the imported config does. Nobody may be let in whom netfilter kept out, and nobody
//! kept out whom it let in, unless a note names his address.

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path};

use ipnet::IpNet;
use sipguard::{
    config,
    import::{ImportError, Input, Kind, Note, Options, import},
};
use sipguard_ebpf::abi::{Action, LinkKind};
use sipguard_tests::{
    capture_file::{CaptureFile, Format, Order},
    compiled::{Compiled, NOW},
    netfilter::{Firewall, Probe, Program, RuleSet, edges},
    netns::{SCRATCH, Sandbox, sandbox, sipguard},
    random::Random,
    rule_sets,
};

const PORTS: [u16; 4] = [5060, 5061, 50600, 80];

fn probes(sources: &[IpAddr]) -> Vec<Probe> {
    let mut probes = Vec::new();
    for &source in sources {
        for port in PORTS {
            for tcp in [false, true] {
                probes.push(Probe { source, tcp, port });
            }
        }
    }
    probes
}

/// What the config does with each of them, and the notes that go with it; or why there is no config, and what that says of them all.
struct Answer {
    passes: Vec<bool>,
    notes: Vec<Note>,
    refused: Option<ImportError>,
}

fn answer(text: &str, options: &Options, probes: &[Probe]) -> Answer {
    let input = Input { text, format: None };
    let all = |passes: bool, notes: &[Note], refused: ImportError| Answer {
        passes: vec![passes; probes.len()],
        notes: notes.to_vec(),
        refused: Some(refused),
    };
    match import(&[input], options) {
        Ok(imported) => {
            let text = imported.config(&[]);
            let policy = config::parse(&text, Path::new("imported.toml"))
                .unwrap_or_else(|problems| panic!("{problems}\n{text}"));
            let compiled = Compiled::new(policy, &[]);
            let judge = |probe: &Probe| {
                let verdict = compiled.judge(&probe.frame(), LinkKind::Ethernet, NOW.boot_ns);
                verdict.action == Action::Pass
            };
            Answer {
                passes: probes.iter().map(judge).collect(),
                notes: imported.notes,
                refused: None,
            }
        }
        Err(error @ ImportError::Open) => all(true, &[], error),
        Err(ref error @ (ImportError::Closed(ref notes) | ImportError::NoInput(ref notes))) => {
            all(false, notes, error.clone())
        }
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// Whether a note says that this packet may be lost.
fn is_named(notes: &[Note], probe: &Probe) -> bool {
    let port = format!("{} {}", if probe.tcp { "tcp" } else { "udp" }, probe.port);
    let longest = |prefixes: &[IpNet]| {
        prefixes
            .iter()
            .filter(|prefix| prefix.contains(&probe.source))
            .map(IpNet::prefix_len)
            .max()
    };
    notes.iter().any(|note| {
        note.kind == Kind::Lost
            && (note.ports.is_empty() || note.ports.contains(&port))
            && longest(&note.addresses) > longest(&note.except)
    })
}

#[derive(Debug, Default)]
struct Tally {
    rule_sets: usize,
    questions: usize,
    closed: usize,
    refused: BTreeMap<String, usize>,
    left_out: BTreeMap<String, usize>,
}

/// What is wrong with an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Opened(Probe),
    ClosedInSilence(Probe),
}

fn compare(answer: &Answer, probes: &[Probe], passed: &[bool], tally: &mut Tally) -> Option<Wrong> {
    tally.rule_sets += 1;
    tally.questions += probes.len();
    if let Some(error) = &answer.refused {
        let why = match error {
            ImportError::Open => "everybody passes",
            ImportError::Closed(_) => "nobody passes",
            _ => "no input",
        };
        *tally.refused.entry(why.to_owned()).or_default() += 1;
    }
    for ((probe, &passes), &passed) in probes.iter().zip(&answer.passes).zip(passed) {
        if passes && !passed {
            return Some(Wrong::Opened(*probe));
        }
        if !passes && passed {
            tally.closed += 1;
            if !is_named(&answer.notes, probe) {
                return Some(Wrong::ClosedInSilence(*probe));
            }
        }
    }
    None
}

/// Loads it, asks, and compares; `None` where the kernel does not take it.
fn judge(
    firewall: &mut Firewall,
    program: Program,
    rules: &RuleSet,
    probes: &[Probe],
    tally: &mut Tally,
) -> Result<Option<Wrong>, String> {
    let text = firewall.load(program, rules)?;
    let options = Options {
        interfaces: vec!["eth0".to_owned()],
        ..Options::default()
    };
    let answer = answer(&text, &options, probes);
    let passed = if text.contains("--add-set") {
        // Whom one packet puts into a set, the next one finds there: each port is asked by itself.
        let mut passed = vec![false; probes.len()];
        for port in PORTS {
            for tcp in [false, true] {
                firewall.load(program, rules)?;
                let (places, some): (Vec<usize>, Vec<Probe>) = probes
                    .iter()
                    .enumerate()
                    .filter(|(_, probe)| probe.port == port && probe.tcp == tcp)
                    .unzip();
                for (place, got_through) in places.into_iter().zip(firewall.ask(&some)) {
                    passed[place] = got_through;
                }
            }
        }
        passed
    } else {
        firewall.ask(probes)
    };
    Ok(compare(&answer, probes, &passed, tally))
}

/// Leaves out what it is wrong without, too.
fn minimised(
    firewall: &mut Firewall,
    program: Program,
    mut rules: RuleSet,
    probes: &[Probe],
) -> RuleSet {
    let is_wrong = |firewall: &mut Firewall, rules: &RuleSet| {
        let wrong = judge(firewall, program, rules, probes, &mut Tally::default());
        matches!(wrong, Ok(Some(_)))
    };
    loop {
        let before = rules.clone();
        let lists: [fn(&mut RuleSet) -> &mut Vec<String>; 4] = [
            |rules| &mut rules.v6,
            |rules| &mut rules.v4,
            |rules| &mut rules.nft,
            |rules| &mut rules.sets,
        ];
        for list in lists {
            for place in (0..list(&mut rules).len()).rev() {
                let mut fewer = rules.clone();
                let line = list(&mut fewer).remove(place);
                let structural = line.ends_with('{')
                    || line == "}"
                    || line.starts_with("type filter")
                    || line.starts_with(['*', ':'])
                    || line == "COMMIT";
                if !structural && is_wrong(firewall, &fewer) {
                    rules = fewer;
                }
            }
        }
        if rules == before {
            return rules;
        }
    }
}

fn generated(sandbox: &Sandbox, program: Program, count: usize, make: fn(&mut Random) -> RuleSet) {
    let mut random = Random::seeded();
    let mut firewall = Firewall::new(sandbox);
    let probes = probes(&edges(rule_sets::words()));
    let mut tally = Tally::default();
    let mut loaded = 0;
    while loaded < count {
        let rules = make(&mut random);
        match judge(&mut firewall, program, &rules, &probes, &mut tally) {
            Ok(None) => loaded += 1,
            Ok(Some(wrong)) => {
                let rules = minimised(&mut firewall, program, rules, &probes);
                let again = judge(&mut firewall, program, &rules, &probes, &mut tally);
                let text = firewall
                    .load(program, &rules)
                    .expect("it was loaded before");
                panic!("{wrong:?}, and in the end {again:?}\n{text}");
            }
            Err(why) => {
                let why = why.lines().next().unwrap_or_default();
                // Without its place.
                let why = why.rsplit("Error: ").next().unwrap_or_default().to_owned();
                *tally.left_out.entry(why).or_default() += 1;
                let refused: usize = tally.left_out.values().sum();
                assert!(
                    refused < 20 + loaded,
                    "the kernel takes hardly any: {:?}",
                    tally.left_out
                );
            }
        }
    }
    println!("{program:?}: {tally:?}");
}

#[test]
fn generated_iptables() {
    sandbox(|sandbox| generated(sandbox, Program::Iptables, 350, rule_sets::iptables));
}

#[test]
fn generated_iptables_of_the_old_tables() {
    sandbox(|sandbox| generated(sandbox, Program::Legacy, 200, rule_sets::iptables));
}

#[test]
fn generated_nftables() {
    sandbox(|sandbox| generated(sandbox, Program::Nft, 500, rule_sets::nftables));
}

/// The rule sets of people, as programs load them.
fn loadable(name: &str, text: &str) -> Option<(Program, RuleSet)> {
    let lines = || text.lines().map(str::to_owned);
    let (mut program, mut rules) = (Program::Iptables, RuleSet::default());
    match name.rsplit_once('.')?.1 {
        "nft" => {
            program = Program::Nft;
            rules.nft = lines().collect();
        }
        "ip6tables-save" => rules.v6 = lines().collect(),
        "iptables-save" => {
            let mut v6 = false;
            for line in lines() {
                v6 |= line.starts_with("# Generated by ip6tables-save");
                let list = if v6 { &mut rules.v6 } else { &mut rules.v4 };
                list.push(line);
            }
        }
        "iptables-S" => {
            rules.v4.push("*filter".to_owned());
            for line in lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                rules.v4.push(match words.as_slice() {
                    ["-P", chain, policy] => format!(":{chain} {policy} [0:0]"),
                    ["-N", chain] => format!(":{chain} - [0:0]"),
                    _ => line,
                });
            }
            rules.v4.push("COMMIT".to_owned());
        }
        _ => return None,
    }
    Some((program, rules))
}

/// Each rule set of [`tests/import/rules`](../import/rules), asked through the command itself.
#[test]
fn rule_sets_of_people() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("import/rules");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    files.sort();
    sandbox(|sandbox| {
        let mut firewall = Firewall::new(sandbox);
        let mut tally = Tally::default();
        for file in files {
            let name = file.file_name().expect("a name").to_string_lossy();
            let text = fs::read_to_string(&file).expect("it can be read");
            let Some((program, rules)) = loadable(&name, &text) else {
                *tally.left_out.entry(name.into_owned()).or_default() += 1;
                continue;
            };
            let loaded = firewall.load(program, &rules);
            let loaded = loaded.unwrap_or_else(|why| panic!("{name} can't be loaded: {why}"));
            let sources = edges(text.split_whitespace());
            let probes = probes(&sources);
            let passed = firewall.ask(&probes);
            // As it is in the file, and as the kernel gives it back.
            for text in [&text, &loaded] {
                let answer = through_the_command(&firewall, text, &probes);
                if let Some(wrong) = compare(&answer, &probes, &passed, &mut tally) {
                    panic!("{name}: {wrong:?}");
                }
            }
        }
        println!("{tally:?}");
        assert!(tally.refused.is_empty(), "{:?}", tally.refused);
    });
}

/// `sipguard import --output`, then `sipguard check --pcap`.
fn through_the_command(firewall: &Firewall, text: &str, probes: &[Probe]) -> Answer {
    let path = |name: &str| format!("{SCRATCH}/{name}");
    fs::write(path("rules"), text).expect("there is room");
    let mut capture = CaptureFile::new(Format::Micro, Order::Little, 1);
    for probe in probes {
        capture.add(&probe.frame());
    }
    fs::write(path("probes.pcap"), capture.bytes()).expect("there is room");
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(sipguard());
        firewall
            .gateway()
            .run(command.args(words))
            .succeeded()
            .stdout
    };
    let config = path("imported.toml");
    let told = run(&["import", &path("rules"), "--output", &config, "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("it is JSON");
    let strings = |value: &serde_json::Value| -> Vec<String> {
        let all = value.as_array().expect("a list").iter();
        all.map(|it| it.as_str().expect("a string").to_owned())
            .collect()
    };
    let prefixes = |value: &serde_json::Value| -> Vec<IpNet> {
        let parse = |text: &String| text.parse().expect("a prefix");
        strings(value).iter().map(parse).collect()
    };
    let notes = told["notes"].as_array().expect("a list").iter();
    let notes = notes
        .filter(|note| note["kind"] == "lost")
        .map(|note| Note {
            kind: Kind::Lost,
            line: 0,
            ports: strings(&note["ports"]),
            addresses: prefixes(&note["addresses"]),
            except: prefixes(&note["except"]),
            text: String::new(),
        })
        .collect();
    let verdicts = run(&[
        "check",
        "--config",
        &config,
        "--pcap",
        &path("probes.pcap"),
        "--json",
    ]);
    let passes: Vec<bool> = verdicts
        .lines()
        .map(|line| {
            let verdict: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
            verdict["action"] == "pass"
        })
        .collect();
    assert_eq!(passes.len(), probes.len());
    Answer {
        passes,
        notes,
        refused: None,
    }
}
