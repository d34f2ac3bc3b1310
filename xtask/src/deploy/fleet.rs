//! Several hosts: one first, the others in batches, and none after a failure.

use std::{num::NonZeroUsize, thread};

use anyhow::{Result, ensure};
use clap::Args;

use super::{
    address::Address,
    results::{HostResult, Line, Progress, table},
    ssh::Ssh,
};
use crate::setup::{self, Purpose};

#[derive(Args)]
pub(crate) struct Fleet {
    /// A host, as ssh knows it, and who logs in there: root, or who may use sudo without a password. IPv6 in brackets
    #[arg(long = "host", value_name = "USER@HOST[:PORT]", required = true, num_args = 1..)]
    pub(super) hosts: Vec<Address>,
    /// How many hosts are worked on at once, after the first one
    #[arg(long, value_name = "N", default_value = "5")]
    batch: NonZeroUsize,
    #[command(flatten)]
    pub(super) ssh: Ssh,
}

impl Fleet {
    /// Does something on each host, and tells what became of it. Fails where it failed on any.
    pub(super) fn each(
        &self,
        stop: bool,
        work: impl Fn(&Address, &Line<'_>) -> HostResult + Sync,
    ) -> Result<()> {
        for (index, host) in self.hosts.iter().enumerate() {
            ensure!(!self.hosts[..index].contains(host), "{host} is named twice");
        }
        setup::programs(Purpose::Deploy)?;
        let progress = Progress::new();
        let one = |host: &Address| {
            let line = progress.line(host);
            let outcome = work(host, &line);
            line.end(&outcome);
            outcome
        };
        let (first, others) = self.hosts.split_at(1);
        let batches = [first].into_iter().chain(others.chunks(self.batch.get()));
        let mut outcomes: Vec<(&Address, HostResult)> = Vec::new();
        for batch in batches {
            let failed = outcomes.iter().any(|(_, outcome)| !outcome.is_well());
            if failed && stop {
                outcomes.extend(batch.iter().map(|host| (host, HostResult::not_begun())));
                continue;
            }
            thread::scope(|scope| {
                let threads: Vec<_> = batch
                    .iter()
                    .map(|host| (host, scope.spawn(|| one(host))))
                    .collect();
                for (host, thread) in threads {
                    let outcome = thread.join().unwrap_or_else(|_| {
                        HostResult::failed("a bug in cargo xtask deploy", "unknown")
                    });
                    outcomes.push((host, outcome));
                }
            });
        }
        table(&outcomes);
        let failed = outcomes
            .iter()
            .filter(|(_, outcome)| !outcome.is_well())
            .count();
        ensure!(
            failed == 0,
            "{failed} of {} hosts are not done",
            self.hosts.len()
        );
        Ok(())
    }
}
