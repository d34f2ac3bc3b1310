use std::{fs, path::Path};

use sipguard_ebpf::abi::Protocol;
use sipguard_lists::notify::Address;
use tempfile::TempDir;

use super::*;
use crate::policy::{Action, AttachMode, Entry, Interface, Origin};

mod wrong;

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
            "wg0 tc",
            "x auto"
        ]
    );
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
            file: Some(folder.path().join("list.txt")),
            prefixes: Some(4),
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
        ":4:1: \"10.0.0.1 10.0.0.2\" is more than one prefix; write one a line, and comments behind # or ;"
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

#[test]
fn live_sources_are_taken_as_they_are_meant() {
    use sipguard_lists::task::{Kind, Url, Widest};

    let policy = read(
        r#"
[sources]
providers = ["203.0.113.0/24", "sip.provider.example", "_sip._udp.Provider.example."]
trunk     = { sip = "provider.example", hold = "1h", private = true }
blocked   = { url = "https://feeds.example/voip.txt", every = "30m", tolerate = "0.5%", widest = { ipv4 = 8 }, stale_after = "7d" }
home      = { countries = ["DE", "AT"], database = "/usr/share/GeoIP/country.mmdb" }
crowdsec  = { crowdsec = "http://127.0.0.1:8080/", key_file = "/etc/sipguard/crowdsec.key" }
fleet     = { etcd = ["https://etcd1.example:2379"], key = "/sipguard/", user = "gateway", password_file = "/p" }
unused    = ["sip.unused.example"]
[dns]
servers = ["192.0.2.53", "2001:db8::53"]
dnssec = true
[events]
hide = ["user"]
[services.sip]
udp = [5060]
allow = ["providers", "trunk", "home", "fleet"]
deny = ["blocked", "crowdsec"]
[services.web]
tcp = [80]
allow = ["blocked"]
"#,
    )
    .unwrap();
    // A source of prefixes and names is both.
    assert_eq!(policy.entries.len(), 1);
    assert_eq!(policy.dns.servers.len(), 2);
    assert!(policy.hide.user && !policy.hide.number);
    let live: Vec<_> = policy
        .live
        .iter()
        .map(|source| {
            let uses = source.uses.iter().map(|it| (it.service, it.action));
            let name = &policy.origins[usize::from(source.origin)].source;
            assert_eq!(*name, source.task.source);
            (&**name, source.task.kind.name(), uses.collect::<Vec<_>>())
        })
        .collect();
    let (allow, deny) = (Action::Allow, Action::Deny);
    assert_eq!(
        live,
        [
            ("providers", "names", vec![(0, allow)]),
            ("trunk", "names", vec![(0, allow)]),
            ("blocked", "url", vec![(0, deny), (1, allow)]),
            ("home", "countries", vec![(0, allow)]),
            ("crowdsec", "crowdsec", vec![(0, deny)]),
            ("fleet", "etcd", vec![(0, allow)]),
        ]
    );
    let Kind::Names(names) = &policy.live[0].task.kind else {
        panic!("they are names")
    };
    let names: Vec<_> = names.names.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        ["sip.provider.example", "_sip._udp.provider.example"]
    );
    let Kind::Names(trunk) = &policy.live[1].task.kind else {
        panic!("it is a name")
    };
    assert_eq!((trunk.hold, trunk.private), (3600, true));
    assert_eq!(policy.live[2].stale_after, Some(7 * 24 * 3600));
    assert_eq!(
        policy.live[2].task.kind,
        Kind::Url(Url {
            url: "https://feeds.example/voip.txt".to_owned(),
            every: 1800,
            insecure: false,
            ca_file: None,
            path: None,
            tolerate: 5,
            widest: Widest { ipv4: 8, ipv6: 28 },
        })
    );
    let Kind::CrowdSec(lapi) = &policy.live[4].task.kind else {
        panic!("it is CrowdSec")
    };
    assert_eq!(lapi.url, "http://127.0.0.1:8080");
    assert_eq!(policy.tasks().guarded_ports, BTreeSet::from([80, 5060]));
}

#[test]
fn who_wants_notices() {
    let notify = |text: &str| read(&format!("[notify]\n{text}")).unwrap().notify.unwrap();
    let both = notify(
        "webhook = \"https://hooks.example/T/1\"\n\
         mail = { to = \"noc@example.com\", from = \"sipguard@gw1.example\", smtp = \"smtp://mail.example\" }",
    );
    assert_eq!(both.receivers().collect::<Vec<_>>(), ["webhook", "mail"]);
    assert_eq!(
        both.webhook.unwrap().address,
        Address::Url("https://hooks.example/T/1".to_owned())
    );
    let port = |smtp: &str, more: &str| {
        let line = format!(
            "mail = {{ to = [\"a@b\", \"c@d\"], from = \"a@b\", smtp = \"{smtp}\"{more} }}"
        );
        let mail = notify(&line).mail.unwrap();
        assert_eq!(mail.to.len(), 2);
        mail.smtp.port
    };
    let ports = [
        port("smtps://mail.example", ""),
        port("smtp://mail.example", ""),
        port("smtp://mail.example", ", insecure = true"),
        port("smtp://127.0.0.1", ""),
        port(
            "smtp://mail.example:2525",
            ", user = \"gw1\", password_file = \"/p\"",
        ),
    ];
    assert_eq!(ports, [465, 587, 587, 25, 2525]);
    let hook = notify("webhook = { url_file = \"hook\", ca_file = \"/ca.pem\" }")
        .webhook
        .unwrap();
    let Address::UrlFile(file) = &hook.address else {
        panic!("{hook:?}")
    };
    assert!(
        file.is_absolute() && file.ends_with("hook"),
        "{}",
        file.display()
    );
    assert!(
        notify("webhook = \"http://127.0.0.1:8080/\"")
            .webhook
            .is_some()
    );
}
