//! The command line: words and options, turned into what the commands use.

mod arguments;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::{
    arguments::{
        Against, Apply, Ban, Check, Completions, Events, Import, Knocks, Learn, List, ListFormat,
        Man, Notify, Refresh, Remove, Say, Stats, StatsFormat, Status, Unban,
    },
    values::{Lasts, Prefixes, flat},
};

/// Lets only listed sources reach SIP and the web page of this host.
///
/// sipguard drops UDP and TCP packets to guarded ports from sources that are not on the allowlist, in the network driver, before the
/// system spends anything on them. All other ports (SSH, RTP, ping, …) are left alone. Nothing needs to keep running for it to filter.
#[derive(Debug, Parser)]
#[command(
    version,
    disable_help_subcommand = true,
    after_help = "\
First steps:
  sipguard init                     write a config file with comments
  nano /etc/sipguard/sipguard.toml  your interface, your providers, your own address
  sipguard apply                    put it in force
  sipguard check 203.0.113.7        would this address get through, and why?
  sipguard stats --watch            what is being dropped

Exit codes:
  0  done
  1  it failed, or not all of it is in force
  2  wrong usage
  3  `check`: the address is dropped; `status --check`: guarded, with findings
  4  done, but it will not survive a restart: the disk could not be written
  5  `apply`: the config file can't be used; what was in force before is in force

The config file is described in `man sipguard.toml`."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Without a command: `status`.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// The config file [default: /etc/sipguard/sipguard.toml]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub(crate) config: Option<PathBuf>,
    /// Answer in JSON, for programs
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Say nothing but what was asked for, and errors
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        help_heading = "Global options"
    )]
    pub(crate) quiet: bool,
    /// Say more
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) verbose: bool,
    /// When to use colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

impl From<Color> for anstream::ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

/// The commands, in the order in which people meet them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a config file with comments
    ///
    /// Writes a config file that explains itself and guards SIP (5060, 5061, 50600) and the web page (80). A file that is there is never
    /// overwritten. Nothing is filtered until interfaces are named in it and `sipguard apply` was run.
    #[command(after_help = "\
Examples:
  sipguard init                         /etc/sipguard/sipguard.toml
  sipguard init --config ./test.toml    somewhere else")]
    Init,

    /// Put the config file in force
    ///
    /// Reads the config file and puts it in force, together with what `allow` and `deny` added: all of it at once, without a moment in
    /// which nothing is filtered. If anything is wrong with the file, it says so, and what was in force before stays in force. Running it
    /// again changes nothing.
    ///
    /// If some interfaces can't be guarded, they are named, the others are guarded, and the exit code is 1; with `--all-or-nothing` nothing
    /// is changed then. If the disk can't be written, this and every other command does its work all the same, and ends with exit code 4:
    /// what it did will not survive a restart.
    ///
    /// With `--confirm`, what was in force before comes back after that time, unless you run `sipguard confirm` before: for changes that
    /// may lock you out. The kernel sees to that, whatever becomes of your session. A config file that was taken back is not applied again,
    /// not even at boot, until you change it or try it with `--confirm` again; what was in force before stays, or is put in force at boot.
    #[command(after_help = "\
Examples:
  sipguard apply                          after every change of the config file, and at boot
  sipguard apply --dry-run                what would change
  sipguard apply --confirm 60s            then, if all is well, from a new session: sipguard confirm
  sipguard apply --config ./test.toml     another config file")]
    Apply(Apply),

    /// Keep what `apply --confirm` put in force
    ///
    /// Keeps what was put in force with `apply --confirm`, as if it had been applied without that. Fails if nothing waits to be confirmed, or
    /// if its time is over.
    #[command(after_help = "\
Examples:
  sipguard apply --confirm 60s
  sipguard confirm")]
    Confirm,

    /// Take back what `apply --confirm` put in force
    ///
    /// Puts back in force what was in force before `apply --confirm`, without waiting until its time is over. What `allow` and `deny` added
    /// meanwhile stays.
    #[command(after_help = "\
Examples:
  sipguard apply --confirm 5m
  sipguard rollback")]
    Rollback,

    /// Show what the kernel program logs, until Ctrl-C
    #[cfg(feature = "log")]
    Log,

    /// Stop filtering
    ///
    /// Takes sipguard off all interfaces. Everything passes from then on, and the counters are gone. What `allow` and `deny` added is
    /// kept for the next `sipguard apply`.
    ///
    /// This lasts until the next boot, or until an interface appears that the config file names: then the package's service applies the
    /// config file again. To stay without a filter, run `systemctl disable sipguard` as well.
    #[command(after_help = "\
