//! What comes behind each command.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, ValueEnum};
use clap_complete::Shell;
use jiff::{SignedDuration, Timestamp};
use sipguard::when;
use sipguard_ebpf::abi::{Protocol, Reason};

use super::values::{
    Lasts, Prefixes, address, ban_lasts, banned, banning, comment, lasts, moment, protocol, reason,
    service, service_or_all, time_to_confirm,
};

#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct Apply {
    /// Only show what would change, and change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Take it back after this time, unless `sipguard confirm` comes first: 60s, 5m
    #[arg(long, value_name = "DURATION", value_parser = time_to_confirm, allow_hyphen_values = true)]
    pub(crate) confirm: Option<Duration>,
    /// If any interface can't be guarded, change nothing
    #[arg(long)]
    pub(crate) all_or_nothing: bool,
    /// Ask nobody for live sources that were never asked for
    #[arg(long)]
    pub(crate) offline: bool,
    /// Where a list is empty, has lost more than half, or nobody is let in to a service, change nothing
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Refresh {
    /// Only these [default: all]
    #[arg(value_name = "SOURCE")]
    pub(crate) sources: Vec<String>,
    /// Ask nobody: put in force what the fetcher has found by itself
    #[arg(long)]
    pub(crate) offline: bool,
    /// Take a list that is half as long as before or less, or twice as long or more
    #[arg(long, requires = "sources")]
    pub(crate) accept: bool,
    /// First forget what was known, addresses that are held among it
    #[arg(long, requires = "sources", conflicts_with = "offline")]
    pub(crate) forget: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Notify {
    /// Send one now, and tell what came of it
    #[arg(long)]
    pub(crate) test: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// End with 0 for guarded, 1 for not guarded, 3 for guarded with findings; with -q print nothing
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Stats {
    /// Show it again every second, with rates
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// How to print it
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        conflicts_with_all = ["json", "watch"]
    )]
    pub(crate) format: StatsFormat,
}

/// How what was counted is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatsFormat {
    /// For people
    Table,
    /// As metrics for Prometheus, with the state of interfaces and live sources
    Prometheus,
}

#[derive(Args, Debug)]
pub(crate) struct Events {
    /// Only packets from this address or network
    #[arg(long, value_name = "PREFIX")]
    pub(crate) source: Option<Prefixes>,
    /// Only to ports of this service
    #[arg(short, long, value_name = "NAME", value_parser = service)]
    pub(crate) service: Option<String>,
    /// Only what passed or was dropped for this reason
    #[arg(long, value_name = "REASON", value_parser = reason())]
    pub(crate) reason: Option<Reason>,
    /// Show what passes to guarded ports, too
    #[arg(long)]
    pub(crate) allowed: bool,
    /// End after so many
    #[arg(short = 'n', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Write a capture (pcapng) instead, with 1,500 bytes of each packet; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) pcap: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Knocks {
    /// Only those that knocked within this time: 90s, 15m, 24h, 7d
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    pub(crate) since: Option<SignedDuration>,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only what covers this address or network, and what is inside it
    #[arg(value_name = "PREFIX")]
    pub(crate) prefix: Option<Prefixes>,
    /// Only this service's
    #[arg(short, long, value_name = "NAME", value_parser = service)]
    pub(crate) service: Option<String>,
    /// Only those that allow, or only those that deny; needed with `--format prefixes`, which can't tell them apart
    #[arg(
        short,
        long,
        value_name = "ACTION",
        required_if_eq("format", "prefixes")
    )]
    pub(crate) action: Option<Action>,
    /// Only what `allow` and `deny` added
    #[arg(long)]
    pub(crate) own: bool,
    /// How to print them
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        conflicts_with = "json"
    )]
    pub(crate) format: ListFormat,
}

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    Allow,
    Deny,
}

impl From<Action> for sipguard::policy::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Deny => Self::Deny,
        }
    }
}

