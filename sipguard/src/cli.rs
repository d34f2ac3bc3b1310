//! The command line: words and options, turned into what the commands use.

use std::{net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use clap_complete::Shell;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp, Zoned};
use sipguard::{
    config,
    policy::{is_service_name, protocol_name, protocol_named},
    prefix::{self, PrefixError},
    when::{self, WhenError},
};
use sipguard_ebpf::abi::Protocol;

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

Exit codes: 0 done, 1 it failed, 2 wrong usage; `check` ends with 3 for an address that is dropped."
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
    /// The config file
    #[arg(long, global = true, value_name = "FILE", default_value = config::PATH, help_heading = "Global options")]
    pub(crate) config: PathBuf,
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
    /// Makes the config file, together with what `allow` and `deny` added, what the kernel does: all of it at once, without a moment
    /// in which nothing is filtered. If there is anything wrong, it says so and what was in force before stays in force. Running it again
    /// changes nothing.
    ///
    /// With `--confirm`, what was in force before is in force again after so long, unless `sipguard confirm` comes in time: for changes that
    /// may lock you out. The kernel sees to that, whatever becomes of your session. A config file that was taken back is not applied any
    /// more, at boot neither, until it is changed or applied with `--confirm` again; what was in force before is applied instead.
    #[command(after_help = "\
Examples:
  sipguard apply                          after every change of the config file, and at boot
  sipguard apply --dry-run                what would change
  sipguard apply --confirm 60s            then, if all is well, from a new session: sipguard confirm
  sipguard apply --config ./test.toml     another config file")]
    Apply(Apply),

    /// Keep what `apply --confirm` put in force
    ///
    /// Keeps what was put in force with `apply --confirm`, as if it had been applied without. Fails where nothing waits for it, or not any
    /// more.
    #[command(after_help = "\
Examples:
  sipguard apply --confirm 60s
  sipguard confirm")]
    Confirm,

    /// Take back what `apply --confirm` put in force
    ///
    /// Puts in force again what was before `apply --confirm`, without waiting until its time is over. What `allow` and `deny` added meanwhile
    /// stays.
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
    #[command(after_help = "\
Examples:
  sipguard down
  sipguard apply        filter again")]
    Down,

    /// Show what is in force, and where
    ///
    /// Shows the interfaces and whether they are filtered in the driver (native) or behind it (generic, and why), and what is guarded.
    #[command(after_help = "\
Examples:
  sipguard status
  sipguard status --json | jq -r '.interfaces[] | \"\\(.name) \\(.state)\"'")]
    Status,

    /// Show what was passed and dropped, and why
    ///
    /// Counts packets to guarded ports by interface, service and reason; `allowed` and `open` passed, `denied` and `unlisted` were
    /// dropped. Other ports are not counted. `malformed`, `too_deep` (both dropped) and `fragment` (passed) are packets that could not be
    /// told apart by port. Bytes are whole frames.
    #[command(after_help = "\
Examples:
  sipguard stats
  sipguard stats --watch                  every second, with rates, until Ctrl-C
  sipguard stats --json | jq '[.counters[] | select(.action == \"drop\") | .packets] | add'")]
    Stats(Stats),

    /// List who is allowed and denied
    ///
    /// Lists every entry that is in force, from the config file and from the command line, sorted by address.
    #[command(after_help = "\
Examples:
  sipguard list
  sipguard list --service sip
  sipguard list --own --format commands > own.sh    what to run to add the same again
  sipguard list --action deny --format prefixes     one a line, as a list file has them
  sipguard list --json | jq -r 'select(.action == \"deny\") | .prefix'")]
    List(List),

    /// Let addresses in, at once
    ///
    /// Allows addresses or networks, at once: they are kept over `apply` and reboot until `sipguard remove`, or until the time that you
    /// say. Of several entries that cover an address the most specific decides; on the same network a timed one comes before
    /// one without an end, and of those `deny` before `allow`. `any` is everybody.
    #[command(after_help = "\
