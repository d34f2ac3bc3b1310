//! `sipguard list`.
//!
//! JSON, one object a line and entry, sorted by address:
//! `{"prefix":"203.0.113.0/24","service":"sip","action":"allow","until":null,"seconds_left":null,"origin":"config","source":"providers",
//! "file":null,"comment":null,"in_force":true}`. `origin` is `config`, `command line`, `ban` (of another program, which is the `source`) or
//! `live` (a live source; of names, the `comment` says which); `in_force` is false for what waits for the next apply, and then the service of a
//! ban is `all`. `"overruled":true` is added where something else counts now, for good or until that ends: another word on the same prefix, or
//! for what is `live` or a `ban` an entry by hand that covers it.

mod feed;

use std::io::Write;

use anyhow::{Result, bail};
use ipnet::IpNet;
use jiff::Timestamp;
use sipguard::{
    datapath,
    lifecycle::{self, Live},
    policy, prefix,
    report::{EntryOrigin, EntryReport, Listing},
};

use self::feed::Feed;
use super::{Context, live, write_json};
use crate::{
    cli::{List, ListFormat, Prefixes},
    output::{Grouped, Palette, count, rough},
};

pub(super) fn run(list: &List, context: &Context, out: &mut dyn Write) -> Result<()> {
    let live = live(context)?;
    let state = lifecycle::state(&context.host);
    let wanted = Wanted {
        service: list.service.as_deref(),
        action: list.action.map(Into::into),
        own: list.own,
        prefix: list.prefix.as_ref(),
    };
    if let Some(live) = &live
        && let Some(name) = wanted.service
    {
        // One that does not exist is a mistake, not an empty list.
        lifecycle::service(&live.generation.description, name)?;
    }
    let now = lifecycle::now(&context.host, &state);
    let bans = lifecycle::bans(&context.host, &state);
    let in_force = live.as_ref();
    let entries = Listing::take(&context.host, in_force, &state, &bans, now, move |entry| {
        wanted.may_have(in_force, entry)
    })?;
    let listing = Selection {
        live: live.as_ref(),
        entries,
        wanted,
    };
    if context.json {
        return listing.each(|entry| write_json(out, entry));
    }
    match list.format {
        ListFormat::Commands => {
            // What has an end is said last: what has none would take its place.
            for timed in [false, true] {
                listing.each(|entry| {
                    if entry.until.is_some() == timed {
                        command(out, entry)
                    } else {
                        Ok(())
                    }
                })?;
            }
            Ok(())
        }
        ListFormat::Prefixes => listing.prefixes(out),
        ListFormat::Table => listing.table(out, context),
        ListFormat::Ipset => listing.feed()?.ipset(&listing.services(), out),
        ListFormat::Nft => listing.feed()?.nft(&listing.services(), out),
        ListFormat::Toml => match &live {
            Some(live) => listing.feed()?.toml(&live.generation.description, out),
            None => bail!("nothing is in force: `sipguard apply` puts the config file in force"),
        },
    }
}

/// Which entries are wanted.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    service: Option<&'a str>,
    action: Option<policy::Action>,
    own: bool,
    prefix: Option<&'a Prefixes>,
}

impl Wanted<'_> {
    fn is_part(&self) -> bool {
        self.service.is_some() || self.action.is_some() || self.own || self.prefix.is_some()
    }

    fn may_have(&self, live: Option<&Live>, entry: &datapath::Entry) -> bool {
        let slot = |name| {
            let description = live.map(|live| &live.generation.description);
            Some(description?.service(name)?.slot)
        };
        self.prefix.is_none_or(|prefix| prefix.touch(entry.prefix))
            && (self.service).is_none_or(|name| slot(name) == Some(entry.service))
    }

    fn has(&self, entry: &EntryReport<'_>) -> bool {
        self.service.is_none_or(|service| service == entry.service)
            && self.action.is_none_or(|action| action == entry.action)
            && (!self.own || entry.origin == EntryOrigin::CommandLine)
            && self.prefix.is_none_or(|prefix| prefix.touch(entry.prefix))
    }
}

