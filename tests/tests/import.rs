//! `sipguard import` of what the real programs print, put in force and asked; and `list --format` fed back into them.

use std::{collections::BTreeSet, fs, process::Command};

use sipguard_tests::netns::{End, Finished, Host, SCRATCH, Sandbox, join, sandbox, sipguard};

fn shell(host: &Host, script: &str) -> Finished {
    let prelude = format!(
        "cd {SCRATCH}\nsipguard() {{ {} \"$@\"; }}",
        sipguard().display()
    );
    host.run(Command::new("sh").args(["-ec", &format!("{prelude}\n{script}")]))
}

/// A gateway with an interface to guard.
fn gateway(sandbox: &Sandbox) -> [Host; 2] {
    let hosts = [sandbox.host(), sandbox.host()];
    join(
        End {
            host: &hosts[0],
            interface: "eth0",
            addresses: &["192.0.2.1/24"],
        },
        End {
            host: &hosts[1],
            interface: "eth0",
            addresses: &["192.0.2.2/24"],
        },
    );
    hosts
}

/// Imports what `command` prints, and puts it in force.
fn in_force(host: &Host, command: &str, options: &str) -> Finished {
    fs::write(
        format!("{SCRATCH}/imported.toml"),
        "interfaces = [\"eth0\"]\n",
    )
    .expect("there is room");
    let imported = shell(
        host,
        &format!(
            "({command}) > dump\nsipguard import {options} dump --output imported.toml\ncat imported.toml"
        ),
    )
    .succeeded();
    shell(host, "sipguard apply --config imported.toml").succeeded();
    imported
}

fn passes(host: &Host, source: &str, protocol: &str, port: u16) -> bool {
    let port = port.to_string();
    let told = host.sipguard(["check", source, "--proto", protocol, "--port", &port, "-q"]);
    match told.status.code() {
        Some(0) => true,
        Some(3) => false,
        _ => panic!("{source}: {}", told.stderr),
    }
}

fn hold(host: &Host, cases: &[(&str, &str, u16, bool)]) {
    for &(source, protocol, port, wanted) in cases {
        assert_eq!(
            passes(host, source, protocol, port),
            wanted,
            "{source} {protocol} {port}"
        );
    }
}

