//! What people want to know of a whole capture: how many packets would pass or not, why, whose, and what would change.

use std::{collections::BTreeMap, io::Write, net::IpAddr};

use anyhow::{Result, bail};
use sipguard::{
    capture::{Packet, Unread},
    datapath::Description,
};
use sipguard_ebpf::abi::{Action, COUNTERS, Reason};

use super::{
    super::Context,
    fate::{ALL_WORDS, Fate, Judge, Meaning, NUMBER, Words, is_verdict},
    own::{Conversations, Told},
    tally::{Count, Key, Row, Tally},
};
use crate::output::{self, Grouped, Palette, Rows};

/// How many sources are told.
const SOURCES: usize = 20;

/// So many sources are counted each by itself: a million, with two services each here and there. Takes 16 MiB.
const COUNTED: usize = 1_100_000;
/// The same of those for whom something would change: there are two of these, and another two.
const CHANGED: usize = 100_000;

pub(super) struct Summary {
    packets: u64,
    /// That this gateway has sent, as the capture or a person says.
    sent: u64,
    /// Cut so short by the capture that nothing can be said.
    cut: u64,
    left_out: BTreeMap<Unread, u64>,
    verdicts: Box<[u64; COUNTERS]>,
    /// By what their packets got, where that is a guarded port.
    sources: Tally,
    conversations: Conversations,
    told: Told,
    /// How many packets the addresses have sent that were taken for this gateway's.
    own_packets: Count,
    changes: Option<Box<Changes>>,
}

/// What would change against what is in force.
struct Changes {
    /// What passes now and would be dropped.
    to_drop: Change,
    /// What is dropped now and would pass.
    to_pass: Change,
}

struct Change {
    packets: u64,
    /// By what they get now and then.
    rows: Tally,
    sources: Tally,
}

impl Change {
    fn new() -> Self {
        Self {
            packets: 0,
            rows: Tally::new(CHANGED),
            sources: Tally::new(CHANGED),
        }
    }

    fn add(&mut self, source: Option<IpAddr>, now: Words, then: Words) {
        self.packets += 1;
        // Both are less than 272.
        let words = now * NUMBER + then;
        self.rows.add(Key { source, words });
        if source.is_some() {
            self.sources.add(Key { source, words: 0 });
        }
    }
}

impl Summary {
    pub(super) fn new(judge: &Judge) -> Self {
        Self {
            packets: 0,
            sent: 0,
            cut: 0,
            left_out: BTreeMap::new(),
            verdicts: Box::new([0; COUNTERS]),
            sources: Tally::new(COUNTED),
            conversations: Conversations::default(),
            told: Told::default(),
            own_packets: Count { least: 0, most: 0 },
            changes: judge.other_description().map(|_| {
                Box::new(Changes {
                    to_drop: Change::new(),
                    to_pass: Change::new(),
                })
            }),
        }
    }

    #[inline]
    pub(super) fn add(&mut self, judge: &Judge, packet: &Packet<'_>, fate: &Fate) {
        self.packets += 1;
        let (words, asked, now) = match fate {
            Fate::LeftOut(why) => {
                *self.left_out.entry(*why).or_default() += 1;
                return;
            }
            Fate::Sent => {
                self.sent += 1;
                return;
            }
            Fate::Judged { judged, words, now } => (*words, &judged.asked, *now),
        };
        if fate.is_cut(packet) {
            self.cut += 1;
            return;
        }
        self.verdicts[words as usize] += 1;
        if is_verdict(words)
            && let Some(asked) = asked
        {
            self.sources.add(Key {
                source: Some(asked.source()),
                words,
            });
            if let Some((source, destination)) = judge.conversation(packet, fate) {
                self.conversations.note(source, destination);
            }
        }
        if let (Some(changes), Some(now)) = (&mut self.changes, now) {
            let source = asked.map(|asked| asked.source());
            let is_lost = |words, description: Option<&Description>| {
                description.is_some_and(|it| Meaning::of(words, it).is_lost())
            };
            let is_lost_now = is_lost(now, judge.other_description());
            match (is_lost_now, is_lost(words, Some(judge.description()))) {
                (false, true) => changes.to_drop.add(source, now, words),
                (true, false) => changes.to_pass.add(source, now, words),
                _ => {}
            }
        }
    }

    /// Comes to an end; finds out which packets this gateway has sent, where nothing has said it.
    pub(super) fn finish(&mut self, judge: &Judge) {
        self.sources.settle();
        if let Some(changes) = &mut self.changes {
            for change in [&mut changes.to_drop, &mut changes.to_pass] {
                change.rows.settle();
                change.sources.settle();
            }
        }
        if !judge.must_recognise() {
            return;
        }
        let count = |address, words: Words| {
            self.sources.count(Key {
                source: Some(address),
                words,
            })
        };
        let guarded = || ALL_WORDS.filter(|&words| is_verdict(words));
        self.told = self.conversations.told();
        for own in &self.told.own {
            for words in guarded() {
                let count = count(own.address, words);
                if count.least > 0 {
                    self.own_packets.least += count.least;
                    self.own_packets.most += count.most;
                    self.verdicts[words as usize] -= count.least;
                }
            }
        }
    }

