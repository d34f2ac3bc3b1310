use std::{fs, path::Path};

use sipguard_ebpf::abi::Protocol;
use tempfile::TempDir;

use super::*;
use crate::policy::{Action, AttachMode, Entry, Interface, Origin};

fn read(text: &str) -> Result<Policy, Problems> {
    parse(text, Path::new("c.toml"))
}

/// What is said of a config file, without its name.
fn wrong(text: &str) -> Vec<String> {
    let problems = read(text).unwrap_err();
    let lines = problems.to_string();
    lines
        .lines()
        .map(|line| line.strip_prefix("c.toml:").unwrap_or(line).to_owned())
        .collect()
}

const EXAMPLE: &str = r#"
interfaces = ["eth0"]
mode = "enforce"

[sources]
providers = ["203.0.113.0/24", "2001:db8:100::/48"]
admins    = ["198.51.100.10"]
unused    = ["192.0.2.1"]

[services.sip]
udp = [5060, 5061, 50600]
tcp = [5060, 5061, 50600]
allow = ["providers", "admins", "admins"]

[services.web]
udp = [80]
tcp = [80]
allow = ["admins", "providers"]
deny = ["providers"]
default = "allow"
mode = "monitor"
"#;

#[test]
fn an_empty_file_guards_sip_and_web_on_no_interface() {
    for text in ["", "\u{feff}", "# nothing\r\n"] {
        assert_eq!(read(text).unwrap(), Policy::default());
    }
    let ports: Vec<_> = Policy::default()
        .services
        .iter()
        .flat_map(|service| service.ports[&Protocol::Tcp].clone())
        .collect();
    assert_eq!(ports, [5060, 5061, 50600, 80]);
}

#[test]
fn the_example_is_taken_as_it_is_meant() {
    let policy = read(EXAMPLE).unwrap();
    let mut wanted = Policy::default();
    assert_eq!(
        policy.interfaces,
        [Interface {
            name: "eth0".into(),
            mode: AttachMode::Auto
        }]
    );
    wanted.services[1].default = Action::Allow;
    wanted.services[1].mode = Mode::Monitor;
    assert_eq!(policy.services, wanted.services);
    let origins: Vec<_> = policy.origins.iter().map(ToString::to_string).collect();
    assert_eq!(origins, ["config: providers", "config: admins"]);

    let entry = |prefix: &str, service, action, origin| Entry {
        prefix: prefix.parse().unwrap(),
        service,
        action,
        origin,
    };
    let wanted = [
        entry("203.0.113.0/24", 0, Action::Allow, 0),
        entry("2001:db8:100::/48", 0, Action::Allow, 0),
        entry("198.51.100.10/32", 0, Action::Allow, 1),
        entry("203.0.113.0/24", 1, Action::Allow, 0),
        entry("2001:db8:100::/48", 1, Action::Allow, 0),
        entry("198.51.100.10/32", 1, Action::Allow, 1),
        entry("203.0.113.0/24", 1, Action::Deny, 0),
        entry("2001:db8:100::/48", 1, Action::Deny, 0),
    ];
    assert_eq!(policy.entries, wanted);
}

#[test]
fn written_services_stand_for_themselves() {
    assert_eq!(read("[services]").unwrap().services, []);
    let policy = read("mode = \"monitor\"\n[services.a]\nsctp = [1]\nudplite = [0xffff]\nudp = []\n[services.b]\ntcp = [1]\nmode = \"enforce\"").unwrap();
    let ports: Vec<_> = policy.services[0].ports.iter().collect();
    assert_eq!(
        ports,
        [
            (&Protocol::Sctp, &[1].into()),
            (&Protocol::UdpLite, &[65535].into())
        ]
    );
    assert_eq!(policy.mode, Mode::Monitor);
    assert_eq!(
        [policy.services[0].mode, policy.services[1].mode],
        [Mode::Monitor, Mode::Enforce]
    );
}