Examples:
  sipguard down
  sipguard apply                   filter again")]
    Down,

    /// Filter again where an interface has lost its filter
    ///
    /// Puts the filter back wherever it does not run: on an interface that appeared or came back, and on one whose driver has forgotten the
    /// program or never runs it. Moves it into the driver where that has become possible. The config file is not read. The package's timer
    /// runs this every minute.
    #[command(after_help = "\
Examples:
  sipguard repair
  sipguard repair --json | jq -r '.repaired[].interface'")]
    Repair,

    /// Stay awake, and say what happens
    ///
    /// Reads what the kernel tells of what it drops, looks every few seconds at what is in force, puts in force what was found for live sources, and
    /// says what happened: in the journal, in metrics, and to whom the config wants it told. It raises the alarm where somebody is dropped who was
    /// allowed before, or whose neighbours are. The package's service runs this; the filter does not need it. Where nothing is in force it waits.
    #[command(after_help = "\
Examples:
  sipguard agent                   in the foreground, until Ctrl-C
  # What the package's service said of providers that moved:
  # journalctl -t sipguard SIPGUARD_HAPPENED=provider_moved")]
    Agent,

    /// Show what is in force, and where
    ///
    /// Shows first whether this host is guarded as its config file says; then the interfaces and whether they are filtered in the driver
    /// (native) or behind it (tc, and why), and what is guarded. What is wrong is counted, and the worst of it is named; `sipguard doctor`
    /// has all of it, with what mends it.
    ///
    /// With `--check`, for monitoring systems, the exit code is 0 for guarded, 1 for not guarded, and 3 for guarded with findings.
    #[command(after_help = "\
Examples:
  sipguard status
  sipguard status --check -q || echo 'look at this host'
  sipguard status --json | jq -r '.interfaces[] | \"\\(.name) \\(.state)\"'")]
    Status(Status),

    /// Show what was passed and dropped, and why
    ///
    /// Counts packets to guarded ports by interface, service and reason. Packets that are `allowed` or `open` pass. Those that are `denied` or
    /// `unlisted` are dropped, and so are the other fragments of a datagram that was dropped (`orphan`). Some packets don't show their port:
    /// those that are `malformed` or `too_deep` are dropped, and a `fragment` passes. Packets to other ports are not counted. Bytes are
    /// whole frames.
    ///
    /// `would drop` stands beside packets that came in monitor mode: they passed. They keep that word when the mode is changed. Counters
    /// begin when an interface is first guarded after the host's start or after `sipguard down`; the first line says when that was.
    #[command(after_help = "\
Examples:
  sipguard stats
  sipguard stats --watch                  every second, with rates, until Ctrl-C
  sipguard stats --format prometheus      metrics, for a monitoring system
  sipguard stats --json | jq '[.counters[] | select(.action == \"drop\" and .enforced) | .packets] | add'")]
    Stats(Stats),

    /// Watch packets being dropped, one by one
    ///
    /// Shows single packets as they come: when, from whom, why they were dropped, and what they say where they are SIP. Nothing is kept. It is a
    /// sample: a source is shown once a second, and what was left out is counted. `sipguard stats` counts every packet. One process at a time can
    /// be told of packets by the kernel; where `sipguard agent` runs, it is the agent, and hands on.
    ///
    /// What a packet says is what its sender wrote. Everything but plain letters and digits is escaped.
    #[command(after_help = "\
Examples:
  sipguard events
  sipguard events --source 198.51.100.0/24 --service sip
  sipguard events --allowed                     what passes to guarded ports, too
  sipguard events --json | jq -r 'select(.sip.high_risk) | .source'
  sipguard events --pcap - | tshark -i -
  sipguard events --pcap knocks.pcapng --count 1000")]
    Events(Events),

    /// Show who knocks now, on a screen
    ///
    /// Shows what is dropped each second by interface, service and reason, and the sources that knock most: what they say, which numbers they
    /// dial, and what they try. `?` shows the keys; `a` lets the marked source in and `d` keeps it out, after asking. The graphs have every
    /// packet; the sources are a sample, of which the kernel tells as many as somebody listens to.
    #[command(after_help = "\
Examples:
  sipguard top
  sipguard events          the same as lines, where there is no terminal")]
    Top,

    /// Show who knocked, and what he tried
    ///
    /// Shows the sources whose packets were dropped in the last 30 days, as far as the agent kept them: 10,000 at most, those that knock again
    /// and again before those that came once. Says of each what it said, and what it tries: a scan, brute force, toll fraud. A source may be
    /// forged.
    #[command(after_help = "\