/// The entries, and which of them are wanted.
struct Selection<'a> {
    live: Option<&'a Live>,
    entries: Listing<'a>,
    wanted: Wanted<'a>,
}

impl Selection<'_> {
    /// Hands over every wanted entry.
    fn each<'s>(&'s self, mut each: impl FnMut(&EntryReport<'s>) -> Result<()>) -> Result<()> {
        self.entries.each(|entry| {
            if self.wanted.has(entry) {
                each(entry)?;
            }
            Ok(())
        })
    }

    /// Hands over the rows of the table: one for all services in which the same is said of a prefix by the same.
    fn rows<'s>(&'s self, mut each: impl FnMut(&Row<'s>) -> Result<()>) -> Result<()> {
        let mut rows: Vec<Row<'s>> = Vec::new();
        self.each(|entry| {
            if rows.first().is_some_and(|row| row.prefix != entry.prefix) {
                rows.drain(..).try_for_each(|row| each(&row))?;
            }
            let new = Row::of(entry);
            match rows.iter_mut().find(|row| row.says_as(&new)) {
                Some(row) => row.services.extend(new.services),
                None => rows.push(new),
            }
            Ok(())
        })?;
        rows.iter().try_for_each(each)
    }

    /// In columns that fit the widest prefix, without a table of a million rows being built.
    fn table(&self, out: &mut dyn Write, context: &Context) -> Result<()> {
        /// What a terminal shows in one line, unless it was made wider.
        const WIDTH: usize = 80;
        let mut widths = ["PREFIX".len(), "SERVICES".len()];
        let (mut timed, mut allow, mut deny) = (false, 0, 0);
        self.rows(|row| {
            widths[0] = widths[0].max(prefix::format(row.prefix).len());
            widths[1] = widths[1].max(row.services.join(" ").len());
            timed |= row.left.is_some();
            match row.action {
                policy::Action::Allow => allow += 1,
                policy::Action::Deny => deny += 1,
            }
            Ok(())
        })?;
        if allow + deny == 0 {
            writeln!(out, "{}", self.nothing())?;
            return Ok(());
        }
        let [prefixes, services] = widths;
        let Palette {
            title,
            dim,
            good,
            bad,
            ..
        } = context.palette;
        let left_title = if timed { "LEFT     " } else { "" };
        writeln!(
            out,
            "{title}{:<prefixes$}  ACTION  {:<services$}  {left_title}FROM{title:#}",
            "PREFIX", "SERVICES"
        )?;
        let before = prefixes + services + "  allow     ".len() + left_title.len();
        let room = if context.is_verbose() {
            usize::MAX
        } else {
            WIDTH.saturating_sub(before)
        };
        self.rows(|row| {
            let style = match row.action {
                _ if !row.counts => dim,
                policy::Action::Deny => bad,
                policy::Action::Allow => good,
            };
            let left = match &row.left {
                Some(left) => format!("{left:<9}"),
                None if timed => format!("{:<9}", "-"),
                None => String::new(),
            };
            writeln!(
                out,
                "{:<prefixes$}  {style}{:<6}{style:#}  {:<services$}  {left}{}",
                prefix::format(row.prefix),
                row.action.name(),
                row.services.join(" "),
                cut(&row.from, room),
            )?;
            Ok(())
        })?;
        writeln!(
            out,
            "\n{}: {} allow, {} deny",
            count(allow + deny, "row", "rows"),
            Grouped(allow as u64),
            Grouped(deny as u64)
        )?;
        Ok(())
    }

    fn nothing(&self) -> &'static str {
        match (self.live, self.wanted.is_part()) {
            (None, _) => "nothing is in force; `sipguard apply` puts the config file in force",
            (Some(_), true) => "no such entries",
            (Some(_), false) => "no entries: every source is unlisted",
        }
    }

    /// The services, where all of their entries are listed.
    fn services(&self) -> Vec<policy::Service> {
        match self.live {
            Some(live) if !self.wanted.is_part() => {
                let services = live.generation.description.services.iter();
                services.map(|found| found.service.clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn feed(&self) -> Result<Feed> {
        let mut feed = Feed::default();
        self.each(|entry| {
            feed.add(entry);
            Ok(())
        })?;
        Ok(feed)
    }

    /// Each prefix once, though several services or words have it.
    fn prefixes(&self, out: &mut dyn Write) -> Result<()> {
        let mut last = None;
        self.each(|entry| {
            if last != Some(entry.prefix) && !entry.overruled {
                writeln!(out, "{}", prefix::format(entry.prefix))?;
            }
            if !entry.overruled {
                last = Some(entry.prefix);
            }
            Ok(())
        })
    }
}

/// One row of the table.
struct Row<'a> {
    prefix: IpNet,
    action: policy::Action,
    services: Vec<&'a str>,
    until: Option<Timestamp>,
    left: Option<String>,
    from: String,
    /// Whether packets are judged by it now.
    counts: bool,
}

impl<'a> Row<'a> {
    fn of(entry: &EntryReport<'a>) -> Self {
        let note = match (entry.in_force, entry.overruled) {
            (false, _) => "waits for apply: ",
            (true, true) => "overruled: ",
            (true, false) => "",
        };
        Self {
            prefix: entry.prefix,
            action: entry.action,
            services: vec![entry.service],
            until: entry.until,
            left: entry.seconds_left.map(rough),
            from: format!("{note}{}", entry.says_who()),
            counts: entry.in_force && !entry.overruled,
        }
    }

    /// Whether both say the same, of whatever services.
    fn says_as(&self, other: &Self) -> bool {
        (self.prefix, self.action, self.until, &self.from)
            == (other.prefix, other.action, other.until, &other.from)
    }
}

/// The beginning of a text that has no room.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// What to run to say the same again; where it comes from stands in a comment of the shell.
fn command(out: &mut dyn Write, entry: &EntryReport<'_>) -> Result<()> {
    let EntryReport {
        action,
        prefix,
        service,
        ..
    } = entry;
    match entry.origin {
        EntryOrigin::Ban => return ban(out, entry),
        // Nobody has to say again what is found by itself.
        EntryOrigin::Live => return Ok(()),
        EntryOrigin::Config | EntryOrigin::CommandLine => {}
    }
    write!(
        out,
        "sipguard {action} {} --service {service}",
        prefix::format(*prefix)
    )?;
    if let Some(until) = entry.until {
        write!(out, " --until {until}")?;
    }
    if let Some(comment) = &entry.comment {
        write!(out, " --comment {}", quoted(comment))?;
    }
    match (entry.origin, entry.source) {
        (EntryOrigin::Config, Some(source)) => writeln!(out, "  # config: {source}")?,
        (EntryOrigin::Config, None) => writeln!(out, "  # config")?,
        _ => writeln!(out)?,
    }
    Ok(())
}

/// The same for a ban, which is for all services.
fn ban(out: &mut dyn Write, entry: &EntryReport<'_>) -> Result<()> {
    write!(out, "sipguard ban {}", prefix::format(entry.prefix))?;
    match entry.seconds_left {
        Some(left) => write!(out, " --for {left}s")?,
        None => write!(out, " --for never")?,
    }
    if let Some(by) = entry.source {
        write!(out, " --by {}", quoted(by))?;
    }
    Ok(writeln!(out)?)
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_reach_the_shell_as_one_word() {
        assert_eq!(quoted("new trunk"), "'new trunk'");
        assert_eq!(quoted("$(rm) it's"), r"'$(rm) it'\''s'");
    }

    #[test]
    fn long_texts_are_cut_to_their_room() {
        assert_eq!(cut("command line", 12), "command line");
        assert_eq!(cut("command line", 10), "command l…");
        assert_eq!(cut("command line", 9), "command…");
        assert_eq!(cut("command line", 0), "…");
    }
}