Examples:
  sipguard allow 203.0.113.0/24 2001:db8:100::/48 --comment 'new trunk'
  sipguard allow 198.51.100.10 --service web
  sipguard allow 198.51.100.10 --until 18:00       ends by itself, even if nobody is there
  sipguard allow any --service web --for 2m        the web page is open for an ACME challenge")]
    Allow(Say),

    /// Keep addresses out, at once
    ///
    /// Denies addresses or networks, at once: they are kept over `apply` and reboot until `sipguard remove`, or until the time that you
    /// say. The very next packet is dropped, also of a call or a registration that is under way. Of several entries that cover an address
    /// the most specific decides; on the same network a timed one comes before one without an end, and of those `deny` before
    /// `allow`. `any` is everybody who is not listed.
    #[command(after_help = "\
Examples:
  sipguard deny 203.0.113.66
  sipguard deny 203.0.113.66 --for 7d              a ban that ends by itself
  sipguard deny 198.51.100.0/24 --service sip --comment 'password guessing'")]
    Deny(Say),

    /// Take back an `allow` or `deny`
    ///
    /// Takes back what `allow` and `deny` said of exactly these addresses or networks. What the config file says of them is in force again.
    #[command(after_help = "\
Examples:
  sipguard remove 203.0.113.66
  sipguard remove 198.51.100.0/24 --service sip")]
    Remove(Remove),

    /// Ask whether an address gets through, and why
    ///
    /// Asks the kernel's own program what it would do with a packet from this address, and names the entry that decides. Nothing is sent,
    /// and the counters don't move. Without a port, every guarded port is asked for. Ends with exit code 0 for pass and 3 for drop (of
    /// any of them).
    ///
    /// With `--pcap`, tells what the config file (alone, without what `allow` and `deny` added) would do with every packet of a capture,
    /// whatever is in force; with `--against live`, also what would change.
    #[command(after_help = "\
Examples:
  sipguard check 203.0.113.7
  sipguard check 2001:db8::7 --port 5060 --proto tcp
  sipguard check --config ./new.toml --pcap monday.pcapng
  sipguard check --config ./new.toml --pcap monday.pcapng --against live
  sipguard check --pcap - --json < monday.pcap | jq -c 'select(.action == \"drop\")'
  sipguard check 203.0.113.7 --port 5060 -q && echo 'gets through'")]
    Check(Check),

    /// Look for what keeps this host from being well guarded
    ///
    /// Looks at the kernel, the interfaces, the config and the programs behind guarded ports, and names for everything that is wrong
    /// one command that mends it. Changes nothing. Ends with exit code 1 if something is wrong, and 0 if there is only advice.
    #[command(after_help = "\
Examples:
  sipguard doctor
  sipguard doctor --json | jq -r '.findings[].mend'")]
    Doctor,

    /// Turn another tool's rules into a config file
    ///
    /// Reads what iptables-save, nft, ipset, fail2ban or a plain list have to say about SIP, the web page and other ports that are open
    /// to some sources only, and prints a config file that means the same. What can't be translated is listed as comments in it and on
    /// standard error. Nothing is changed.
    #[command(after_help = "\
Examples:
  sipguard import rules.v4 > sipguard.toml    after `iptables-save > rules.v4`
  sipguard import both.txt                    after `(ipset save; iptables-save) > both.txt`
  sipguard import --from nft ruleset.txt      after `nft list ruleset > ruleset.txt`
  sipguard import banned.txt                  after `fail2ban-client banned > banned.txt`
  sipguard import --action deny voipbl.txt    a list says whom, but not what to do")]
    Import(Import),

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

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// Only show what would change, and change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Take it back after so long, unless `sipguard confirm` comes: 60s, 5m
    #[arg(long, value_name = "DURATION", value_parser = time_to_confirm, allow_hyphen_values = true)]
    pub(crate) confirm: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct Stats {
    /// Show it anew every second, with rates
    #[arg(short, long)]
    pub(crate) watch: bool,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only this service's
    #[arg(short, long, value_name = "NAME", value_parser = service)]
    pub(crate) service: Option<String>,
    /// Only those that allow, or deny
    #[arg(short, long, value_name = "ACTION")]
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
    /// What is done with the addresses, where the input doesn't say so
    #[arg(short, long, value_name = "ACTION")]
    pub(crate) action: Option<Action>,
}

