//! `sipguard list`.
//!
//! JSON, one object a line and entry, sorted by address:
//! `{"prefix":"203.0.113.0/24","service":"sip","action":"allow","until":null,"seconds_left":null,"origin":"config","source":"providers",
//! "file":null,"comment":null,"in_force":true}`. `origin` is `config` or `command line`; `in_force` is false for what waits for the next
//! apply.

mod feed;

use std::{collections::HashSet, io::Write};

use anyhow::{Result, bail};
use sipguard::{
    datapath,
    lifecycle::{self, Live},
    policy, prefix,
    state::{State, Store},
};

use self::feed::Feed;
use super::{
    Context,
    entry::{Comments, Entry, Origin, words},
    live, write_json,
};
use crate::{
    cli::{List, ListFormat},
    output::Palette,
};

pub(super) fn run(list: &List, context: &Context, out: &mut dyn Write) -> Result<()> {
    let live = live()?;
    let state = Store::system().load()?;
    let wanted = Wanted {
        service: list.service.as_deref(),
        action: list.action.map(Into::into),
        own: list.own,
    };
    let mut entries = Vec::new();
    if let Some(live) = &live {
        wanted.known(live)?;
        live.generation.for_each(|entry| {
            if wanted.may_have(live, &entry) {
                entries.push(entry);
            }
        })?;
        entries.sort_unstable_by_key(|entry| (entry.prefix, entry.service));
    }
    let listing = Listing {
        live: live.as_ref(),
        state: &state,
        entries,
        wanted,
    };
    if context.json {
        return listing.each(|entry| write_json(out, entry));
    }
    match list.format {
        ListFormat::Commands => listing.each(|entry| command(out, entry)),
        ListFormat::Prefixes => listing.prefixes(out),
        ListFormat::Table => listing.table(out, context.palette),
        ListFormat::Ipset => listing.feed()?.ipset(out),
        ListFormat::Nft => listing.feed()?.nft(out),
        ListFormat::Toml => match &live {
            Some(live) => listing.feed()?.toml(&live.generation.description, out),
            None => bail!("nothing is in force: `sipguard apply` puts the config file in force"),
        },
    }
}

/// Which entries are wanted.
struct Wanted<'a> {
    service: Option<&'a str>,
    action: Option<policy::Action>,
    own: bool,
}

impl Wanted<'_> {
    /// A service that does not exist is a mistake, not an empty list.
    fn known(&self, live: &Live) -> Result<(), lifecycle::Error> {
        let description = &live.generation.description;
        match self.service {
            Some(name) if description.service(name).is_none() => {
                let known: Vec<_> = description
                    .services
                    .iter()
                    .map(|found| found.service.name.as_str())
                    .collect();
                Err(lifecycle::Error::NoService {
                    name: name.to_owned(),
                    known: known.join(", "),
                })
            }
            _ => Ok(()),
        }
    }

    fn may_have(&self, live: &Live, entry: &datapath::Entry) -> bool {
        self.service.is_none_or(|name| {
            live.generation
                .description
                .service(name)
                .is_some_and(|service| service.slot == entry.service)
        })
    }

    fn has(&self, entry: &Entry<'_>) -> bool {
        self.service.is_none_or(|service| service == entry.service)
            && self.action.is_none_or(|action| action == entry.action)
            && (!self.own || entry.origin == Origin::CommandLine)
    }
}

struct Listing<'a> {
    live: Option<&'a Live>,
    state: &'a State,
    entries: Vec<datapath::Entry>,
    wanted: Wanted<'a>,
}