#[test]
fn iptables_and_its_sets() {
    sandbox(|sandbox| {
        let [host, _peer] = gateway(sandbox);
        shell(
            &host,
            r#"
            ipset create carriers hash:net
            ipset add carriers 203.0.113.0/24
            ipset create ports hash:ip,port
            ipset add ports 192.0.2.9,udp:5060
            iptables -N PHONES
            iptables -A INPUT -i lo -j ACCEPT
            iptables -A INPUT -s 203.0.113.66 -p udp -m multiport --dports 5060,5061 -j DROP
            iptables -A INPUT -p udp -m multiport --dports 5060:5061 -m set --match-set carriers src -j ACCEPT
            iptables -A INPUT -p udp --dport 5060 -m set --match-set ports src,dst -j ACCEPT
            iptables -A INPUT -p udp -m udp --dport 5060:5061 -j PHONES
            iptables -A INPUT -s 198.51.100.7 -p tcp --dport 80 -m comment --comment "the \"office\"" -j ACCEPT
            iptables -A INPUT -p tcp --dport 80 -j REJECT
            iptables -A INPUT -p tcp --dport 22 -s 198.51.100.7 -j ACCEPT
            iptables -A PHONES -m iprange --src-range 192.0.2.10-192.0.2.13 -j ACCEPT
            iptables -A PHONES -s 203.0.113.0/25 -j DROP
            iptables -A PHONES -p udp --dport 5061 -j DROP
            iptables -A PHONES ! -s 10.0.0.0/8 -p udp --dport 5060 -j ACCEPT
            iptables -A PHONES -j DROP
            ip6tables -P INPUT DROP
            ip6tables -A INPUT -s 2001:db8:100::/48 -p udp --dport 5060 -j ACCEPT
            "#,
        )
        .succeeded();
        let imported = in_force(&host, "ipset save; iptables-save -c; ip6tables-save", "");
        hold(
            &host,
            &[
                ("203.0.113.66", "udp", 5060, false),
                ("203.0.113.5", "udp", 5061, true),
                ("192.0.2.10", "udp", 5060, true),
                ("192.0.2.13", "udp", 5061, true),
                ("192.0.2.14", "udp", 5061, false),
                ("198.51.100.7", "tcp", 80, true),
                ("198.51.100.8", "tcp", 80, false),
                ("2001:db8:100::5", "udp", 5060, true),
                ("2001:db8:200::5", "udp", 5060, false),
                ("198.51.100.99", "tcp", 22, true),
            ],
        );
        for source in ["192.0.2.9", "11.0.0.1"] {
            assert!(passes(&host, source, "udp", 5060), "{source}");
        }
        assert!(!passes(&host, "10.0.0.1", "udp", 5060));
        assert_eq!(imported.stderr, "");
        for wanted in [
            "interfaces = [\"eth0\"]",
            "carriers = [\"203.0.113.0/24\"]",
            "Wrote imported.toml.",
        ] {
            assert!(
                imported.stdout.contains(wanted),
                "{wanted}: {}",
                imported.stdout
            );
        }
        // The same rules as nft shows them, where it can.
        shell(&host, "iptables -F; iptables -X PHONES; ip6tables -F; iptables -A INPUT -s 203.0.113.0/24 -p udp --dport 5060 -j ACCEPT; iptables -A INPUT -p udp --dport 5060 -j DROP").succeeded();
        in_force(&host, "nft list ruleset", "");
        hold(
            &host,
            &[
                ("203.0.113.9", "udp", 5060, true),
                ("203.0.114.9", "udp", 5060, false),
            ],
        );
    });
}

#[test]
fn nftables_rulesets() {
    const RULES: &str = r#"
        table inet filter {
            set carriers { type ipv4_addr; flags interval; elements = { 203.0.113.0/24, 198.51.100.4-198.51.100.7 } }
            set banned { type ipv4_addr; flags timeout; elements = { 203.0.113.66 timeout 1h } }
            chain web { ip saddr { 198.51.100.10, 198.51.100.11 } accept; log prefix "web; " ; drop; }
            chain input {
                type filter hook input priority 0; policy drop;
                ct state established,related accept
                iifname "lo" accept
                ip saddr @banned drop
                ip saddr @carriers udp dport { 5060, 5061, 5070-5072 } counter accept comment "carriers {"
                ip6 saddr 2001:db8:100::/48 meta l4proto { tcp, udp } th dport 5060-5061 accept
                tcp dport 80 jump web
                tcp dport { 443 } ip saddr != 10.0.0.0/8 drop
            }
        }
    "#;
    sandbox(|sandbox| {
        let [host, _peer] = gateway(sandbox);
        fs::write(format!("{SCRATCH}/rules.nft"), RULES).expect("there is room");
        shell(&host, "nft -f rules.nft").succeeded();
        let imported = in_force(&host, "nft list ruleset", "");
        hold(
            &host,
            &[
                ("203.0.113.66", "udp", 5060, false),
                ("203.0.113.67", "udp", 5071, true),
                ("198.51.100.4", "udp", 5060, true),
                ("198.51.100.8", "udp", 5060, false),
                ("2001:db8:100::1", "tcp", 5061, true),
                ("2001:db8:101::1", "tcp", 5061, false),
                ("198.51.100.11", "tcp", 80, true),
                ("198.51.100.12", "tcp", 80, false),
            ],
        );
        assert!(
            imported.stderr.contains("1 address ends by itself"),
            "{}",
            imported.stderr
        );
    });
}

