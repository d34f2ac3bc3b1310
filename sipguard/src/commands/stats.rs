//! `sipguard stats`.
//!
//! JSON, one object (with `--watch` one a line and second):
//! ```json
//! {"time":"2026-03-01T12:00:00Z","generation":3,
//!  "interfaces":[{"interface":"eth0","since":"2026-03-01T09:00:00Z"}],
//!  "counters":[{"interface":"eth0","service":"sip","reason":"unlisted","action":"drop","enforced":true,"mode":"enforce","packets":12,
//!               "bytes":5160,"packets_per_second":null,"bytes_per_second":null}],
//!  "totals":{"pass":{"packets":3,"bytes":1290},"drop":{"packets":12,"bytes":5160},"dropped":{"packets":12,"bytes":5160},
//!            "passed_in_monitor":{"packets":0,"bytes":0}}}
//! ```
//! `since` is when the interface's counters were zero: when it was first guarded after the start of the host or the last `sipguard down`; null
//! where an earlier version of sipguard began to count. `service` is null for packets that no service judged. `action` is what the policy
//! says; where it is `drop` and `enforced` is false, the packets came in monitor mode and passed all the same. `mode` is the mode in which
//! the counter counts now: after a change of mode there may be a counter for each. In `totals`, `dropped` and `passed_in_monitor` together are `drop`.
//! Where an apply with `--confirm` from monitor to enforce mode runs out unconfirmed, all that came since that apply is taken for passed:
//! nobody was there to count when the time was over. Rates come with the second line of `--watch`. Counters that a service in force can
//! have are there though they are zero, so that a program finds the same ones each time.
//!
//! `--format prometheus` prints the metrics of `report/metrics.rs`, which docs/prometheus.md lists.

use std::{io::Write, time::Duration};

use anyhow::Result;
use sipguard::{
    datapath::Trust,
    policy::Mode,
    report::{
        CountedInterface, CounterReport, CountersReport, Metrics, PacketsAndBytes, StatusReport,
    },
};
use sipguard_ebpf::abi::Action;
use tokio::{
    runtime,
    signal::ctrl_c,
    time::{MissedTickBehavior, interval},
};

use super::{Context, needs_root, write_json};
use crate::{
    cli::{Stats, StatsFormat},
    output::{Grouped, Palette, Rows, Scaled, joined, local, rough},
};

/// Blank screen, cursor in the corner.
const CLEAR: &str = "\x1b[H\x1b[2J";
const EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(stats: &Stats, context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    if stats.watch {
        return runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(watch(context, out));
    }
    let counters = CountersReport::take(&context.host)?;
    match stats.format {
        StatsFormat::Table => show(out, &counters, context),
        StatsFormat::Prometheus => {
            let report = StatusReport::take(&context.host, &context.config, Trust::Seen)?;
            let metrics = Metrics {
                counters: &counters,
                status: &report,
                // What it counts it writes to its own file.
                agent: None,
            };
            Ok(metrics.write(out)?)
        }
    }
}

async fn watch(context: &Context, out: &mut dyn Write) -> Result<()> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(CountersReport, u64)> = None;
    let stopped = ctrl_c();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            stopped = &mut stopped => return Ok(stopped?),
        }
        let taken = context.host.now().boot_ns;
        let mut report = CountersReport::take(&context.host)?;
        if let Some((before, then)) = &before {
            report.rates(before, Duration::from_nanos(taken.saturating_sub(*then)));
        }
        if context.terminal && !context.json {
            write!(out, "{CLEAR}")?;
        } else if before.is_some() && !context.json {
            writeln!(out)?;
        }
        show(out, &report, context)?;
        out.flush()?;
        before = Some((report, taken));
    }
}

fn show(out: &mut dyn Write, report: &CountersReport, context: &Context) -> Result<()> {
    if context.json {
        write_json(out, report)
    } else {
        Tables { report }.write(out, context.palette)
    }
}

/// For people.
struct Tables<'a> {
    report: &'a CountersReport,
}