#[test]
fn the_global_mode_is_the_default_services_mode_too() {
    let policy = read("mode = \"monitor\"").unwrap();
    assert!(
        policy
            .services
            .iter()
            .all(|service| service.mode == Mode::Monitor)
    );
}

#[test]
fn interfaces_in_both_forms() {
    let policy = read("interfaces = [\"eth0\", \"eth0.100\"]\n[[interface]]\nname = \"ppp0\"\nmode = \"native\"\n[[interface]]\nname = \"wg0\"\nmode = \"generic\"\n[[interface]]\nname=\"x\"").unwrap();
    let interfaces: Vec<_> = policy
        .interfaces
        .iter()
        .map(|interface| format!("{} {}", interface.name, interface.mode))
        .collect();
    assert_eq!(
        interfaces,
        [
            "eth0 auto",
            "eth0.100 auto",
            "ppp0 native",
            "wg0 generic",
            "x auto"
        ]
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, wanted) in [
        // Syntax; the words are the toml crate's.
        (
            "mode = ",
            "1:8: string values must be quoted, expected literal string",
        ),
        ("a = 1\na = 2", "2:1: duplicate key"),
        ("\n  [sources\n", "2:11: unclosed table, expected `]`"),
        // Keys.
        (
            "\nmod = \"monitor\"",
            "2:1: the config file has no key \"mod\"; did you mean \"mode\"?",
        ),
        (
            "[service.sip]\n",
            "1:2: the config file has no key \"service\"; did you mean \"services\"?",
        ),
        (
            "colour = 1",
            "1:1: the config file has no key \"colour\"; the keys here are interfaces, interface, mode, sources, services",
        ),
        (
            "[services.sip]\nudp = [1]\n alow = []",
            "3:2: the service sip has no key \"alow\"; did you mean \"allow\"?",
        ),
        (
            "[services.sip]\nudp = [1]\nicmp = []",
            "3:1: the service sip has no key \"icmp\"; the keys here are udp, tcp, sctp, udplite, allow, deny, default, mode",
        ),
        (
            "[[interface]]\nname = \"a\"\nmods = 1",
            "3:1: [[interface]] has no key \"mods\"; did you mean \"mode\"?",
        ),
        (
            "[sources]\na = { flie = \"x\", file = \"/dev/null/x\" }",
            "2:7: a source has no key \"flie\"; did you mean \"file\"?",
        ),
        // Types and words.
        (
            "mode = 1",
            "1:8: mode is a string, not an integer; write \"enforce\" or \"monitor\"",
        ),
        (
            "mode = \"on\"",
            "1:8: mode can't be \"on\"; write \"enforce\" or \"monitor\"",
        ),
        (
            "mode = 1979-05-27",
            "1:8: mode is a string, not a date or time; write \"enforce\" or \"monitor\"",
        ),
        (
            "sources = true",
            "1:11: sources is a table, not a boolean; write [sources]",
        ),
        (
            "services = 1.5",
            "1:12: services is a table, not a float; write [services.sip]",
        ),
        (
            "[services]\nsip = []",
            "2:7: a service is a table, not an array; write [services.sip]",
        ),
        (
            "[services.a]\nudp = 5060",
            "2:7: udp is an array, not an integer; write udp = [5060]",
        ),
        (
            "[services.a]\nudp = [\"5060\"]",
            "2:8: a port is an integer, not a string; write 5060",
        ),
        (
            "[services.a]\nudp = [1]\nallow = \"x\"",
            "3:9: allow is an array, not a string; write allow = [\"providers\"]",
        ),
        (
            "[services.a]\nudp = [1]\ndeny = [1]",
            "3:9: a source's name is a string, not an integer; write \"providers\"",
        ),
        (
            "[services.a]\nudp = [1]\ndefault = \"drop\"",
            "3:11: default can't be \"drop\"; write \"deny\" or \"allow\"",
        ),
        (
            "[services.a]\nudp = [1]\nmode = \"off\"",
            "3:8: mode can't be \"off\"; write \"enforce\" or \"monitor\"",
        ),
        // Interfaces.
        (
            "interfaces = \"eth0\"",
            "1:14: interfaces is an array, not a string; write interfaces = [\"eth0\"]",
        ),
        (
            "interfaces = [1]",
            "1:15: an interface's name is a string, not an integer; write \"eth0\"",
        ),
        (
            "interfaces = [\"a\", \"a\"]",
            "1:20: the interface a is there twice; leave one out",
        ),
        (
            "interfaces = [\"a\"]\n[[interface]]\nname = \"a\"",
            "3:8: the interface a is there twice; leave one out",
        ),
        (
            "[[interface]]\nmode = \"auto\"",
            "1:1: this [[interface]] has no name; write name = \"eth0\" below it",
        ),
        (
            "[interface]\nname = \"a\"",
            "1:1: interface is an array, not a table; write [[interface]] and below it name = \"eth0\"",
        ),
        (
            "interface = [\"a\"]",
            "1:14: interface is a table, not a string; write [[interface]] and below it name = \"eth0\"",
        ),
        (
            "[[interface]]\nname = \"a\"\nmode = \"xdp\"",
            "3:8: mode can't be \"xdp\"; write \"auto\" or \"native\" or \"generic\"",
        ),
        (
            "interfaces = [\"\"]",
            "1:15: \"\" is no interface name: it is empty; `ip link` shows the names",
        ),
        (
            "interfaces = [\"0123456789012345\"]",
            "1:15: \"0123456789012345\" is no interface name: it is longer than 15 bytes; `ip link` shows the names",
        ),
        (
            "interfaces = [\"..\"]",
            "1:15: \"..\" is no interface name: it is a folder's; `ip link` shows the names",
        ),
        (
            "interfaces = [\"a/b\"]",
            "1:15: \"a/b\" is no interface name: it has a / or : in it; `ip link` shows the names",
        ),
        (
            "interfaces = [\"eth0:1\"]",
            "1:15: \"eth0:1\" is no interface name: it has a / or : in it; `ip link` shows the names",
        ),
        (
            "interfaces = [\"eth 0\"]",
            "1:15: \"eth 0\" is no interface name: it has a space or control character in it; `ip link` shows the names",
        ),
        // Sources.
        (
            "[sources]\na = \"203.0.113.0/24\"",
            "2:5: a source is an array or a table, not a string; write [\"203.0.113.0/24\"] or { file = \"list.txt\" }",
        ),
        (
            "[sources]\n\"a b\" = []",
            "2:1: \"a b\" is no name for a source; write 1 to 63 letters, digits, _ and -",
        ),
        (
            "[sources]\na = [1]",
            "2:6: a prefix is a string, not an integer; write \"203.0.113.0/24\"",
        ),
        ("[sources]\nä = 1", "2:1: "),
        (
            "[sources]\n\"ä\" = []",
            "2:1: \"ä\" is no name for a source; write 1 to 63 letters, digits, _ and -",
        ),
        (
            "sources = { \"äö\" = [], a = [\"203.0.113.5/24\"] }",
            "1:13: \"äö\" is no name for a source; write 1 to 63 letters, digits, _ and -\n1:29: 203.0.113.5/24 has host bits set; write 203.0.113.0/24 (or 203.0.113.5 for the one host)",
        ),
        (
            "[sources]\na = [\n  \"10.0.0.1\",\n  \"::ffff:0:0/96\",\n]",
            "4:3: ::ffff:0.0.0.0/96 is IPv4 in IPv6 form, which Linux takes from no wire; write 0.0.0.0/0",
        ),
        (
            "[sources]\na = {}",
            "2:5: this source has no file; write { file = \"list.txt\" }",
        ),
        (
            "[sources]\na = { file = 1 }",
            "2:14: file is a string, not an integer; write \"list.txt\"",
        ),
        (
            "[sources]\na = { file = \"/nowhere/a\" }",
            "2:14: cannot read /nowhere/a: No such file or directory (os error 2); put one prefix a line there",
        ),
        (
            "[sources]\na = { file = \"/dev/null\" }",
            "2:14: cannot read /dev/null: it is not a regular file; put one prefix a line there",
        ),
        // Services.
        (
            "[services.SIP]\nudp = [1]",
            "1:11: \"SIP\" is no name for a service; write 1 to 15 of a-z, 0-9, _ and -",
        ),
        (
            "[services.sip]\nallow = []",
            "1:11: the service sip guards no ports; write for example udp = [5060] below it",
        ),
        (
            "[services.a]\nudp = [0]",
            "2:8: \"0\" is no port; write a number from 1 to 65535",
        ),
        (
            "[services.a]\nudp = [1, 65536]",
            "2:11: \"65536\" is no port; write a number from 1 to 65535",
        ),
        (
            "[services.a]\nudp = [-1]",
            "2:8: \"-1\" is no port; write a number from 1 to 65535",
        ),
        (
            "[services.a]\nudp = [1, 2, 0x1]",
            "2:14: udp port 1 is there twice; leave one out",
        ),
        (
            "[services.a]\nudp = [1]\n[services.b]\nudp = [2, 1]",
            "4:11: udp port 1 is already guarded by the service a (line 2); leave it out of one",
        ),
        // Names of sources.
        (
            "[sources]\nproviders = []\n[services.a]\nudp = [1]\nallow = [\"provider\"]",
            "5:10: no source is called \"provider\"; did you mean \"providers\"?",
        ),
        (
            "[services.a]\nudp = [1]\nallow = [\"friends\"]",
            "3:10: no source is called \"friends\"; define it in [sources], or correct the name",
        ),
        (
            "[services.a]\nudp = [1]\ndeny = [\"203.0.113.0/24\"]",
            "3:9: \"203.0.113.0/24\" is an address, not a source's name; give it one in [sources], such as mine = [\"203.0.113.0/24\"], and write \"mine\" here",
        ),
    ] {
        let got = wrong(text).join("\n");
        if wanted.ends_with(": ") {
            assert!(got.starts_with(wanted), "{text}\n{got}");
        } else {
            assert!(got.starts_with(wanted), "{text}\n{got}\nnot\n{wanted}");
            assert!(
                wanted.contains('\n') || wanted.contains("flie") || !got.contains('\n'),
                "{text}\n{got}"
            );
        }
    }
}