/// How entries are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people
    Table,
    /// As sipguard commands, for a shell
    Commands,
    /// One address or network a line, for a list file
    #[value(alias = "plain")]
    Prefixes,
    /// What is in force, for `ipset restore`: a set for each service, action and family
    Ipset,
    /// What is in force, for `nft -f`: the same sets in a table
    Nft,
    /// What is in force, as a config file
    Toml,
}

#[derive(Args, Debug)]
pub(crate) struct Import {
    /// What another tool prints; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    /// Which tool that is [default: by what it looks like]
    #[arg(long, value_name = "TOOL")]
    pub(crate) from: Option<Tool>,
    /// What to do with the addresses, if the input doesn't say so
    #[arg(short, long, value_name = "ACTION")]
    pub(crate) action: Option<Action>,
    /// Which set to take, if there are several and no rules; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(crate) set: Vec<String>,
    /// Which interface is guarded, if the rules tell them apart; may be given more than once
    #[arg(short, long, value_name = "NAME")]
    pub(crate) interface: Vec<String>,
    /// Ask this host's nft, iptables and ipset, and import all of it together
    #[arg(long, conflicts_with_all = ["file", "from", "set", "action"])]
    pub(crate) from_host: bool,
    /// Write the config there, whole or not at all, and keep the interfaces that it names
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Whose output `import` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// `iptables-save`, `ip6tables-save`, or both, with `ipset save` in front where rules name sets; `iptables -S`
    Iptables,
    /// `nft list ruleset`, with or without -j
    Nft,
    /// `ipset save`
    Ipset,
    /// Addresses, networks and ranges: one a line, CSV, JSON, exports of RouterOS
    List,
    /// `fail2ban-client banned`, `... status JAIL` or `... get JAIL banip`
    Fail2ban,
}

