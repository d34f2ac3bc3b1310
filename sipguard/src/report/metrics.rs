//! The same values as metrics, in Prometheus' text format (version 0.0.4): `stats --format prometheus`, and the file that the agent keeps
//! for node_exporter's textfile collector.
//!
//! Every metric is here, and docs/prometheus.md has them all. Units are base units, what only grows ends in `_total`, and what describes is
//! a gauge of 1 (`# TYPE … info` is refused by node_exporter and by promtool). Labels are what a config has few of (interfaces, services,
//! sources) and words of sipguard's own; no address is ever one, for there is one for every packet.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, Write},
    path::Path,
};

use jiff::Timestamp;
use serde::Serialize;
use sipguard_ebpf::abi::Action;
use sipguard_lists::replace;

use super::{
    CounterReport, CountersReport, InterfaceState, ReceiverReport, SourceReport, StatusReport,
};
use crate::{
    agent::happened,
    policy::{Mode, Service},
};

/// Where the agent keeps them, for whoever collects files.
pub const TEXTFILE: &str = "/run/sipguard/metrics.prom";

/// What is told.
#[derive(Clone, Copy, Debug)]
pub struct Metrics<'r> {
    /// Exact, from the kernel; cheap to take.
    pub counters: &'r CountersReport,
    /// May be of some time before the counters: it costs a look at everything.
    pub status: &'r StatusReport,
    /// What the agent says of itself; only it knows.
    pub agent: Option<&'r AgentReport>,
}

/// What the agent counts, since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentReport {
    /// Events that it read.
    pub events: u64,
    /// Events that the kernel left out, because it had told of their source, or as many as it was granted.
    pub left_out: u64,
    /// Events that found no room on their way.
    pub lost: u64,
    /// How often each thing happened.
    happened: BTreeMap<happened::Kind, u64>,
}

impl AgentReport {
    /// Counts something that happened.
    pub fn happened(&mut self, kind: happened::Kind) {
        *self.happened.entry(kind).or_default() += 1;
    }
}

/// A metric that each source has: its name, its help, and what it is.
type OfSources<T> = (&'static str, &'static str, fn(&SourceReport) -> T);

/// The same that each receiver has.
type OfReceivers = (&'static str, Kind, &'static str, fn(&ReceiverReport) -> u64);

/// What a number is.
#[derive(Clone, Copy)]
enum Kind {
    /// It only grows, and begins at 0 again at times.
    Counter,
    /// It is what it is now.
    Gauge,
}

use Kind::{Counter, Gauge};