#[test]
fn more_services_and_ports_than_there_can_be() {
    use std::fmt::Write as _;

    let services = |count: usize| {
        (1..=count).fold(String::new(), |mut text, number| {
            writeln!(
                text,
                "[services.s{number}]\nudp = [{number}]\ntcp = [{number}]"
            )
            .unwrap();
            text
        })
    };
    assert_eq!(read(&services(16)).unwrap().services.len(), 16);
    assert_eq!(
        wrong(&services(18)),
        ["49:11: this is one service too many; at most 16 are possible"]
    );
    let ports: Vec<_> = (1..=64).map(|port| port.to_string()).collect();
    let ports = format!("[services.a]\nudp = [{}]\n", ports.join(", "));
    assert!(read(&format!("{ports}tcp = [64]")).is_ok());
    assert_eq!(
        wrong(&format!("{ports}tcp = [64, 65]")),
        ["3:12: port 65 is one too many; at most 64 different ports can be guarded"]
    );
}

#[test]
fn ten_problems_are_told_in_the_order_of_their_lines() {
    let ports = "0, ".repeat(12);
    let text = format!("[services.a]\nudp = [{ports}]\n");
    let lines = wrong(&text);
    assert_eq!(lines.len(), 11);
    assert_eq!(lines[10], " 2 more like these");

    let lines = wrong("[services.a]\nudp = [0]\n[sources]\na = [\"x\"]\n[[interface]]\n");
    let places: Vec<_> = lines.iter().map(|line| &line[..4]).collect();
    assert_eq!(places, ["2:8:", "4:6:", "5:1:"]);
}

