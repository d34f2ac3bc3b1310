//! How long it takes until a large list is in force, and how much memory that needs.

use std::{fs, path::Path, process::Command};

use anyhow::Result;
use serde::Serialize;

use super::{
    Effort,
    filters::{ipset_text, nft_text},
    guard::{Guard, INTERFACE, Mode},
    lists, watched,
};
use crate::{
    machine,
    netns::{End, Host, SCRATCH, Sandbox, join},
};

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) entries: usize,
    pub(super) seconds: f64,
    /// The most memory that the command held at one time.
    pub(super) peak_mib: f64,
}

pub(super) fn run(sandbox: &Sandbox, effort: &Effort) -> Result<Vec<Row>> {
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
        let guard = Guard::new(&lists::text(&list), Mode::Native)?;
        let mut best = |what,
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
        best(
            "sipguard apply",
            &host,
            effort.policy_rounds,
            &mut || Ok(guard.command(&["apply"])),
            &mut || guard.down(&host),
        )?;
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

fn measure(what: &'static str, entries: usize, host: &Host, command: &mut Command) -> Result<Row> {
    let watched = watched::run(what, host, command)?;
    Ok(Row {
        what,
        entries,
        seconds: watched.seconds,
        peak_mib: watched.peak_mib,
    })
}