impl Metrics<'_> {
    /// Writes all of them.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = Families(out);
        self.write_filter(&mut out)?;
        self.write_counters(&mut out)?;
        self.write_interfaces(&mut out)?;
        self.write_entries(&mut out)?;
        self.write_sources(&mut out)?;
        self.write_receivers(&mut out)?;
        match self.agent {
            Some(agent) => write_agent(agent, &mut out),
            None => Ok(()),
        }
    }

    /// Replaces a file that others read while it is: they see all of the old one or all of the new one. Everybody may read it.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn replace(&self, file: &Path) -> io::Result<()> {
        let (Some(folder), Some(name)) =
            (file.parent(), file.file_name().and_then(|it| it.to_str()))
        else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        let mut text = Vec::new();
        self.write(&mut text)?;
        // node_exporter reads `*.prom`, which what is being written is not.
        replace::stage(folder, name, 0o644, |file| file.write_all(&text))?.commit()
    }

    fn write_filter(&self, out: &mut Families<'_>) -> io::Result<()> {
        let status = self.status;
        out.one(
            "sipguard_info",
            Gauge,
            "Always 1; the label says which version of sipguard this is.",
            &[("version", status.version)],
            1,
        )?;
        out.one(
            "sipguard_guarded",
            Gauge,
            "Whether this host is guarded as its config says (1) or something is open that should not be (0).",
            &[],
            status.health.guarded,
        )?;
        let mut findings: Vec<([(&str, String); 2], u64)> = Vec::new();
        for finding in &status.health.findings {
            let labels = [
                ("kind", word(&finding.kind)),
                ("severity", word(&finding.severity)),
            ];
            match findings.iter_mut().find(|(known, _)| *known == labels) {
                Some((_, count)) => *count += 1,
                None => findings.push((labels, 1)),
            }
        }
        out.family(
            "sipguard_findings",
            Gauge,
            "What `sipguard doctor` finds: how many of each kind there are. Severity open: not guarded, wrong: guarded, advice: could be better.",
            findings,
        )?;
        out.one(
            "sipguard_generation",
            Gauge,
            "The generation in force; 0 where nothing is.",
            &[],
            status.generation.unwrap_or_default(),
        )?;
        out.time(
            "sipguard_applied_timestamp_seconds",
            "When the generation in force was applied.",
            status.applied,
        )?;
        out.one(
            "sipguard_apply_pending",
            Gauge,
            "Whether an apply waits for `sipguard confirm`.",
            &[],
            status
                .pending
                .as_ref()
                .is_some_and(|pending| !pending.lapsed),
        )?;
        out.family(
            "sipguard_service_enforced",
            Gauge,
            "Whether what a service's verdicts say is done (1, mode enforce) or only counted (0, mode monitor).",
            status.services.iter().map(|Service { name, mode, .. }| ([("service", name)], *mode == Mode::Enforce)),
        )
    }

    fn write_counters(&self, out: &mut Families<'_>) -> io::Result<()> {
        let mut counters = BTreeMap::<_, (u64, u64)>::new();
        for counter in &self.counters.counters {
            // Of services that are gone, not even the name may be known.
            let (packets, bytes) = counters.entry(verdict(counter)).or_default();
            *packets += counter.packets;
            *bytes += counter.bytes;
        }
        out.family(
            "sipguard_packets_total",
            Counter,
            "Packets to guarded ports, and broken ones, by what became of them; would_drop: they came in monitor mode and passed.",
            counters.iter().map(|(labels, (packets, _))| (labels, *packets)),
        )?;
        out.family(
            "sipguard_bytes_total",
            Counter,
            "Bytes of the frames of these packets.",
            counters.iter().map(|(labels, (_, bytes))| (labels, *bytes)),
        )?;
        let since = self
            .counters
            .interfaces
            .iter()
            .filter_map(|it| Some(([("interface", &it.interface)], it.since?.as_second())));
        out.family(
            "sipguard_counting_since_timestamp_seconds",
            Gauge,
            "Since when an interface's packets have been counted.",
            since,
        )
    }

    fn write_interfaces(&self, out: &mut Families<'_>) -> io::Result<()> {
        let interfaces = || self.status.interfaces.iter();
        out.family(
            "sipguard_interface_attached",
            Gauge,
            "Whether an interface that is to be filtered is. Where sipguard_findings has program_does_not_run, that is not enough.",
            interfaces().map(|it| ([("interface", &it.name)], it.state == InterfaceState::Attached)),
        )?;
        out.family(
            "sipguard_interface_info",
            Gauge,
            "Always 1; the labels say where an interface is filtered (native: in its driver) and what state it is in.",
            interfaces().map(|it| {
                let mode = it.mode.map_or("", |hook| hook.name());
                ([("interface", it.name.clone()), ("mode", mode.to_owned()), ("state", word(&it.state))], 1)
            }),
        )
    }

    fn write_entries(&self, out: &mut Families<'_>) -> io::Result<()> {
        let entries = self.status.entries;
        out.family(
            "sipguard_entries",
            Gauge,
            "Entries, by who said them. Those of live sources are in sipguard_source_entries.",
            [
                ("config", entries.config),
                ("command_line", entries.command_line),
                ("ban", entries.bans),
            ]
            .map(|(origin, count)| ([("origin", origin)], count)),
        )?;
        out.one(
            "sipguard_overruled_bans",
            Gauge,
            "Bans that decide nothing in some service, because an entry by hand covers them.",
            &[],
            entries.overruled_bans,
        )
    }

    fn write_sources(&self, out: &mut Families<'_>) -> io::Result<()> {
        let sources = || self.status.sources.iter();
        out.family(
            "sipguard_source_info",
            Gauge,
            "Always 1; the labels say of which kind a live source is.",
            sources().map(|it| ([("kind", it.kind), ("source", &it.source)], 1)),
        )?;
        out.family(
            "sipguard_source_entries",
            Gauge,
            "Entries of a live source's last good copy.",
            sources().map(|it| (of(it), it.entries.unwrap_or_default())),
        )?;
        out.family(
            "sipguard_source_entries_in_kernel",
            Gauge,
            "Entries of a live source in the kernel, in the service that has the fewest of those that name it.",
            sources().map(|it| (of(it), it.in_kernel)),
        )?;
        out.family(
            "sipguard_source_entries_overruled",
            Gauge,
            "Entries of a live source that decide nothing in some service, because an entry by hand says the opposite there.",
            sources().map(|it| (of(it), it.overruled)),
        )?;
        let moments: [OfSources<Option<Timestamp>>; 4] = [
            (
                "sipguard_source_asked_timestamp_seconds",
                "When others were asked for a live source last.",
                |it| it.asked,
            ),
            (
                "sipguard_source_answered_timestamp_seconds",
                "When they answered last.",
                |it| it.answered,
            ),
            (
                "sipguard_source_changed_timestamp_seconds",
                "Since when a live source has been what it is.",
                |it| it.changed,
            ),
            (
                "sipguard_source_next_timestamp_seconds",
                "When others will be asked for a live source again.",
                |it| it.next,
            ),
        ];
        for (name, help, moment) in moments {
            out.family(
                name,
                Gauge,
                help,
                sources().filter_map(|it| Some((of(it), moment(it)?.as_second()))),
            )?;
        }
        let troubles: [OfSources<bool>; 3] = [
            (
                "sipguard_source_failed",
                "Whether the last try to ask for a live source failed, all or in part.",
                |it| it.error.is_some(),
            ),
            (
                "sipguard_source_refused",
                "Whether what was found last is not in force, because it breaks a bound.",
                |it| it.refused.is_some(),
            ),
            (
                "sipguard_source_stale",
                "Whether a live source has been the same for longer than its stale_after.",
                |it| it.stale,
            ),
        ];
        for (name, help, is_so) in troubles {
            out.family(name, Gauge, help, sources().map(|it| (of(it), is_so(it))))?;
        }
        Ok(())
    }

    fn write_receivers(&self, out: &mut Families<'_>) -> io::Result<()> {
        let numbers: [OfReceivers; 4] = [
            (
                "sipguard_notices_sent_total",
                Counter,
                "Notices that were sent to a receiver.",
                |it| it.sent,
            ),
            (
                "sipguard_notices_lost_total",
                Counter,
                "Notices that made room for others before they could be sent.",
                |it| it.lost,
            ),
            (
                "sipguard_notices_waiting",
                Gauge,
                "Notices that are still to be sent.",
                |it| it.waiting,
            ),
            (
                "sipguard_notices_failing",
                Gauge,
                "Whether something waits that a receiver did not take, or that nobody tries to send.",
                |it| u64::from(it.failing.is_some()),
            ),
        ];
        for (name, kind, help, number) in numbers {
            let samples = self
                .status
                .receivers
                .iter()
                .map(|it| ([("receiver", it.receiver)], number(it)));
            out.family(name, kind, help, samples)?;
        }
        Ok(())
    }
}

