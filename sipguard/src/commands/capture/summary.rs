//! What people want to know of a whole capture: how many packets would pass or not, why, whose, and what would change.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    io::Write,
    net::IpAddr,
};

use anyhow::Result;
use sipguard_ebpf::abi::{Action, Reason};

use super::{super::Context, Verdict};
use crate::output::{self, Grouped, Palette, Rows};

/// How many sources are told.
const SOURCES: usize = 20;

/// Verdicts as they are counted.
type Words<'d> = (Option<&'d str>, Reason);

#[derive(Default)]
pub(super) struct Summary<'d> {
    packets: u64,
    lost: u64,
    /// Dropped by a policy that only watches.
    watched: u64,
    /// Cut so short by the capture that nothing can be said.
    cut: u64,
    verdicts: HashMap<Words<'d>, u64>,
    sources: HashMap<(IpAddr, Words<'d>), u64>,
    compared: bool,
    /// That pass now and would be dropped; by source, with the verdict now and then.
    to_drop: Changes<'d>,
    /// That are dropped now and would pass.
    to_pass: Changes<'d>,
}

type Changes<'d> = HashMap<(Option<IpAddr>, Words<'d>, Words<'d>), u64>;

impl<'d> Summary<'d> {
    pub(super) fn add(
        &mut self,
        source: Option<IpAddr>,
        truncated: bool,
        verdict: Verdict<'d>,
        now: Option<Verdict<'d>>,
    ) {
        self.packets += 1;
        if truncated && verdict.reason == Reason::Malformed {
            self.cut += 1;
            return;
        }
        let words = (verdict.service, verdict.reason);
        self.lost += u64::from(verdict.is_lost());
        self.watched += u64::from(!verdict.enforced && verdict.reason.action() == Action::Drop);
        count(&mut self.verdicts, words);
        if let (Some(source), true) = (source, verdict.reason != Reason::None) {
            count(&mut self.sources, (source, words));
        }
        if let Some(now) = now {
            self.compared = true;
            let change = (source, (now.service, now.reason), words);
            match (now.is_lost(), verdict.is_lost()) {
                (false, true) => count(&mut self.to_drop, change),
                (true, false) => count(&mut self.to_pass, change),
                _ => {}
            }
        }
    }

    pub(super) fn write(&self, out: &mut dyn Write, context: &Context) -> Result<()> {
        let palette = context.palette;
        writeln!(
            out,
            "{}, judged by {}: {} would pass, {} would be dropped",
            packets(self.packets),
            context.config.display(),
            Grouped(self.packets - self.lost - self.cut),
            Grouped(self.lost)
        )?;
        if self.watched > 0 {
            writeln!(
                out,
                "monitor mode: {} would pass although the policy says drop",
                packets(self.watched)
            )?;
        }
        if self.cut > 0 {
            writeln!(
                out,
                "{} can't be judged, because the capture holds too little of {}; `tcpdump -s 0` keeps all",
                packets(self.cut),
                if self.cut == 1 { "it" } else { "them" }
            )?;
        }
        if self.verdicts.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        self.by_reason(palette).write(out)?;
        if !self.sources.is_empty() {
            writeln!(out)?;
            self.by_source(palette).write(out)?;
            more(out, self.sources.len())?;
        }
        if self.compared {
            self.compare(out, palette)?;
        }
        Ok(())
    }

    fn by_reason(&self, palette: Palette) -> Rows {
        let mut rows = Rows::new(&["REASON", "SERVICE", "ACTION", ">PACKETS"], palette);
        for (&(service, reason), &number) in sorted(&self.verdicts) {
            let (style, action) = action(reason, palette);
            let cells = [named(reason), service.unwrap_or("-"), action].map(str::to_owned);
            rows.add(style, cells.into_iter().chain([grouped(number)]));
        }
        rows
    }

    fn by_source(&self, palette: Palette) -> Rows {
        let titles = ["SOURCE", "SERVICE", "ACTION", "REASON", ">PACKETS"];
        let mut rows = Rows::new(&titles, palette);
        for (&(source, (service, reason)), &number) in
            sorted(&self.sources).into_iter().take(SOURCES)
        {
            let (style, action) = action(reason, palette);
            let cells = [service.unwrap_or("-"), action, named(reason)].map(str::to_owned);
            let begin = [source.to_string()];
            rows.add(
                style,
                begin.into_iter().chain(cells).chain([grouped(number)]),
            );
        }
        rows
    }

    fn compare(&self, out: &mut dyn Write, palette: Palette) -> Result<()> {
        writeln!(out)?;
        if self.to_drop.is_empty() && self.to_pass.is_empty() {
            writeln!(out, "nothing would change against what is in force")?;
            return Ok(());
        }
        for (changes, [one, many], style) in [
            (
                &self.to_drop,
                [
                    "passes now and would be dropped",
                    "pass now and would be dropped",
                ],
                palette.bad,
            ),
            (
                &self.to_pass,
                [
                    "is dropped now and would pass",
                    "are dropped now and would pass",
                ],
                palette.good,
            ),
        ] {
            let number = changes.values().sum();
            let sources: HashSet<_> = changes.keys().filter_map(|(source, ..)| *source).collect();
            writeln!(
                out,
                "{} from {} {what}",
                packets(number),
                output::count(sources.len(), "source", "sources"),
                what = if number == 1 { one } else { many }
            )?;
            if changes.is_empty() {
                continue;
            }
            let titles = ["SOURCE", "SERVICE", "NOW", "THEN", ">PACKETS"];
            let mut rows = Rows::new(&titles, palette);
            for (&(source, now, then), &number) in sorted(changes).into_iter().take(SOURCES) {
                let source = source.map_or_else(|| "-".to_owned(), |source| source.to_string());
                let service = then.0.or(now.0).unwrap_or("-").to_owned();
                let verdicts = [now, then].map(|(_, reason)| named(reason).to_owned());
                rows.add(
                    style,
                    [source, service]
                        .into_iter()
                        .chain(verdicts)
                        .chain([grouped(number)]),
                );
            }
            rows.write(out)?;
            more(out, changes.len())?;
        }
        Ok(())
    }
}

fn count<K: Eq + Hash>(counts: &mut HashMap<K, u64>, key: K) {
    *counts.entry(key).or_default() += 1;
}

/// The most frequent first; otherwise in an order that is the same every time.
fn sorted<K: Copy + Ord>(counts: &HashMap<K, u64>) -> Vec<(&K, &u64)> {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_unstable_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
    sorted
}

fn named(reason: Reason) -> &'static str {
    match reason {
        Reason::None => "not guarded",
        reason => reason.name(),
    }
}

fn action(reason: Reason, palette: Palette) -> (anstyle::Style, &'static str) {
    match reason.action() {
        Action::Pass => (palette.good, "pass"),
        Action::Drop => (palette.bad, "drop"),
    }
}

fn grouped(number: u64) -> String {
    Grouped(number).to_string()
}

fn packets(number: u64) -> String {
    let word = if number == 1 { "packet" } else { "packets" };
    format!("{} {word}", Grouped(number))
}

fn more(out: &mut dyn Write, rows: usize) -> Result<()> {
    if rows > SOURCES {
        writeln!(
            out,
            "and {} more like these",
            Grouped((rows - SOURCES) as u64)
        )?;
    }
    Ok(())
}
