//! `sipguard doctor` on hosts with something wrong: it finds that, and what it says to run mends it.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{fs, net::UdpSocket, path::Path, process::Command};

use sipguard_tests::netns::{BPFFS, End, Finished, Host, SCRATCH, join, sandbox};

const POLICY: &str = "interfaces = [\"eth0\"]\n[sources]\nus = [\"203.0.113.0/24\"]\n\
                      [services.sip]\nudp = [5060]\nallow = [\"us\"]\n";

/// A gateway whose default route leads through `eth0`.
fn on_a_gateway(test: impl FnOnce(&Gateway<'_>) + Send) {
    sandbox(|sandbox| {
        let (host, other) = (sandbox.host(), sandbox.host());
        let end = |host, addresses| End {
            host,
            interface: "eth0",
            addresses,
        };
        join(
            end(&host, &["203.0.113.1/24"]),
            end(&other, &["203.0.113.5/24"]),
        );
        host.ip("route add default via 203.0.113.5");
        let gateway = Gateway { host: &host };
        Gateway::config(POLICY);
        test(&gateway);
    });
}

struct Gateway<'a> {
    host: &'a Host,
}

impl Gateway<'_> {
    fn file() -> String {
        format!("{SCRATCH}/sipguard.toml")
    }

    fn config(text: &str) {
        fs::write(Self::file(), text).unwrap();
    }

    fn sipguard(&self, words: &[&str]) -> Finished {
        let file = Self::file();
        let global = ["--config", file.as_str()];
        self.host.sipguard(words.iter().chain(&global))
    }

    /// What is wrong, by the checks' names.
    fn findings(&self) -> Vec<(String, String)> {
        let said = self.sipguard(&["doctor", "--json"]);
        let json: serde_json::Value =
            serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let found = json["findings"].as_array().unwrap();
        let wrong = found.iter().any(|finding| finding["wrong"] == true);
        assert_eq!(json["well"], !wrong);
        said.exited(i32::from(wrong));
        found
            .iter()
            .map(|finding| (text(&finding["check"]), text(&finding["mend"])))
            // The machine that tests run on is what it is.
            .filter(|(check, _)| !["kernel", "jit"].contains(&check.as_str()))
            .collect()
    }

    /// The one thing that is wrong, in this check, is mended by what it says to run.
    fn mend(&self, check: &str) {
        let found = self.findings();
        let [(name, command)] = &found[..] else {
            panic!("one finding of {check}, not {found:?}");
        };
        assert_eq!(name, check);
        let folder = sipguard_tests::netns::sipguard();
        let folder = folder.parent().unwrap().display();
        let path = format!("{folder}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
        let mut shell = Command::new("sh");
        self.host
            .run(shell.env("PATH", path).args(["-ec", command]))
            .succeeded();
        assert_eq!(self.findings(), []);
    }
}

#[test]
fn a_gateway_that_is_well() {
    on_a_gateway(|gateway| {
        gateway.sipguard(&["apply"]).succeeded();
        assert_eq!(gateway.findings(), []);
    });
}

#[test]
fn nothing_is_in_force() {
    on_a_gateway(|gateway| gateway.mend("in_force"));
}

#[test]
fn an_interface_that_is_not_filtered() {
    on_a_gateway(|gateway| {
        Gateway::config(&POLICY.replace("[\"eth0\"]", "[\"eth0\", \"tun7\"]"));
        gateway.host.ip("link add tun7 type veth peer tun8");
        gateway.sipguard(&["apply"]).succeeded();
        // It comes back, and nobody noticed.
        gateway.host.ip("link delete tun7");
        gateway.host.ip("link add tun7 type veth peer tun8");
        gateway.mend("in_force");
    });
}

#[test]
fn a_config_that_was_changed_and_not_applied() {
    on_a_gateway(|gateway| {
        gateway.sipguard(&["apply"]).succeeded();
        Gateway::config(&POLICY.replace("5060", "5060, 5061"));
        gateway.mend("in_force");
    });
}