impl From<Tool> for sipguard::import::Format {
    fn from(tool: Tool) -> Self {
        match tool {
            Tool::Iptables => Self::Iptables,
            Tool::Nft => Self::Nft,
            Tool::Ipset => Self::Ipset,
            Tool::List => Self::List,
            Tool::Fail2ban => Self::Fail2ban,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Say {
    /// Addresses or networks, such as 203.0.113.7, 203.0.113.0/24, 2001:db8::/32; or any
    #[arg(required = true, value_name = "PREFIX")]
    pub(crate) prefixes: Vec<Prefixes>,
    /// For this service, or `all` [default for deny: all; allow needs it if there is more than one service]
    #[arg(short, long, value_name = "NAME", value_parser = service_or_all)]
    pub(crate) service: Option<String>,
    /// How long: 90s, 15m, 2h, 7d; never (or -1) is for good [default: never]
    #[arg(
        long = "for",
        value_name = "DURATION",
        value_parser = lasts,
        allow_hyphen_values = true,
        conflicts_with = "until"
    )]
    pub(crate) lasts: Option<Lasts>,
    /// Until when: 18:00, '2026-12-24 18:00', 2026-12-24T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub(crate) until: Option<Timestamp>,
    /// Why, in your words; `list` shows it
    #[arg(short, long, value_name = "TEXT", value_parser = comment)]
    pub(crate) comment: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Ban {
    /// Addresses or networks, such as 203.0.113.7, 203.0.113.0/24, 2001:db8::/32; no wider than /16 and /32
    #[arg(required = true, value_name = "PREFIX", value_parser = banned)]
    pub(crate) prefixes: Vec<Prefixes>,
    /// How long: 600 (seconds), 15m, 2h, 7d; never (or -1) is for good
    #[arg(
        long = "for",
        value_name = "DURATION",
        value_parser = ban_lasts,
        allow_hyphen_values = true
    )]
    pub(crate) lasts: Lasts,
    /// Who bans, such as a jail of fail2ban
    #[arg(long, value_name = "NAME", value_parser = banning)]
    pub(crate) by: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Unban {
    /// Addresses or networks as they were banned
    #[arg(required_unless_present = "all", value_name = "PREFIX", value_parser = banned)]
    pub(crate) prefixes: Vec<Prefixes>,
    /// Only what this one has banned [default: everybody's]
    #[arg(long, value_name = "NAME", value_parser = banning)]
    pub(crate) by: Option<String>,
    /// All that --by has banned
    #[arg(long, requires = "by", conflicts_with = "prefixes")]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Addresses or networks as they were added, or any
    #[arg(required = true, value_name = "PREFIX")]
    pub(crate) prefixes: Vec<Prefixes>,
    /// Only for this service, or `all` [default: all]
    #[arg(short, long, value_name = "NAME", value_parser = service_or_all)]
    pub(crate) service: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Where the packet comes from
    #[arg(value_parser = address, required_unless_present = "pcap")]
    pub(crate) address: Option<IpAddr>,
    /// Where it goes to [default: every guarded port]
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// To the ports of this service
    #[arg(short, long, value_name = "NAME", value_parser = service, conflicts_with = "port")]
    pub(crate) service: Option<String>,
    /// Ask what is in force, even if --config names a file
    #[arg(long, conflicts_with = "pcap")]
    pub(crate) live: bool,
    /// By which protocol [default: udp and tcp with --port, otherwise all that are guarded]
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol())]
    pub(crate) proto: Option<Protocol>,
    /// Judge every packet of a capture (pcap or pcapng, also gzip or Zstandard) by the config file; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["address", "port", "proto", "service"])]
    pub(crate) pcap: Option<PathBuf>,
    /// Hand every packet to the kernel's own program, which needs root
    #[arg(long, requires = "pcap")]
    pub(crate) kernel: bool,
    /// This gateway's own addresses: where the capture does not say which way a packet went, what comes from them was sent, and is not judged
    #[arg(long, value_name = "ADDRESS", num_args = 1.., value_delimiter = ',', value_parser = address, requires = "pcap")]
    pub(crate) own: Vec<IpAddr>,
    /// Show this packet, counted from 1: layer by layer, with what decides
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), requires = "pcap", conflicts_with_all = ["against", "drops"])]
    pub(crate) explain: Option<u64>,
    /// Write the packets that would be dropped to this file (pcapng), each with a comment that says why
    #[arg(long, value_name = "FILE", requires = "pcap")]
    pub(crate) drops: Option<PathBuf>,
    /// Which packets have come in, whatever the capture says
    #[arg(
        long = "in",
        value_name = "WHICH",
        requires = "pcap",
        conflicts_with = "own"
    )]
    inbound: Option<Inbound>,
    /// Tell what would change against this
    #[arg(long, value_name = "WHAT", requires = "pcap", conflicts_with_all = ["address", "port", "proto"])]
    pub(crate) against: Option<Against>,
}

impl Check {
    /// Whether every packet of a capture is taken for one that has come in.
    pub(crate) fn judges_all(&self) -> bool {
        self.inbound == Some(Inbound::All)
    }
}

/// Which packets of a capture are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Inbound {
    /// All of them
    All,
}

/// What a capture's verdicts are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Against {
    /// What is in force now, with what `allow` and `deny` added
    Live,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("evidence").required(true))]
pub(crate) struct Learn {
    /// Learn from a capture (pcap or pcapng) of this gateway's interface; - is standard input
    #[arg(long, value_name = "FILE", group = "evidence")]
    pub(crate) pcap: Option<PathBuf>,
    /// Listen to this interface
    #[arg(
        short,
        long,
        value_name = "NAME",
        group = "evidence",
        requires = "lasts"
    )]
    pub(crate) interface: Option<String>,
    /// For so long: 30m, 24h, 7d; Ctrl-C ends it earlier
    #[arg(long = "for", value_name = "DURATION", value_parser = when::duration, requires = "interface")]
    pub(crate) lasts: Option<SignedDuration>,
    /// This gateway's own addresses, where a capture does not show which they are
    #[arg(long, value_name = "ADDRESS", value_parser = address, requires = "pcap")]
    pub(crate) own: Vec<IpAddr>,
}

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// For which shell
    pub(crate) shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Write all pages into this folder instead
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