/// Whose output `import` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// `iptables-save`, `ip6tables-save`, or both, with `ipset save` in front where rules name sets
    Iptables,
    /// `nft list ruleset`
    Nft,
    /// `ipset save`
    Ipset,
    /// One address or network a line
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
    /// Only for this service [default: all]
    #[arg(short, long, value_name = "NAME", value_parser = service)]
    pub(crate) service: Option<String>,
    /// How long: 90s, 15m, 2h, 7d [default: for good]
    #[arg(
        long = "for",
        value_name = "DURATION",
        value_parser = when::duration,
        allow_hyphen_values = true,
        conflicts_with = "until"
    )]
    pub(crate) lasts: Option<SignedDuration>,
    /// Until when: 18:00, '2026-12-24 18:00', 2026-12-24T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub(crate) until: Option<Timestamp>,
    /// Why, in your words; `list` shows it
    #[arg(short, long, value_name = "TEXT", value_parser = comment)]
    pub(crate) comment: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Addresses or networks as they were added, or any
    #[arg(required = true, value_name = "PREFIX")]
    pub(crate) prefixes: Vec<Prefixes>,
    /// Only from this service [default: all]
    #[arg(short, long, value_name = "NAME", value_parser = service)]
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
    /// By which protocol [default: udp and tcp with --port, else every guarded one]
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol())]
    pub(crate) proto: Option<Protocol>,
    /// Judge every packet of a capture (pcap or pcapng) by the config file; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["address", "port", "proto"])]
    pub(crate) pcap: Option<PathBuf>,
    /// Tell what would change against this
    #[arg(long, value_name = "WHAT", requires = "pcap", conflicts_with_all = ["address", "port", "proto"])]
    pub(crate) against: Option<Against>,
}

/// What a capture's verdicts are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Against {
    /// What is in force now, with what `allow` and `deny` added
    Live,
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

/// What one word stands for: one prefix, or both families' all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefixes(Vec<IpNet>);

impl FromStr for Prefixes {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        prefix::parse_or_any(text).map(Self)
    }
}