#[test]
fn a_config_that_is_wrong() {
    on_a_gateway(|gateway| {
        Gateway::config("interfaces = [");
        let found = gateway.findings();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].1.contains("sipguard.toml"), "{found:?}");
        fs::remove_file(Gateway::file()).unwrap();
        let found = gateway.findings();
        assert!(found[0].1.starts_with("sipguard init"), "{found:?}");
    });
}

#[test]
fn an_interface_to_the_internet_that_is_not_guarded() {
    on_a_gateway(|gateway| {
        gateway.host.ip("link add wan1 type veth peer wan2");
        gateway.host.ip("link set wan1 up");
        gateway.host.ip("address add 2001:db8::1/64 dev wan1 nodad");
        gateway.host.ip("-6 route add default dev wan1");
        gateway.sipguard(&["apply"]).succeeded();
        gateway.mend("world");
    });
}

#[test]
fn a_bridge_of_guarded_ports_is_guarded() {
    on_a_gateway(|gateway| {
        gateway.host.ip("link add br0 type bridge");
        gateway.host.ip("link set br0 up");
        gateway.host.ip("link set eth0 master br0");
        gateway.host.ip("address flush dev eth0");
        gateway.host.ip("address add 203.0.113.1/24 dev br0");
        gateway.host.ip("route add default via 203.0.113.5");
        gateway.sipguard(&["apply"]).succeeded();
        assert_eq!(gateway.findings(), []);
        gateway.host.ip("link add eth1 type veth peer eth2");
        gateway.host.ip("link set eth1 master br0");
        gateway.mend("world");
    });
}

#[test]
fn guarded_ports_that_are_not_reserved() {
    on_a_gateway(|gateway| {
        Gateway::config(&POLICY.replace("5060", "5060, 50600"));
        gateway.sipguard(&["apply"]).succeeded();
        let found = gateway.findings();
        let [(check, command)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(check, "reserved");
        // Without the file, which would be this machine's.
        let (setting, _) = command
            .trim_start_matches("echo '")
            .split_once('\'')
            .unwrap();
        let (name, value) = setting.split_once(" = ").unwrap();
        let set = format!("{name}={value}");
        gateway
            .host
            .run(Command::new("sysctl").args(["-w", &set]))
            .succeeded();
        assert_eq!(gateway.findings(), []);
    });
}

#[test]
fn a_program_that_nobody_can_reach() {
    on_a_gateway(|gateway| {
        Gateway::config("interfaces = [\"eth0\"]\n[services.sip]\nudp = [5060]\n");
        gateway.sipguard(&["apply"]).succeeded();
        assert_eq!(gateway.findings(), []);
        let bound = |address: &str| UdpSocket::bind((address, 5060)).unwrap();
        let local = gateway.host.enter(|| bound("127.0.0.1"));
        assert_eq!(gateway.findings(), []);
        drop(local);
        let _all = gateway.host.enter(|| bound("0.0.0.0"));
        let found = gateway.findings();
        assert_eq!(found[0].1, "sipguard allow ADDRESS --service sip");
        gateway
            .sipguard(&["allow", "203.0.113.5", "--service", "sip"])
            .succeeded();
        assert_eq!(gateway.findings(), []);
    });
}

#[test]
fn somebody_elses_program() {
    on_a_gateway(|gateway| {
        // One of ours, when sipguard knows nothing of it any more, is anybody's.
        gateway.sipguard(&["apply"]).succeeded();
        let other = Path::new(BPFFS).join("other");
        let generations = Path::new(BPFFS).join("sipguard/generations");
        let generation = fs::read_dir(generations).unwrap().next().unwrap().unwrap();
        fs::rename(generation.path().join("program-eth0"), &other).unwrap();
        gateway.sipguard(&["down"]).succeeded();
        let pinned = other.display();
        gateway
            .host
            .ip(&format!("link set dev eth0 xdpgeneric pinned {pinned}"));
        gateway.sipguard(&["apply"]).exited(1);
        let found = gateway.findings();
        let other = found.iter().find(|(check, _)| check == "others").unwrap();
        assert_eq!(other.1, "ip link set dev eth0 xdpgeneric off");
        gateway.host.ip("link set dev eth0 xdpgeneric off");
        gateway.mend("in_force");
    });
}