    /// The addresses that were taken for this gateway's own.
    pub(super) fn own(&self) -> Vec<IpAddr> {
        self.told.own.iter().map(|own| own.address).collect()
    }

    /// Fails where nothing could be judged of what there was.
    pub(super) fn judged_something(&self) -> Result<()> {
        let left_out: u64 = self.left_out.values().sum();
        if left_out > 0 && left_out == self.packets {
            bail!("nothing in it can be judged: {}", self.left_out_in_words());
        }
        Ok(())
    }

    fn left_out_in_words(&self) -> String {
        let mut words = Vec::new();
        for (why, &number) in &self.left_out {
            words.push(format!("{} {why}", Grouped(number)));
        }
        words.join(", ")
    }

    pub(super) fn write(
        &self,
        judge: &Judge,
        out: &mut dyn Write,
        context: &Context,
    ) -> Result<()> {
        let palette = context.palette;
        let (mut lost, mut watched) = (0, 0);
        for words in ALL_WORDS {
            let meaning = Meaning::of(words, judge.description());
            let number = self.verdicts[words as usize];
            lost += if meaning.is_lost() { number } else { 0 };
            watched += if meaning.is_watched() { number } else { 0 };
        }
        let judged: u64 = self.verdicts.iter().sum();
        writeln!(
            out,
            "{}, judged by {}: {} would pass, {} would be dropped",
            packets(self.packets),
            context.config.display(),
            Grouped(judged - lost),
            Grouped(lost)
        )?;
        if watched > 0 {
            writeln!(
                out,
                "monitor mode: {} would pass although the policy says drop",
                packets(watched)
            )?;
        }
        self.write_not_judged(out)?;
        if judged == 0 {
            return Ok(());
        }
        writeln!(out)?;
        self.by_reason(judge, palette).write(out)?;
        self.by_source(judge, out, palette)?;
        if let Some(changes) = &self.changes {
            compare(changes, judge, out, palette)?;
        }
        Ok(())
    }