#[test]
fn what_fail2ban_banned() {
    sandbox(|sandbox| {
        let [host, _peer] = gateway(sandbox);
        let folder = format!("{SCRATCH}/fail2ban");
        fs::create_dir_all(folder.clone() + "/filter.d").expect("there is room");
        let define = format!(
            "[Definition]\nloglevel = INFO\nlogtarget = {folder}/log\nsyslogsocket = auto\nsocket = {folder}/sock\npidfile = {folder}/pid\ndbfile = None\n"
        );
        fs::write(folder.clone() + "/fail2ban.conf", define).expect("there is room");
        let jail = format!(
            "[asterisk]\nenabled = true\nfilter =\naction =\nbackend = polling\nbantime = 600\nlogpath = {folder}/in\n"
        );
        fs::write(folder.clone() + "/jail.conf", jail).expect("there is room");
        fs::write(folder.clone() + "/in", "").expect("there is room");
        // In the foreground, so that it ends with the test.
        let server = host.spawn(Command::new("fail2ban-server").args(["-f", "-c", &folder]));
        let client = format!("fail2ban-client -c {folder}");
        sipguard_tests::netns::until("fail2ban is ready", || {
            shell(&host, &format!("{client} ping")).status.success()
        });
        shell(
            &host,
            &format!("{client} set asterisk banip 198.51.100.7 2001:db8::7"),
        )
        .succeeded();
        sipguard_tests::netns::until("both are banned", || {
            shell(&host, &format!("{client} banned"))
                .stdout
                .contains("2001:db8::7")
        });
        for (words, options) in [
            ("banned", ""),
            ("status asterisk", ""),
            ("get asterisk banip", "--from fail2ban"),
            ("get asterisk banip --with-time", "--from fail2ban"),
        ] {
            let imported = in_force(&host, &format!("{client} {words} 2>/dev/null"), options);
            hold(
                &host,
                &[
                    ("198.51.100.7", "udp", 5060, false),
                    ("2001:db8::7", "tcp", 80, false),
                    ("198.51.100.8", "udp", 5060, true),
                ],
            );
            assert!(
                imported
                    .stderr
                    .contains("where they come from, here they stay"),
                "{}",
                imported.stderr
            );
        }
        server.stop();
    });
}

const CONFIG: &str = r#"
interfaces = ["eth0"]
[sources]
providers = ["203.0.113.0/24", "203.0.113.128/25", "2001:db8:100::/48"]
blocked = ["198.51.100.7", "203.0.113.66", "2001:db8:bad::/48"]
world = ["0.0.0.0/0"]
[services.sip]
udp = [5060]
tcp = [5060, 5061]
allow = ["providers"]
deny = ["blocked"]
[services.web]
tcp = [80]
allow = ["world"]
"#;

#[test]
fn what_list_prints_can_be_fed_back() {
    sandbox(|sandbox| {
        let [host, _peer] = gateway(sandbox);
        fs::write(format!("{SCRATCH}/c.toml"), CONFIG).expect("there is room");
        shell(
            &host,
            "sipguard apply --config c.toml; sipguard allow 192.0.2.77 --service sip --for 1h",
        )
        .succeeded();

        shell(
            &host,
            "
            sipguard list --format ipset | ipset restore
            ipset test sipguard-sip-allow 203.0.113.5
            ipset test sipguard-sip-allow 192.0.2.77
            ipset test sipguard-sip-allow6 2001:db8:100::1
            ipset test sipguard-sip-deny 198.51.100.7
            ipset test sipguard-web-allow 8.8.8.8
            if ipset test sipguard-sip-allow 203.0.114.5; then exit 9; fi
            ",
        )
        .succeeded();
        let told = shell(
            &host,
            "
            sipguard list --format nft | nft -f -
            nft get element inet sipguard sip-allow '{ 203.0.113.200 }'
            nft get element inet sipguard sip-allow6 '{ 2001:db8:100::1 }'
            nft get element inet sipguard sip-deny '{ 198.51.100.7 }'
            if nft get element inet sipguard sip-deny '{ 198.51.100.8 }'; then exit 9; fi
            sipguard list --format nft
            ",
        )
        .succeeded();
        assert!(
            told.stdout.contains("# left out, it ends in "),
            "{}",
            told.stdout
        );

        let told = || -> BTreeSet<String> {
            let told =
                shell(&host, "sipguard list --format commands | sed 's/ *#.*//'").succeeded();
            told.stdout.lines().map(str::to_owned).collect()
        };
        let before = told();
        shell(
            &host,
            "sipguard list --format toml > again.toml; sipguard apply --config again.toml",
        )
        .succeeded();
        assert_eq!(told(), before);
        let imported = in_force(&host, "ipset save sipguard-sip-deny", "--action deny");
        hold(
            &host,
            &[
                ("198.51.100.7", "udp", 5060, false),
                ("198.51.100.8", "udp", 5060, true),
            ],
        );
        assert_eq!(imported.stderr, "");
        in_force(
            &host,
            "sipguard list --format prefixes --action deny",
            "--action allow",
        );
        hold(
            &host,
            &[
                ("198.51.100.7", "udp", 5060, true),
                ("198.51.100.8", "udp", 5060, false),
            ],
        );
    });
}