Examples:
  sipguard knocks --since 24h
  sipguard knocks --json | jq -r 'select(any(.attempts[]; .attempt == \"toll_fraud\")) | .source'")]
    Knocks(Knocks),

    /// List who is allowed and denied
    ///
    /// Lists every entry that is in force, from the config file and from the command line, sorted by address.
    #[command(after_help = "\
Examples:
  sipguard list
  sipguard list 203.0.113.0/24                      what covers it, and what is inside it
  sipguard list --service sip
  sipguard list --own --format commands > own.sh    what to run to add the same again
  sipguard list --action deny --format prefixes     one a line, as a list file has them
  sipguard list --json | jq -r 'select(.action == \"deny\") | .prefix'")]
    List(List),

    /// Let addresses in, at once
    ///
    /// Allows addresses or networks, at once. They stay allowed over `apply` and reboot, until `sipguard remove` or until the time that you
    /// say. The newest word on a network wins: it replaces what `allow` and `deny` said of it before, and counts more than the config file.
    /// When one with a time ends, the one without a time counts again. Of several networks that an address is in, the most specific one
    /// decides. `any` is everybody.
    #[command(after_help = "\
Examples:
  sipguard allow 203.0.113.0/24 2001:db8:100::/48 --service sip --comment 'new trunk'
  sipguard allow 198.51.100.10 --service web
  sipguard allow 198.51.100.10 --service all --until 18:00   ends by itself
  sipguard allow any --service web --for 2m    opens the web page for an ACME challenge")]
    Allow(Say),

    /// Keep addresses out, at once
    ///
    /// Denies addresses or networks, at once. They stay denied over `apply` and reboot, until `sipguard remove` or until the time that you
    /// say. The very next packet is dropped, even of a call or a registration that is under way. The newest word on a network wins: it
    /// replaces what `allow` and `deny` said of it before, and counts more than the config file. When one with a time ends, the one without
    /// a time counts again. Of several networks that an address is in, the most specific one decides: `any` is everybody who is not in a
    /// network of his own.
    #[command(after_help = "\
Examples:
  sipguard deny 203.0.113.66
  sipguard deny 203.0.113.66 --for 7d              a ban that ends by itself
  sipguard deny 198.51.100.0/24 --service sip --comment 'password guessing'")]
    Deny(Say),

    /// Take back an `allow` or `deny`
    ///
    /// Takes back what `allow` and `deny` said of exactly these addresses or networks. What the config file says of them is in force again.
    /// If it has ended by itself within the last day, this says so, and is done (exit code 0).
    #[command(after_help = "\
Examples:
  sipguard remove 203.0.113.66
  sipguard remove 198.51.100.0/24 --service sip")]
    Remove(Remove),

    /// Ban addresses for another program
    ///
    /// Drops packets from these addresses to all guarded ports, for so long. It is meant for programs that watch logs, such as fail2ban: what a
    /// person has allowed or denied by hand, in the config file, its lists or with `allow` and `deny`, comes before every ban, and is told of.
    /// The newest ban of an address by the same name replaces the one before.
    #[command(after_help = "\
Examples:
  sipguard ban 198.51.100.7 --for 600 --by fail2ban      ten minutes
  sipguard ban 198.51.100.0/24 --for 2h")]
    Ban(Ban),

    /// Take back bans
    ///
    /// Takes back what `ban` said of exactly these addresses or networks. What is not banned is done, with exit code 0.
    #[command(after_help = "\
Examples:
  sipguard unban 198.51.100.7
  sipguard unban --by fail2ban --all")]
    Unban(Unban),

    /// Ask for live sources now
    ///
    /// Has names, lists at URLs and other live sources asked for now, and puts in force what was found. The service sipguard-fetch does that by
    /// itself, each time an answer ends; what is in force stays as it is where nobody answers. A list that has become half as long or less, or
    /// twice as long or more, is refused until you have looked at it and say --accept.
    #[command(after_help = "\
Examples:
  sipguard refresh
  sipguard refresh blocked --accept      it is that much shorter, and that is right
  sipguard refresh trunk --forget        do not hold addresses that the name had before
  sipguard refresh --json | jq -r 'select(.outcome == \"refused\") | .source'")]
    Refresh(Refresh),

    /// Show who gets notices, and try it
    ///
    /// Shows who the config says gets notices, how many were sent, and why the last try failed. With --test one is sent to everybody now.
    #[command(after_help = "\
