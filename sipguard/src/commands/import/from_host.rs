//! `sipguard import --from-host`: asks this host's own programs, and imports all of what they say together, as a packet meets it.

use std::{
    io,
    net::IpAddr,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use sipguard::import::{self, Format, Imported, Input, Options};

use super::Context;

/// A program that prints rules, and what they are called.
struct Tool {
    name: &'static str,
    command: &'static [&'static str],
    format: Format,
    /// The family of nftables whose tables it prints, where that is how it keeps them.
    nft_family: Option<&'static str>,
    /// What is asked where this one is not there.
    instead: &'static [&'static str],
}

const TOOLS: [Tool; 6] = [
    Tool {
        name: "ipset",
        command: &["ipset", "save"],
        format: Format::Ipset,
        nft_family: None,
        instead: &[],
    },
    Tool {
        name: "iptables (nf_tables)",
        command: &["iptables-nft-save"],
        format: Format::Iptables,
        nft_family: Some("ip"),
        instead: &[],
    },
    Tool {
        name: "ip6tables (nf_tables)",
        command: &["ip6tables-nft-save"],
        format: Format::Iptables,
        nft_family: Some("ip6"),
        instead: &[],
    },
    Tool {
        name: "iptables (legacy)",
        command: &["iptables-legacy-save"],
        format: Format::Iptables,
        nft_family: None,
        instead: &["iptables-save"],
    },
    Tool {
        name: "ip6tables (legacy)",
        command: &["ip6tables-legacy-save"],
        format: Format::Iptables,
        nft_family: None,
        instead: &["ip6tables-save"],
    },
    Tool {
        name: "nftables",
        command: &["nft", "-j", "list", "ruleset"],
        format: Format::Nft,
        nft_family: None,
        instead: &[],
    },
];

pub(super) fn import(mut options: Options, context: &Context) -> Result<Imported> {
    let mut texts: Vec<(&Tool, String)> = Vec::new();
    let mut said = Vec::new();
    let mut asked = false;
    for tool in &TOOLS {
        let mut answer = ask(tool.command)?;
        // A host with one kind only calls it by the short name.
        if answer.is_none() && !tool.instead.is_empty() && !has("iptables-nft-save")? {
            answer = ask(tool.instead)?;
        }
        let Some(text) = answer else { continue };
        asked = true;
        if let Some(family) = tool.nft_family {
            let tables = text.lines().filter_map(|line| line.strip_prefix('*'));
            options
                .skip
                .extend(tables.map(|table| format!("{family} {}", table.trim())));
        }
        said.push(format!("{}: {}", tool.name, count(tool, &text, &options)));
        texts.push((tool, text));
    }
    if !asked {
        bail!(
            "neither nft nor iptables is on this host, so it has no rules to import; name a file"
        );
    }
    if !context.is_quiet() {
        for line in said {
            // The config goes to the standard output.
            crate::output::note(&line);
        }
    }
    options.complete = true;
    options.own = own_addresses()?;
    let inputs: Vec<Input<'_>> = texts
        .iter()
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(tool, text)| Input {
            text,
            format: Some(tool.format),
        })
        .collect();
    import::import(&inputs, &options).context("this host")
}

fn has(program: &str) -> Result<bool> {
    Ok(ask(&[program])?.is_some())
}

/// What a program prints; nothing where it is not there.
fn ask(command: &[&str]) -> Result<Option<String>> {
    let (program, words) = command.split_first().context("a program")?;
    let told = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output();
    let told = match told {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        told => told.with_context(|| format!("cannot run {program}"))?,
    };
    if !told.status.success() {
        let why = String::from_utf8_lossy(&told.stderr);
        bail!(
            "`{}` failed: {}; run sipguard as root",
            command.join(" "),
            why.trim()
        );
    }
    Ok(Some(String::from_utf8_lossy(&told.stdout).into_owned()))
}

/// What a person wants to know of it: whether it filters.
fn count(tool: &Tool, text: &str, options: &Options) -> String {
    let (number, [one, several]) = match tool.format {
        Format::Ipset => (
            text.lines()
                .filter(|line| line.starts_with("create "))
                .count(),
            ["set", "sets"],
        ),
        Format::Nft => {
            let json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
            let objects = json.get("nftables").and_then(|all| all.as_array());
            let rules = objects.into_iter().flatten().filter(|object| {
                object.get("rule").is_some_and(|rule| {
                    let word = |key: &str| rule.get(key).and_then(|word| word.as_str());
                    let table = format!(
                        "{} {}",
                        word("family").unwrap_or_default(),
                        word("table").unwrap_or_default()
                    );
                    !options.skip.contains(&table)
                })
            });
            (rules.count(), ["rule of its own", "rules of its own"])
        }
        _ => (
            text.lines().filter(|line| line.starts_with("-A ")).count(),
            ["rule", "rules"],
        ),
    };
    match number {
        0 => "nothing".to_owned(),
        1 => format!("1 {one}"),
        number => format!("{number} {several}"),
    }
}

/// This host's addresses, save those that only it can reach.
fn own_addresses() -> Result<Vec<IpAddr>> {
    let Some(text) = ask(&["ip", "-o", "address"])? else {
        return Ok(Vec::new());
    };
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.find(|word| *word == "inet" || *word == "inet6");
            address?;
            let (address, _) = words.next()?.split_once('/')?;
            address.parse().ok()
        })
        .filter(|address: &IpAddr| !address.is_loopback())
        .collect())
}