fn write_agent(agent: &AgentReport, out: &mut Families<'_>) -> io::Result<()> {
    let counters = [
        (
            "sipguard_events_total",
            "Events that the agent read; they are a sample, and no count of packets.",
            agent.events,
        ),
        (
            "sipguard_events_left_out_total",
            "Events that the kernel left out: their source was told of, or enough was.",
            agent.left_out,
        ),
        (
            "sipguard_events_lost_total",
            "Events that found no room on their way to the agent.",
            agent.lost,
        ),
    ];
    for (name, help, value) in counters {
        out.one(name, Counter, help, &[], value)?;
    }
    out.family(
        happened::Kind::METRIC,
        Counter,
        "What happened, as the journal has it in SIPGUARD_HAPPENED.",
        happened::Kind::all().map(|kind| {
            (
                [("what", kind.name())],
                agent.happened.get(&kind).copied().unwrap_or_default(),
            )
        }),
    )
}

/// The labels of a counter. What passes, passes in both modes alike.
fn verdict(counter: &CounterReport) -> [(&'static str, &str); 4] {
    [
        ("interface", &counter.interface),
        // An empty label is none.
        ("service", counter.service.as_deref().unwrap_or_default()),
        ("reason", counter.reason.name()),
        (
            "verdict",
            match (counter.reason.action(), counter.enforced) {
                (Action::Pass, _) => "pass",
                (Action::Drop, true) => "drop",
                (Action::Drop, false) => "would_drop",
            },
        ),
    ]
}

fn of(source: &SourceReport) -> [(&'static str, &str); 1] {
    [("source", &source.source)]
}

/// The word that JSON has for it.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// A number as it is written.
trait Value {
    fn written(&self) -> String;
}

impl Value for bool {
    fn written(&self) -> String {
        u8::from(*self).to_string()
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(impl Value for $number {
            fn written(&self) -> String {
                self.to_string()
            }
        })*
    };
}

numbers!(i32 i64 u64 usize);

/// Writes families: what a metric is, and then its samples.
struct Families<'w>(&'w mut dyn Write);

impl Families<'_> {
    /// One that has samples; of one that has none, nothing is said.
    fn family<L, K, V>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> io::Result<()>
    where
        L: AsRef<[(&'static str, K)]>,
        K: AsRef<str>,
        V: Value,
    {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let kind = match kind {
            Counter => "counter",
            Gauge => "gauge",
        };
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        let mut known = HashSet::new();
        for (labels, value) in samples {
            let labels = labels
                .as_ref()
                .iter()
                .map(|(label, text)| format!("{label}=\"{}\"", escaped(text.as_ref())));
            let labels = labels.collect::<Vec<_>>().join(",");
            let labels = if labels.is_empty() {
                labels
            } else {
                format!("{{{labels}}}")
            };
            // An interface that was renamed and another one that has got its name now are both called so, and a sample that is there twice
            // has all of them refused.
            if known.insert(labels.clone()) {
                writeln!(self.0, "{name}{labels} {}", value.written())?;
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        labels: &[(&'static str, &str)],
        value: impl Value,
    ) -> io::Result<()> {
        self.family(name, kind, help, [(labels, value)])
    }

    fn time(&mut self, name: &str, help: &str, time: Option<Timestamp>) -> io::Result<()> {
        let labels: &[(&'static str, &str)] = &[];
        self.family(
            name,
            Gauge,
            help,
            time.map(|time| (labels, time.as_second())),
        )
    }
}

/// A label's text: the names of interfaces may hold nearly anything.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests;