Examples:
  sipguard notify
  sipguard notify --test      does one arrive?")]
    Notify(Notify),

    /// Ask whether an address gets through, and why
    ///
    /// Asks the kernel's own program what it would do with a packet from this address, and names the entry that decides. Nothing is sent,
    /// and the counters don't move. With `--config FILE` the file is asked instead (alone, without what `allow` and `deny` added), which needs
    /// no privileges.
    ///
    /// Without a port or a service, all guarded ports are asked about. The exit code is 0 for pass and 3 for drop; if you name no port and no
    /// service, it is 0 if any service lets the address in.
    ///
    /// With `--pcap`, tells what the config file (alone, without what `allow` and `deny` added) would do with every packet of a capture,
    /// whatever is in force, which needs no privileges; with `--against live`, also what would change. Packets that this gateway has sent are not
    /// judged: the capture says which these are, or --own does, or else the addresses that others send to are recognised, and told.
    #[command(after_help = "\
Examples:
  sipguard check 203.0.113.7
  sipguard check 203.0.113.7 --service sip
  sipguard check 203.0.113.7 --config ./new.toml
  sipguard check 2001:db8::7 --port 5060 --proto tcp
  sipguard check --config ./new.toml --pcap monday.pcapng
  sipguard check --config ./new.toml --pcap monday.pcapng --against live
  sipguard check --config ./new.toml --pcap monday.pcap.zst --own 192.0.2.1
  sipguard check --config ./new.toml --pcap monday.pcapng --explain 17
  sipguard check --config ./new.toml --pcap monday.pcapng --drops dropped.pcapng
  sipguard check --pcap - --json < monday.pcap | jq -c 'select(.action == \"drop\")'
  sipguard check 203.0.113.7 --port 5060 -q && echo 'gets through'")]
    Check(Check),

    /// Note the time, and set the ends of timed entries right
    ///
    /// A wrong clock must not end entries too early or too late. So sipguard keeps its own idea of the time: it does not believe a clock that
    /// has gone back, and a clock that has jumped ahead has to stay there for an hour before any entry is forgotten because of it. Every
    /// command that changes something looks at the clock; this one does nothing else. `sipguard repair` looks at it, too, and the package's
    /// timer runs that every minute, and whenever the clock is set.
    #[command(after_help = "\
Examples:
  sipguard clock
  sipguard clock --json | jq .believed")]
    Clock,

    /// Look for what keeps this host from being well guarded
    ///
    /// Looks at the kernel, the interfaces, the config and the programs behind guarded ports. For everything that is wrong it names one
    /// command that mends it. Changes nothing. Ends with exit code 1 if something is wrong, and 0 if there is only advice.
    #[command(after_help = "\
Examples:
  sipguard doctor
  sipguard doctor --json | jq -r '.findings[].mend'")]
    Doctor,

    /// Turn another firewall's rules into a config file
    ///
    /// Reads the rules of iptables or nftables, or lists of addresses, and finds out whom they let in to the guarded ports. Whoever
    /// certainly gets in is allowed, and nobody else. Addresses that may lose access are named first, on standard error and as comments in
    /// the config. Nothing is changed but the file that --output names.
    #[command(after_help = "\
Examples:
  # What this host's kernel has now:
  sipguard import --from-host --output /etc/sipguard/sipguard.toml
  # After `(ipset save; iptables-save; ip6tables-save) > rules.v4`:
  sipguard import rules.v4 --output sipguard.toml
  # After `nft list ruleset > ruleset.txt`:
  sipguard import --from nft ruleset.txt
  # After `fail2ban-client banned > banned.txt`:
  sipguard import banned.txt
  # A list says whom, but not what to do:
  sipguard import --action deny voipbl.txt
  # One of several sets:
  sipguard import --set providers --action allow sets.txt")]
    Import(Import),

    /// Propose a config from what this gateway says and hears
    ///
    /// Reads a capture, or listens to an interface, and finds out whom this gateway registers with and calls and who answers, who registers here with
    /// success, and who calls and is answered. Prints a config that lets these in, each line with its evidence, and says whom it does not let in, and
    /// why. Nothing is changed. Only UDP and TCP are read, not TLS. A capture needs no privileges; one of all packets in both directions is best.
    #[command(after_help = "\
Examples:
  sipguard learn --interface eth0 --for 24h > proposal.toml
  sipguard learn --pcap monday.pcapng
  sipguard learn --pcap monday.pcapng --own 192.0.2.1
  sipguard learn --pcap - --json < monday.pcap | jq -r '.proposals[].entry'")]
    Learn(Learn),

    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  sipguard completions bash > /etc/bash_completion.d/sipguard
  sipguard completions fish > ~/.config/fish/completions/sipguard.fish")]
    Completions(Completions),

    /// Print the manual page
    #[command(after_help = "\
Examples:
  sipguard man | man -l -
  sipguard man --out /usr/local/share/man/man1      this page and one for each command")]
    Man(Man),
}

#[cfg(test)]
mod tests;