    fn write_not_judged(&self, out: &mut dyn Write) -> Result<()> {
        if self.sent > 0 {
            let [verb, is] = if self.sent == 1 {
                ["was", "is"]
            } else {
                ["were", "are"]
            };
            writeln!(
                out,
                "{} {verb} sent by this gateway, and {is} not judged; `--in all` judges every packet",
                packets(self.sent)
            )?;
        }
        let left_out = self.left_out.values().sum();
        if left_out > 0 {
            writeln!(
                out,
                "{} can't be judged: {}",
                packets(left_out),
                self.left_out_in_words()
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
        for own in &self.told.own {
            writeln!(
                out,
                "{} was taken for an address of this gateway, because {}{} send to guarded ports of it, and it sends to such ports, too",
                own.address,
                output::count(own.senders, "other", "others"),
                if own.is_more { " or more" } else { "" },
            )?;
        }
        if !self.told.own.is_empty() {
            writeln!(
                out,
                "{} from there to guarded ports {} not judged; `--own ADDRESS` says better which addresses are its own, `--in all` judges every packet",
                counted(self.own_packets, "packet", "packets"),
                if self.own_packets.least == 1 {
                    "is"
                } else {
                    "are"
                },
            )?;
        }
        if let Some((one, other)) = self.told.unclear {
            writeln!(
                out,
                "{one} and {other} send to guarded ports of each other, and nothing tells which one is this gateway: both are judged; `--own ADDRESS` says which"
            )?;
        }
        Ok(())
    }

    fn by_reason(&self, judge: &Judge, palette: Palette) -> Rows {
        let mut found: Vec<_> = ALL_WORDS
            .map(|words| {
                (
                    Meaning::of(words, judge.description()),
                    self.verdicts[words as usize],
                )
            })
            .filter(|(_, number)| *number > 0)
            .collect();
        found.sort_by(|(one, number), (other, other_number)| {
            let names = (one.service, one.reason).cmp(&(other.service, other.reason));
            other_number.cmp(number).then(names)
        });
        let mut rows = Rows::new(&["REASON", "SERVICE", "ACTION", ">PACKETS"], palette);
        for (meaning, number) in found {
            let (style, action) = action(meaning.reason, palette);
            let service = meaning.service.unwrap_or("-");
            let cells = [named(meaning.reason), service, action].map(str::to_owned);
            rows.add(
                style,
                cells.into_iter().chain([Grouped(number).to_string()]),
            );
        }
        rows
    }

    fn by_source(&self, judge: &Judge, out: &mut dyn Write, palette: Palette) -> Result<()> {
        let own = self.own();
        let is_own = |row: &Row| row.key.source.is_some_and(|source| own.contains(&source));
        let (distinct, is_all) = self.sources.distinct();
        let rows = self.sources.rows();
        let own_rows = own
            .iter()
            .flat_map(|&address| ALL_WORDS.map(move |words| (address, words)))
            .filter(|&(address, words)| {
                let key = Key {
                    source: Some(address),
                    words,
                };
                self.sources.count(key).least > 0
            })
            .count();
        let distinct = distinct - own_rows;
        if distinct == 0 {
            return Ok(());
        }
        writeln!(out)?;
        let titles = ["SOURCE", "SERVICE", "ACTION", "REASON", ">PACKETS"];
        let mut table = Rows::new(&titles, palette);
        let rows: Vec<_> = rows
            .iter()
            .filter(|row| !is_own(row))
            .take(SOURCES)
            .collect();
        for Row { key, count } in &rows {
            let meaning = Meaning::of(key.words, judge.description());
            let (style, action) = action(meaning.reason, palette);
            let service = meaning.service.unwrap_or("-");
            let cells = [service, action, named(meaning.reason)].map(str::to_owned);
            let begin = [source(*key)];
            table.add(
                style,
                begin.into_iter().chain(cells).chain([grouped(*count)]),
            );
        }
        table.write(out)?;
        more(out, distinct - rows.len(), &self.sources, is_all)
    }
}

fn compare(changes: &Changes, judge: &Judge, out: &mut dyn Write, palette: Palette) -> Result<()> {
    writeln!(out)?;
    if changes.to_drop.packets == 0 && changes.to_pass.packets == 0 {
        writeln!(out, "nothing would change against what is in force")?;
        return Ok(());
    }
    for (change, [one, many], style) in [
        (
            &changes.to_drop,
            [
                "passes now and would be dropped",
                "pass now and would be dropped",
            ],
            palette.bad,
        ),
        (
            &changes.to_pass,
            [
                "is dropped now and would pass",
                "are dropped now and would pass",
            ],
            palette.good,
        ),
    ] {
        let (sources, is_all) = change.sources.distinct();
        writeln!(
            out,
            "{} from {}{} {what}",
            packets(change.packets),
            if is_all { "" } else { "more than " },
            output::count(sources, "source", "sources"),
            what = if change.packets == 1 { one } else { many }
        )?;
        if change.packets == 0 {
            continue;
        }
        let titles = ["SOURCE", "SERVICE", "NOW", "THEN", ">PACKETS"];
        let mut rows = Rows::new(&titles, palette);
        let (distinct, is_all) = change.rows.distinct();
        let found = change.rows.rows();
        let shown = &found[..found.len().min(SOURCES)];
        for Row { key, count } in shown {
            let then = Meaning::of(key.words % NUMBER, judge.description());
            let now = judge
                .other_description()
                .map(|description| Meaning::of(key.words / NUMBER, description));
            let now_service = now.and_then(|now| now.service);
            let service = then.service.or(now_service).unwrap_or("-").to_owned();
            let now = now.map_or("-", |now| named(now.reason));
            let verdicts = [now, named(then.reason)].map(str::to_owned);
            rows.add(
                style,
                [source(*key), service]
                    .into_iter()
                    .chain(verdicts)
                    .chain([grouped(*count)]),
            );
        }
        rows.write(out)?;
        more(out, distinct - shown.len(), &change.rows, is_all)?;
    }
    Ok(())
}

fn source(key: Key) -> String {
    key.source
        .map_or_else(|| "-".to_owned(), |source| source.to_string())
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

/// So many, or where nobody knows that at least so many.
fn grouped(count: Count) -> String {
    let at_least = if count.most > count.least { "≥ " } else { "" };
    format!("{at_least}{}", Grouped(count.least))
}

fn counted(count: Count, one: &str, many: &str) -> String {
    let word = if count.least == 1 { one } else { many };
    format!("{} {word}", grouped(count))
}

fn packets(number: u64) -> String {
    let word = if number == 1 { "packet" } else { "packets" };
    format!("{} {word}", Grouped(number))
}

/// What was not shown, and what is not exact.
fn more(out: &mut dyn Write, rows: usize, tally: &Tally, is_all: bool) -> Result<()> {
    if rows > 0 {
        let more = if is_all { "" } else { "more than " };
        writeln!(out, "and {more}{} more like these", Grouped(rows as u64))?;
    }
    if !is_all {
        writeln!(
            out,
            "there are too many to count each by itself: behind ≥ up to {} may be missing, and whoever is not shown may have that many; the other numbers are exact",
            packets(tally.missed().into())
        )?;
    }
    Ok(())
}
