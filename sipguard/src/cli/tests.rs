use clap::CommandFactory as _;

use sipguard::prefix;

use super::{
    values::{Prefixes, comment},
    *,
};

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
            if line.starts_with('#') {
                // A comment, as in a shell.
                continue;
            }
            // Behind two blanks is what it does, behind these signs another program.
            let end = ["  ", " | ", " > ", " < ", " && ", " || "]
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