impl Tables<'_> {
    fn write(&self, out: &mut dyn Write, palette: Palette) -> Result<()> {
        if self.report.generation.is_none() {
            let bad = palette.bad;
            writeln!(
                out,
                "{bad}nothing is in force:{bad:#} no packet is counted or dropped"
            )?;
            if self.report.counters.is_empty() {
                return Ok(());
            }
        }
        let rates = self
            .report
            .counters
            .iter()
            .any(|counter| counter.packets_per_second.is_some());
        if rates {
            let dim = palette.dim;
            writeln!(out, "{dim}{}{dim:#}", local(self.report.time))?;
        }
        self.write_since(out, palette)?;
        self.write_counters(out, rates, palette)?;
        self.write_totals(out, palette)
    }

    fn write_since(&self, out: &mut dyn Write, palette: Palette) -> Result<()> {
        let dim = palette.dim;
        let since = |interface: &CountedInterface| match interface.since {
            Some(since) => {
                let passed = self.report.time.duration_since(since).as_secs();
                format!("since {} ({})", local(since), rough(passed))
            }
            None => "since an earlier version of sipguard began to count".to_owned(),
        };
        let mut lines: Vec<_> = self.report.interfaces.iter().map(since).collect();
        lines.dedup();
        if let [line] = &lines[..] {
            writeln!(out, "{dim}{line}{dim:#}")?;
        } else {
            for interface in &self.report.interfaces {
                let line = since(interface);
                writeln!(out, "{dim}{}: {line}{dim:#}", interface.interface)?;
            }
        }
        if !lines.is_empty() {
            writeln!(out)?;
        }
        Ok(())
    }

    fn write_counters(&self, out: &mut dyn Write, rates: bool, palette: Palette) -> Result<()> {
        let mut titles = vec![
            "INTERFACE",
            "SERVICE",
            "VERDICT",
            "REASON",
            ">PACKETS",
            ">BYTES",
        ];
        if rates {
            titles.extend([">PACKETS/S", ">BITS/S"]);
        }
        let mut rows = Rows::new(&titles, palette);
        for counter in &self.report.counters {
            let style = match (counter.packets, counter.reason.action()) {
                (0, _) => palette.dim,
                (_, Action::Pass) => palette.good,
                (_, Action::Drop) => palette.bad,
            };
            let verdict = match (counter.action, counter.enforced) {
                ("drop", false) => "would drop",
                (action, _) => action,
            };
            let mut cells = vec![
                counter.interface.clone(),
                counter.service.clone().unwrap_or_else(|| "-".to_owned()),
                verdict.to_owned(),
                counter.reason.name().to_owned(),
                Grouped(counter.packets).to_string(),
                Scaled(counter.bytes, "B").to_string(),
            ];
            if rates {
                cells.extend([
                    Grouped(counter.packets_per_second.unwrap_or_default()).to_string(),
                    Scaled(
                        counter
                            .bytes_per_second
                            .unwrap_or_default()
                            .saturating_mul(8),
                        "bit",
                    )
                    .to_string(),
                ]);
            }
            rows.add(style, cells);
        }
        Ok(rows.write(out)?)
    }

    fn write_totals(&self, out: &mut dyn Write, palette: Palette) -> Result<()> {
        let totals = self.report.totals;
        let much =
            |of: PacketsAndBytes| format!("{} ({})", Grouped(of.packets), Scaled(of.bytes, "B"));
        write!(
            out,
            "\npassed {}, dropped {}",
            much(totals.pass),
            much(totals.dropped)
        )?;
        let is_monitored = |counter: &CounterReport| counter.mode == Mode::Monitor;
        let monitored = self.report.counters.iter().any(is_monitored);
        if monitored || totals.passed_in_monitor != PacketsAndBytes::default() {
            let passed = much(totals.passed_in_monitor);
            write!(out, ", let through by monitor mode {passed}")?;
        }
        writeln!(out)?;
        if monitored {
            let warning = palette.warning;
            let whose = self.monitored();
            writeln!(
                out,
                "{warning}monitor mode{whose}: packets that the config would drop pass{warning:#}"
            )?;
        }
        Ok(())
    }

    /// ` for web`, or nothing where all of it is.
    fn monitored(&self) -> String {
        let (enforced, watched): (Vec<_>, Vec<_>) = self
            .report
            .counters
            .iter()
            .filter(|counter| counter.action == "drop")
            .partition(|counter| counter.mode == Mode::Enforce);
        let mut services: Vec<_> = watched
            .into_iter()
            .map(|counter| counter.service.as_deref().unwrap_or("broken packets"))
            .collect();
        services.sort_unstable();
        services.dedup();
        if enforced.is_empty() {
            String::new()
        } else {
            format!(" for {}", joined(services))
        }
    }
}
