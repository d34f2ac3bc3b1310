//! What is in force, as `status` tells it.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    ConfirmationReport, InterfaceReport, InterfaceState, MovedReport, ReceiverReport, SourceReport,
};
use crate::{
    datapath::Trust,
    health::{self, Evidence, Health, Opening},
    host::Host,
    lifecycle::{self, Live},
    policy::{Mode, Service},
    state::{Ban, State},
    tables::Now,
};

/// All of it. Where nothing is in force, the lists are empty.
#[derive(Clone, Debug, Serialize)]
pub struct StatusReport {
    /// This sipguard's.
    pub version: &'static str,
    /// Whether anything is attached.
    pub in_force: bool,
    /// Whether anything is dropped.
    pub enforced: bool,
    /// The generation in force.
    pub generation: Option<u64>,
    /// When it was applied.
    pub applied: Option<Timestamp>,
    /// The config file it was made of.
    pub config: Option<PathBuf>,
    /// Whether the policy drops.
    pub mode: Option<Mode>,
    /// Those that are to be filtered.
    pub interfaces: Vec<InterfaceReport>,
    /// Those in force.
    pub services: Vec<Service>,
    /// How many there are.
    pub entries: EntryCounts,
    /// Live sources.
    pub sources: Vec<SourceReport>,
    /// Who wants notices.
    pub receivers: Vec<ReceiverReport>,
    /// Who seems to have moved, as far as the agent knows.
    pub moved: Vec<MovedReport>,
    /// The apply that waits to be confirmed.
    pub pending: Option<ConfirmationReport>,
    /// Whether this host is guarded as its config says.
    #[serde(flatten)]
    pub health: Health,
    /// The services that are open to everybody and should not be.
    #[serde(skip)]
    pub open: Vec<Opening>,
}

/// How many entries there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EntryCounts {
    /// Of the config, in force.
    pub config: usize,
    /// Of the command line, in force or waiting for it.
    pub command_line: usize,
    /// Bans of other programs, in force or waiting for it.
    pub bans: usize,
    /// Those of them that decide nothing in one service at least, because an entry by hand covers them.
    pub overruled_bans: usize,
}

impl StatusReport {
    /// Looks at everything, and whether it is as the config file says. Whether programs are watched that were seen running a moment ago, `trust`
    /// says.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    pub fn take(host: &Host, config: &Path, trust: Trust) -> Result<Self, lifecycle::Error> {
        let evidence = Evidence::look(host, config, trust)?;
        let health = Health::of(&evidence);
        let open = health::openings(&evidence);
        let Evidence {
            state,
            now,
            interfaces,
            sources,
            links,
            ..
        } = evidence;
        let live = evidence.live?;
        // Also where nothing is in force any more.
        let pending = links.iter().find_map(|link| link.pending);
        let pending = pending.map(|pending| ConfirmationReport::new(pending, now));
        let moved = live.as_ref().map(|live| MovedReport::all(live, now));
        let bans = lifecycle::bans(host, &state);
        let bans = bans.iter().filter(|ban| !ban.ended(now.wall));
        let (mut all, mut overruled) = (0, 0);
        for ban in bans {
            all += 1;
            overruled += usize::from(is_overruled(live.as_ref(), ban, now)?);
        }
        let described = Self::of(
            live.as_ref(),
            interfaces,
            &state,
            (all, overruled),
            now.wall,
            health,
        );
        let notify = live.as_ref().and_then(Live::notify);
        Ok(Self {
            sources,
            receivers: ReceiverReport::all(host, notify),
            moved: moved.transpose()?.unwrap_or_default(),
            pending,
            open,
            ..described
        })
    }

    fn of(
        live: Option<&Live>,
        interfaces: Vec<InterfaceReport>,
        state: &State,
        (bans, overruled_bans): (usize, usize),
        now: Timestamp,
        health: Health,
    ) -> Self {
        let description = live.map(|live| &live.generation.description);
        let services = description
            .iter()
            .flat_map(|description| &description.services);
        let services: Vec<_> = services.map(|found| found.service.clone()).collect();
        let attached = interfaces
            .iter()
            .any(|interface| interface.state == InterfaceState::Attached);
        let enforcing = services.iter().any(|service| service.mode == Mode::Enforce);
        let waits_or_counts = state.entries.iter().filter(|entry| !entry.ended(now));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            in_force: live.is_some(),
            enforced: attached && enforcing,
            generation: live.map(|live| live.number),
            applied: description.map(|description| description.applied),
            config: description.map(|description| description.config.clone()),
            mode: description.map(|description| description.mode),
            entries: EntryCounts {
                config: description.map_or(0, |description| description.entries),
                command_line: waits_or_counts.count(),
                bans,
                overruled_bans,
            },
            interfaces,
            services,
            sources: Vec::new(),
            receivers: Vec::new(),
            moved: Vec::new(),
            pending: None,
            health,
            open: Vec::new(),
        }
    }
}

fn is_overruled(live: Option<&Live>, ban: &Ban, now: Now) -> Result<bool, lifecycle::Error> {
    let Some(Live { generation, .. }) = live else {
        return Ok(false);
    };
    for found in &generation.description.services {
        if lifecycle::by_hand(generation, found.slot, ban.prefix, now)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