impl Listing<'_> {
    /// Hands over every wanted entry: those in force by address, then those that wait for an apply.
    fn each(&self, mut each: impl FnMut(&Entry<'_>) -> Result<()>) -> Result<()> {
        let now = lifecycle::now();
        let comments = Comments::new(self.state);
        let mut seen = HashSet::new();
        if let Some(live) = self.live {
            let description = &live.generation.description;
            for found in &self.entries {
                let Some(service) = description.service_at(found.service) else {
                    continue;
                };
                let name = &service.service.name;
                for entry in words(found.prefix, found.value, name, description, &comments, now) {
                    if entry.origin == Origin::CommandLine {
                        seen.insert((
                            entry.prefix,
                            entry.service,
                            entry.action,
                            entry.until.is_some(),
                        ));
                    }
                    if self.wanted.has(&entry) {
                        each(&entry)?;
                    }
                }
            }
        }
        let mut waiting: Vec<_> = self
            .state
            .entries
            .iter()
            .filter(|own| !own.ended(now.wall))
            .filter(|own| {
                !seen.contains(&(
                    own.prefix,
                    own.service.as_str(),
                    own.action,
                    own.until.is_some(),
                ))
            })
            .collect();
        waiting.sort_by_key(|own| (own.prefix, own.service.as_str()));
        for own in waiting {
            let entry = Entry {
                prefix: own.prefix,
                service: &own.service,
                action: own.action,
                until: own.until,
                seconds_left: own
                    .until
                    .map(|until| until.duration_since(now.wall).as_secs()),
                origin: Origin::CommandLine,
                source: None,
                file: None,
                comment: own.comment.as_deref(),
                in_force: false,
            };
            if self.wanted.has(&entry) {
                each(&entry)?;
            }
        }
        Ok(())
    }

    /// In columns that fit the widest prefix, without a table of a million rows being built.
    fn table(&self, out: &mut dyn Write, palette: Palette) -> Result<()> {
        let (mut prefixes, mut services, mut timed, mut any) =
            ("PREFIX".len(), "SERVICE".len(), false, false);
        self.each(|entry| {
            prefixes = prefixes.max(prefix::format(entry.prefix).len());
            services = services.max(entry.service.len());
            timed |= entry.until.is_some();
            any = true;
            Ok(())
        })?;
        if !any {
            writeln!(out, "{}", self.nothing())?;
            return Ok(());
        }
        let title = palette.title;
        let left_title = if timed { "LEFT     " } else { "" };
        writeln!(
            out,
            "{title}{:<prefixes$}  {:<services$}  ACTION  {left_title}FROM{title:#}",
            "PREFIX", "SERVICE"
        )?;
        self.each(|entry| {
            let style = match (entry.in_force, entry.action) {
                (false, _) => palette.dim,
                (true, policy::Action::Deny) => palette.bad,
                (true, policy::Action::Allow) => palette.good,
            };
            let left = match entry.left() {
                Some(left) => format!("{left:<9}"),
                None if timed => format!("{:<9}", "-"),
                None => String::new(),
            };
            let waits = if entry.in_force {
                ""
            } else {
                " (waits for `sipguard apply`)"
            };
            writeln!(
                out,
                "{:<prefixes$}  {:<services$}  {style}{:<6}{style:#}  {left}{}{waits}",
                prefix::format(entry.prefix),
                entry.service,
                entry.action.name(),
                entry.says_who(),
            )?;
            Ok(())
        })
    }

    fn nothing(&self) -> &'static str {
        match (
            self.live,
            self.wanted.service.is_some() || self.wanted.action.is_some() || self.wanted.own,
        ) {
            (None, _) => "nothing is in force; `sipguard apply` puts the config file in force",
            (Some(_), true) => "no such entries",
            (Some(_), false) => "no entries: every source is unlisted",
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
            if last != Some(entry.prefix) {
                writeln!(out, "{}", prefix::format(entry.prefix))?;
            }
            last = Some(entry.prefix);
            Ok(())
        })
    }
}

/// What to run to say the same again; where it comes from stands in a comment of the shell.
fn command(out: &mut dyn Write, entry: &Entry<'_>) -> Result<()> {
    let Entry {
        action,
        prefix,
        service,
        ..
    } = entry;
    write!(
        out,
        "sipguard {action} {} --service {service}",
        prefix::format(*prefix)
    )?;
    if let Some(until) = entry.until {
        write!(out, " --until {until}")?;
    }
    if let Some(comment) = entry.comment {
        write!(out, " --comment {}", quoted(comment))?;
    }
    match (entry.origin, entry.source) {
        (Origin::Config, Some(source)) => writeln!(out, "  # config: {source}")?,
        (Origin::Config, None) => writeln!(out, "  # config")?,
        (Origin::CommandLine, _) => writeln!(out)?,
    }
    Ok(())
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
}