/// Also where a host that may come in lies in a network that may not, which lies in one that may.
#[test]
fn what_list_prints_for_others_is_the_same_policy_again() {
    const NESTED: &str = r#"
interfaces = ["eth0"]
[sources]
providers = ["203.0.113.0/24", "203.0.113.200", "2001:db8:100::/48"]
blocked = ["203.0.113.128/25", "2001:db8:100:bad::/64"]
world = ["0.0.0.0/0"]
[services.sip]
udp = [5060]
tcp = [5060, 5061]
allow = ["providers"]
deny = ["blocked"]
[services.trunk]
udp = [5080]
default = "allow"
deny = ["blocked"]
[services.web]
tcp = [80]
mode = "monitor"
allow = ["world"]
"#;
    sandbox(|sandbox| {
        let [host, _peer] = gateway(sandbox);
        let told = || -> BTreeSet<String> {
            let told = shell(&host, "sipguard list --format toml").succeeded();
            let lines = told
                .stdout
                .lines()
                .filter(|line| !line.contains("left out"));
            lines.map(|line| line.trim().to_owned()).collect()
        };
        for format in ["ipset", "nft"] {
            fs::write(format!("{SCRATCH}/c.toml"), NESTED).expect("there is room");
            shell(&host, "sipguard apply --config c.toml").succeeded();
            let before = told();
            let imported = in_force(&host, &format!("sipguard list --format {format}"), "");
            assert_eq!(told(), before, "{format}: {}", imported.stdout);
        }
    });
}

/// A pipe into the config would leave it empty where the import fails, and nothing would be left to apply.
#[test]
fn a_config_is_written_whole_or_not_at_all() {
    const KEPT: &str = "mode = \"monitor\"\n[[interface]]\nname = \"eth0\"\nmode = \"native\"\n";
    sandbox(|sandbox| {
        let host = sandbox.host();
        let file = |name: &str, text: &str| {
            fs::write(format!("{SCRATCH}/{name}"), text).expect("there is room");
        };
        file("sipguard.toml", KEPT);
        file("wrong", "Chain INPUT (policy DROP)\n");
        let told = shell(&host, "sipguard import wrong --output sipguard.toml").exited(1);
        assert!(told.stderr.contains("`iptables-save`"), "{}", told.stderr);
        let read = || shell(&host, "cat sipguard.toml; ls").succeeded().stdout;
        assert!(read().starts_with(KEPT), "{}", read());

        file("list", "203.0.113.0/24\n");
        let script = "chmod 600 sipguard.toml; sipguard import list --action allow --output sipguard.toml; stat -c %a sipguard.toml";
        let told = shell(&host, script).succeeded();
        assert!(told.stdout.ends_with("600\n"), "{}", told.stdout);
        let now = read();
        assert!(
            now.contains("[[interface]]\nname = \"eth0\"\nmode = \"native\"\n")
                && now.contains("203.0.113.0/24")
                && !now.contains(".new-"),
            "{now}"
        );

        file("sipguard.toml", "interfaces = 5\n");
        let told = shell(
            &host,
            "sipguard import list --action allow --output sipguard.toml",
        )
        .exited(1);
        assert!(
            told.stderr.contains("its interfaces can't be kept"),
            "{}",
            told.stderr
        );
        let told = shell(&host, "mount --bind . . && mount -o remount,ro,bind . && cd $PWD && sipguard import list --action allow --output new.toml").exited(1);
        assert!(
            told.stderr
                .contains("cannot write new.toml, and nothing was changed"),
            "{}",
            told.stderr
        );
    });
}

