//! How long it takes until a large list is in force, and how much memory that needs.

use std::{fs, path::Path, process::Command};

use anyhow::Result;
use serde::Serialize;

use super::{
    Effort,
    builds::Build,
    filters::{ipset_text, nft_text},
    guard::{Guard, INTERFACE, Mode},
    lists, verified, watched,
};
use crate::{
    machine,
    netns::{End, Host, SCRATCH, Sandbox, join},
};

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) entries: usize,
    pub(super) seconds: f64,
    /// In which a program was with the kernel's verifier, of a run with strace.
    pub(super) verified: Option<f64>,
    /// The most memory that the command held at one time.
    pub(super) peak_mib: f64,
}

pub(super) fn run(sandbox: &Sandbox, effort: &Effort, builds: &[Build]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &entries in effort.policy_sizes {
        let list = lists::ipv4(entries);
        let (host, peer) = (sandbox.host(), sandbox.host());
        join(
            End {
                host: &host,
                interface: INTERFACE,
                addresses: &[],
            },
            End {
                host: &peer,
                interface: INTERFACE,
                addresses: &[],
            },
        );
        let list_text = lists::text(&list);
        let guard = Guard::new(&list_text, Mode::Native)?;
        rows.extend(applies(&host, &list_text, entries, effort, builds)?);
        let mut best = |what: &str,
                        host: &Host,
                        times,
                        command: &mut dyn FnMut() -> Result<Command>,
                        after: &mut dyn FnMut() -> Result<()>|
         -> Result<()> {
            let mut best: Option<Row> = None;
            for _ in 0..times {
                let row = measure(what, entries, host, &mut command()?)?;
                if best.as_ref().is_none_or(|best| row.seconds < best.seconds) {
                    best = Some(row);
                }
                after()?;
            }
            rows.extend(best);
            Ok(())
        };
        guard.apply(&host)?;
        let mut next = 0;
        best(
            "sipguard allow, one more",
            &host,
            5,
            &mut || {
                next += 1;
                Ok(guard.command(&["allow", &format!("192.0.2.{next}"), "--service", "sip"]))
            },
            &mut || Ok(()),
        )?;
        guard.down(&host)?;
        let file = |name: &str, text: String| -> Result<_> {
            let file = Path::new(SCRATCH).join(name);
            fs::write(&file, text)?;
            Ok(file)
        };
        if machine::find("nft").is_some() {
            let file = file(
                "bench.nft",
                nft_text("ip", "prerouting priority raw", &list),
            )?;
            best(
                "nft -f",
                &host,
                1,
                &mut || {
                    let mut nft = Command::new("nft");
                    nft.arg("-f").arg(&file);
                    Ok(nft)
                },
                &mut || Ok(()),
            )?;
        }
        if machine::find("ipset").is_some() {
            let file = file("bench.ipset", ipset_text(&list))?;
            best(
                "ipset restore",
                &host,
                1,
                &mut || {
                    let mut ipset = Command::new("ipset");
                    ipset.arg("restore").arg("-file").arg(&file);
                    Ok(ipset)
                },
                &mut || Ok(()),
            )?;
        }
    }
    Ok(rows)
}

/// `apply` of each build, in turns; the best of each.
fn applies(
    host: &Host,
    list: &str,
    entries: usize,
    effort: &Effort,
    builds: &[Build],
) -> Result<Vec<Row>> {
    let mut rows: Vec<Option<Row>> = builds.iter().map(|_| None).collect();
    for _ in 0..effort.policy_rounds {
        for (best, build) in rows.iter_mut().zip(builds) {
            let guard = Guard::by(&build.binary, list, Mode::Native)?;
            let what = build.named("sipguard apply");
            let row = measure(&what, entries, host, &mut guard.command(&["apply"]))?;
            guard.down(host)?;
            if best.as_ref().is_none_or(|best| row.seconds < best.seconds) {
                *best = Some(row);
            }
        }
    }
    if machine::find("strace").is_some() {
        for (best, build) in rows.iter_mut().zip(builds) {
            let guard = Guard::by(&build.binary, list, Mode::Native)?;
            let seconds = verified::seconds(host, &guard.command(&["apply"]))?;
            guard.down(host)?;
            if let Some(best) = best {
                best.verified = Some(seconds);
            }
        }
    }
    Ok(rows.into_iter().flatten().collect())
}

fn measure(what: &str, entries: usize, host: &Host, command: &mut Command) -> Result<Row> {
    let watched = watched::run(what, host, command)?;
    Ok(Row {
        what: what.to_owned(),
        verified: None,
        entries,
        seconds: watched.seconds,
        peak_mib: watched.peak_mib,
    })
}