#[test]
fn problems_can_be_taken_one_by_one() {
    let problems = read("mode = 1\nx = 2").unwrap_err();
    let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 2]);
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

const WITH_LIST: &[u8] =
    b"[sources]\nblocked = { file = \"list.txt\" }\n[services.a]\nudp = [1]\ndeny = [\"blocked\"]";

#[test]
fn list_files_lie_beside_the_config_file() {
    let list = b"\xef\xbb\xbf203.0.113.0/24\r\n\r\n# one\n  198.51.100.7\t# two\n2001:db8::/32\n203.0.113.0/24";
    let folder = folder(&[("sg.toml", WITH_LIST), ("list.txt", list)]);
    let policy = load(&folder.path().join("sg.toml")).unwrap();
    let prefixes: Vec<_> = policy
        .entries
        .iter()
        .map(|entry| entry.prefix.to_string())
        .collect();
    assert_eq!(
        prefixes,
        [
            "203.0.113.0/24",
            "198.51.100.7/32",
            "2001:db8::/32",
            "203.0.113.0/24"
        ]
    );
    assert_eq!(
        policy.origins,
        [Origin {
            source: "blocked".into(),
            file: Some(folder.path().join("list.txt"))
        }]
    );
}

#[test]
fn a_list_file_with_wrong_lines_is_refused_and_ten_are_named() {
    let mut list = b"10.0.0.1\n \xffx\n\t10.0.0.1/8\n10.0.0.1 10.0.0.2\n".to_vec();
    list.extend(b"x # y\n".repeat(9));
    let folder = folder(&[("sg.toml", WITH_LIST), ("list.txt", &list)]);
    let error = load(&folder.path().join("sg.toml"))
        .unwrap_err()
        .to_string();
    let path = folder.path().join("list.txt");
    let lines: Vec<_> = error
        .lines()
        .map(|line| line.strip_prefix(path.to_str().unwrap()).unwrap())
        .collect();
    assert_eq!(lines.len(), 11);
    assert_eq!(lines[0], ":2:2: this is not UTF-8; save the file as UTF-8");
    assert_eq!(
        lines[1],
        ":3:2: 10.0.0.1/8 has host bits set; write 10.0.0.0/8 (or 10.0.0.1 for the one host)"
    );
    assert_eq!(
        lines[2],
        ":4:1: \"10.0.0.1 10.0.0.2\" is more than one prefix; write one a line, and comments behind #"
    );
    assert!(lines[3].starts_with(":5:1: \"x\" is no IP address; "));
    assert_eq!(lines[10], ": 2 more like these");
}

#[test]
fn a_config_file_that_cannot_be_read() {
    let folder = folder(&[("latin1.toml", b"# ok\n# caf\xe9\n")]);
    let path = folder.path().join("none.toml");
    assert_eq!(
        load(&path).unwrap_err().to_string(),
        format!(
            "cannot read {}: No such file or directory (os error 2); `sipguard init` writes one",
            path.display()
        )
    );
    assert!(
        load(folder.path())
            .unwrap_err()
            .to_string()
            .ends_with(": Is a directory (os error 21); name another with --config")
    );
    let path = folder.path().join("latin1.toml");
    assert_eq!(
        load(&path).unwrap_err().to_string(),
        format!(
            "{}:2:6: this is not UTF-8; save the file as UTF-8",
            path.display()
        )
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}", lines in proptest::collection::vec("(mode|sources|services|\\[services\\.a\\]|udp|a|file|allow)? ?=? ?(\\[|\\]|\\{|\\}|\"|[0-9a-z./:\"]{0,9}){0,4}", 0..8)) {
        let _ = read(&text);
        let _ = read(&lines.join("\n"));
    }
}