/// All prefixes that were named, each once.
pub(crate) fn flat(words: &[Prefixes]) -> Vec<IpNet> {
    let mut prefixes: Vec<IpNet> = words
        .iter()
        .flat_map(|Prefixes(some)| some)
        .copied()
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

fn address(text: &str) -> Result<IpAddr, String> {
    // A single address is a prefix of full length; the same mistakes get the same advice.
    let prefix = prefix::parse(text).map_err(|error| error.to_string())?;
    if prefix.prefix_len() == prefix.max_prefix_len() {
        Ok(prefix.addr())
    } else {
        Err(format!(
            "{prefix} is a network; name one of its addresses, such as {}",
            prefix.addr()
        ))
    }
}

fn service(text: &str) -> Result<String, String> {
    if is_service_name(text) {
        Ok(text.to_owned())
    } else {
        Err("no service has such a name: it has 1 to 15 of a-z, 0-9, _ and -".to_owned())
    }
}

/// At most a day: whoever has not come back by then does not wait any more.
fn time_to_confirm(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_hours(24);
    let duration = when::duration(text).map_err(|error| error.to_string())?;
    let duration = duration.unsigned_abs();
    if duration > LONGEST {
        return Err(format!(
            "{text} is too long to wait for a confirmation; write at most 24h, such as 60s or 5m"
        ));
    }
    Ok(duration)
}

/// By the clock and in the time zone of this host.
fn moment(text: &str) -> Result<Timestamp, WhenError> {
    when::moment(text, &Zoned::now())
}

/// A comment is printed on terminals and into scripts.
fn comment(text: &str) -> Result<String, String> {
    const LONGEST: usize = 200;
    if text.chars().any(char::is_control) {
        Err("a comment is one line without control characters".to_owned())
    } else if text.chars().count() > LONGEST {
        Err(format!("a comment has at most {LONGEST} characters"))
    } else {
        Ok(text.to_owned())
    }
}

fn protocol() -> impl TypedValueParser<Value = Protocol> {
    PossibleValuesParser::new(Protocol::ALL.map(protocol_name)).map(|name| {
        // The possible values are the protocols' names.
        protocol_named(&name).expect("a name that was offered")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string);
            assert!(
                help.is_some_and(|help| help.starts_with("Examples:\n")),
                "{}",
                command.get_name()
            );
        }
    }

    #[test]
    fn what_the_examples_say_is_understood() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string);
            for line in help.unwrap_or_default().lines().skip(1) {
                let line = line.trim();
                // Behind two blanks is what it does, behind these signs another program.
                let end = ["  ", " | ", " > ", " < ", " && "]
                    .iter()
                    .filter_map(|sign| line.find(sign))
                    .min();
                let line = &line[..end.unwrap_or(line.len())];
                let mut words = vec![String::new()];
                let mut quoted = false;
                for letter in line.chars() {
                    match letter {
                        '\'' => quoted = !quoted,
                        ' ' if !quoted => words.push(String::new()),
                        letter => words.last_mut().unwrap().push(letter),
                    }
                }
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }

    #[test]
    fn wrong_usage_is_told() {
        for (line, wanted) in [
            ("allow", "required arguments were not provided"),
            (
                "allow 203.0.113.5/24",
                "203.0.113.5/24 has host bits set; write 203.0.113.0/24 (or 203.0.113.5 for the one host)",
            ),
            ("deny gw.example", "\"gw.example\" is no IP address"),
            ("deny ::ffff:203.0.113.5", "write 203.0.113.5"),
            ("remove 10.0.0.0/33", "the prefix length /33 is too long"),
            ("allow any --service SIP", "1 to 15 of a-z, 0-9, _ and -"),
            (
                "allow any --comment a\nb",
                "one line without control characters",
            ),
            (
                "check 203.0.113.0/24",
                "203.0.113.0/24 is a network; name one of its addresses, such as 203.0.113.0",
            ),
            ("check any", "\"any\" is no IP address"),
            ("check 203.0.113.7 --port 0", "0 is not in 1..=65535"),
            (
                "check 203.0.113.7 --proto icmp",
                "[possible values: udp, tcp, sctp, udplite]",
            ),
            ("status -q -v", "cannot be used with"),
            ("list --json --format commands", "cannot be used with"),
            ("completions ksh", "[possible values: "),
            ("apply --confirm 60", "60 has no unit; write 60s"),
            ("apply --confirm 0s", "\"0s\" is less than a second"),
            (
                "apply --confirm 2d",
                "2d is too long to wait for a confirmation",
            ),
            ("start", "unrecognized subcommand 'start'"),
            ("--color blue", "[possible values: auto, always, never]"),
        ] {
            let words = std::iter::once("sipguard").chain(line.split(' '));
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(wanted), "{line}: {error}");
        }
        assert!(comment(&"x".repeat(200)).is_ok());
        assert!(comment(&"x".repeat(201)).is_err());
    }

    #[test]
    fn prefixes_are_taken_once() {
        let words: Vec<Prefixes> = ["203.0.113.7", "any", "203.0.113.7/32"]
            .map(|word| word.parse().unwrap())
            .into();
        assert_eq!(
            flat(&words),
            [
                prefix::ANY[0],
                prefix::parse("203.0.113.7").unwrap(),
                prefix::ANY[1]
            ]
        );
    }

    #[test]
    fn options_go_before_and_behind_the_command() {
        for line in ["sipguard --json status", "sipguard status --json"] {
            assert!(Cli::try_parse_from(line.split(' ')).unwrap().global.json);
        }
    }
}