/// Both back ends of iptables, nftables' own table and a set: what a packet meets is all of it.
#[test]
fn a_host_is_asked_itself() {
    sandbox(|sandbox| {
        let [host, _peer] = gateway(sandbox);
        let told = shell(&host, "sipguard import --from-host").exited(1);
        assert!(
            told.stderr.contains("everybody may come in at the ports"),
            "{}",
            told.stderr
        );
        shell(
            &host,
            "
            ipset create carriers hash:net
            ipset add carriers 203.0.113.0/24
            iptables-nft -A INPUT -p udp --dport 5060 -m set --match-set carriers src -j ACCEPT
            iptables-nft -A INPUT -d 192.0.2.1 -p udp --dport 5060 -s 198.51.100.0/24 -j ACCEPT
            iptables-nft -A INPUT -p udp --dport 5060 -j DROP
            iptables-legacy -A INPUT -s 203.0.113.64/26 -j DROP
            nft add table inet ban
            nft add chain inet ban input '{ type filter hook input priority -1; }'
            nft add rule inet ban input ip saddr 203.0.113.5 drop
            ",
        )
        .succeeded();
        let told = shell(
            &host,
            "sipguard import --from-host --output host.toml --interface eth0",
        )
        .succeeded();
        for wanted in [
            "iptables (nf_tables): 3 rules",
            "iptables (legacy): 1 rule\n",
            "nftables: 1 rule of its own\n",
            "ipset: 1 set\n",
        ] {
            assert!(told.stderr.contains(wanted), "{wanted}: {}", told.stderr);
        }
        shell(
            &host,
            "sed -i 's/^# interfaces/interfaces/' host.toml; sipguard apply --config host.toml",
        )
        .succeeded();
        hold(
            &host,
            &[
                ("203.0.113.1", "udp", 5060, true),
                ("203.0.113.5", "udp", 5060, false),
                ("203.0.113.65", "udp", 5060, false),
                ("198.51.100.1", "udp", 5060, true),
                ("8.8.8.8", "udp", 5060, false),
                ("8.8.8.8", "tcp", 5060, true),
                ("2001:db8::9", "udp", 5060, true),
            ],
        );
    });
}

#[test]
fn wrong_input_is_told_by_line() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let told = shell(
            &host,
            "printf '203.0.113.0/24\\nnonsense\\n10.0.0.1/8\\n' | sipguard import --action allow",
        )
        .succeeded();
        assert!(
            told.stdout
                .contains("# MAY LOSE ACCESS: line 2: nonsense ("),
            "{}",
            told.stdout
        );
        assert!(
            told.stderr
                .contains("may lose access: line 3: 10.0.0.1/8 (10.0.0.1/8 has host bits set"),
            "{}",
            told.stderr
        );
        for (script, wanted) in [
            ("sipguard import nowhere", "cannot read nowhere"),
            (
                "echo 203.0.113.5 | sipguard import",
                "--action allow or --action deny",
            ),
            (
                "printf 'a\\n\\377' | sipguard import",
                "line 2 is not UTF-8",
            ),
            (
                "printf 'x\\ny\\n' | sipguard import --action deny",
                "line 2: y (",
            ),
            (
                "echo '{\"nftables\":[]}' | sipguard import",
                "there is no chain in it",
            ),
        ] {
            let told = shell(&host, script).exited(1);
            assert_eq!(told.stdout, "", "{script}");
            assert!(told.stderr.contains(wanted), "{script}: {}", told.stderr);
        }
    });
}
