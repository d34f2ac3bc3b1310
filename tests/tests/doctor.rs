//! `sipguard doctor` on hosts with something wrong: it finds that, and what it says to run mends it.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{
    env, fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    slice,
};

use rustix::mount::{MountFlags, mount, mount_bind};
use sipguard_tests::{
    forbidden,
    netns::{BPFFS, End, Finished, Host, SCRATCH, join, sandbox},
};

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
        let found = findings(self.sipguard(&["doctor", "--json"]));
        found
            .into_iter()
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
        self.shell(command);
        assert_eq!(self.findings(), []);
    }

    /// Runs what it says to run.
    fn shell(&self, command: &str) {
        let folder = sipguard_tests::netns::sipguard();
        let mut path = folder.parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(env::var_os("PATH").unwrap());
        let mut shell = Command::new("sh");
        // It is not this machine's systemd that is asked.
        shell.env("PATH", path).env("SYSTEMD_OFFLINE", "1");
        self.host.run(shell.args(["-ec", command])).succeeded();
    }
}

/// What is wrong, by the checks' names, with what mends it.
fn findings(said: Finished) -> Vec<(String, String)> {
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
        .collect()
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
fn an_interface_that_is_not_there() {
    on_a_gateway(|gateway| {
        Gateway::config(&POLICY.replace("[\"eth0\"]", "[\"eth0\", \"tun7\"]"));
        gateway.sipguard(&["apply"]).succeeded();
        let found = gateway.findings();
        let [(check, command)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(check, "in_force");
        assert!(command.contains("sipguard.toml"), "{command}");
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
        let only = |check: &str| {
            let found = gateway.findings();
            let [(name, command)] = &found[..] else {
                panic!("one finding of {check}, not {found:?}");
            };
            assert_eq!(name, check);
            command.clone()
        };
        gateway.shell(&only("world"));
        // What stays with the port. The file would be this machine's.
        let file = format!("{SCRATCH}/sysctl.conf");
        let ports = only("ports");
        assert!(!ports.contains("eth0"), "{ports}");
        gateway.shell(&ports.replace("/etc/sysctl.d/51-sipguard-ports.conf", &file));
        assert_eq!(gateway.findings(), []);
    });
}

/// Threads that receive, and nobody gave them their place.
#[test]
fn threads_that_wait_for_their_turn() {
    on_a_gateway(|gateway| {
        // Threads are found by the name of their interface, and those of other gateways on this machine are not to be.
        let interface = format!("t{}", std::process::id());
        let peer = format!("p{}", std::process::id());
        gateway
            .host
            .ip(&format!("link add {interface} type veth peer {peer}"));
        for end in [&interface, &peer] {
            gateway.host.ip(&format!("link set {end} up"));
        }
        // Which shows the interfaces of the namespace that mounts it.
        gateway.host.enter(|| {
            mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).unwrap();
            mount("bpf", BPFFS, "bpf", MountFlags::empty(), None).unwrap();
        });
        let both = format!("[\"eth0\", \"{interface}\"]");
        Gateway::config(&POLICY.replace("[\"eth0\"]", &both));
        gateway.sipguard(&["apply"]).succeeded();
        assert_eq!(gateway.findings(), [], "nothing was lost for it");
        let threaded = format!("/sys/class/net/{interface}/threaded");
        fs::write(threaded, "1").unwrap();
        gateway.sipguard(&["status", "--check"]).succeeded();
        gateway.mend("queue");
    });
}

#[test]
fn a_route_that_unpacks() {
    on_a_gateway(|gateway| {
        gateway.sipguard(&["apply"]).succeeded();
        let route = "fc00::1/128 encap seg6local action End.DT6 table main dev eth0 table 77";
        gateway.host.ip(&format!("-6 route add {route}"));
        gateway.mend("seg6local");
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
        let allow = (
            "listeners".to_owned(),
            "sipguard allow ADDRESS --service sip".to_owned(),
        );
        // Somebody may want a port closed to everybody.
        let only_advice = || {
            gateway.sipguard(&["doctor"]).succeeded();
            assert_eq!(gateway.findings(), slice::from_ref(&allow));
        };
        only_advice();
        let bound = |address: &str| UdpSocket::bind((address, 5060)).unwrap();
        let local = gateway.host.enter(|| bound("127.0.0.1"));
        only_advice();
        drop(local);
        let _all = gateway.host.enter(|| bound("0.0.0.0"));
        gateway.sipguard(&["doctor"]).exited(1);
        assert_eq!(gateway.findings(), slice::from_ref(&allow));
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

#[test]
fn fewer_receive_queues_than_native_mode_needs() {
    on_a_gateway(|gateway| {
        let queues = "numrxqueues 4 numtxqueues 4";
        gateway.host.ip(&format!(
            "link add wan1 {queues} type veth peer wan2 {queues}"
        ));
        for (interface, count) in [("wan2", "4"), ("wan1", "1")] {
            let mut ethtool = Command::new("ethtool");
            let settings = ["-L", interface, "rx", count, "tx", count];
            gateway.host.run(ethtool.args(settings)).succeeded();
        }
        Gateway::config(&POLICY.replace("\"eth0\"", "\"eth0\", \"wan1\""));
        let said = gateway.sipguard(&["apply"]).succeeded().stdout;
        let cause = "it has fewer receive queues than its other end sends by";
        assert!(said.contains(&format!("wan1: tc ({cause}: \"")), "{said}");
        let found = gateway.findings();
        // What it says is for the config in its usual place.
        let [(check, command)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(check, "native");
        let (setting, again) = command.split_once(" && ").unwrap();
        assert_eq!(again, "sipguard apply");
        let mut words = setting.split(' ');
        let mut ethtool = Command::new(words.next().unwrap());
        gateway.host.run(ethtool.args(words)).succeeded();
        // What filters there now filters until the driver does.
        let said = gateway.sipguard(&["apply"]).succeeded().stdout;
        assert!(said.contains("wan1: native"), "{said}");
        assert_eq!(gateway.findings(), []);
    });
}

/// No MTU makes a bridge run programs in its driver.
#[test]
fn a_device_that_is_never_native_is_well() {
    on_a_gateway(|gateway| {
        gateway.host.ip("link add br0 mtu 9000 type bridge");
        Gateway::config(&POLICY.replace("\"eth0\"", "\"eth0\", \"br0\""));
        gateway.sipguard(&["apply"]).succeeded();
        assert_eq!(gateway.findings(), []);
    });
}

#[test]
fn a_default_route_through_what_can_t_be_guarded() {
    on_a_gateway(|gateway| {
        gateway.sipguard(&["apply"]).succeeded();
        gateway
            .host
            .ip("link add gpe0 type vxlan dstport 4790 gpe external");
        gateway.host.ip("link set gpe0 up");
        gateway.host.ip("-6 route add default dev gpe0");
        let said = gateway.sipguard(&["doctor"]).exited(1).stdout;
        let about = "gpe0 leads to the internet and can't be guarded: what comes in by vxlan";
        assert!(said.contains(about), "{said}");
    });
}

#[test]
fn a_service_that_is_not_enabled() {
    on_a_gateway(|gateway| {
        // A system of its own, where systemd seems to run.
        for folder in ["/run", "/usr/lib/systemd/system", "/etc/systemd/system"] {
            fs::create_dir_all(folder).unwrap();
            mount("tmpfs", folder, "tmpfs", MountFlags::empty(), None).unwrap();
        }
        fs::create_dir_all("/run/systemd/system").unwrap();
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sipguard/dist/sipguard.service");
        fs::copy(unit, "/usr/lib/systemd/system/sipguard.service").unwrap();
        // Nothing is in force: there is nothing to be lost by a reboot.
        assert_eq!(gateway.findings().len(), 1);
        gateway.sipguard(&["apply"]).succeeded();
        gateway.mend("boot");
    });
}

/// Debian's setting, on a kernel that goes by it.
#[test]
fn an_agent_that_hears_nothing() {
    const SETTING: &str = "/proc/sys/kernel/perf_event_paranoid";
    on_a_gateway(|gateway| {
        gateway.sipguard(&["apply"]).succeeded();
        for folder in ["/etc/systemd/system", "/etc/sysctl.d"] {
            fs::create_dir_all(folder).unwrap();
            mount("tmpfs", folder, "tmpfs", MountFlags::empty(), None).unwrap();
        }
        let setting = format!("{SCRATCH}/perf_event_paranoid");
        fs::write(&setting, "3\n").unwrap();
        mount_bind(&setting, SETTING).unwrap();
        let look = || {
            let mut doctor = Command::new(sipguard_tests::netns::sipguard());
            doctor.args(["--config", &Gateway::file(), "doctor", "--json"]);
            forbidden::to_listen(&mut doctor);
            let mut found = findings(gateway.host.run(&mut doctor));
            found.retain(|(check, _)| check == "agent");
            found
        };
        // Nobody wants the agent.
        assert_eq!(look(), []);
        let wants = Path::new("/etc/systemd/system/multi-user.target.wants");
        fs::create_dir(wants).unwrap();
        let unit = wants.join("sipguard-agent.service");
        symlink("/usr/lib/systemd/system/sipguard-agent.service", unit).unwrap();
        let found = look();
        let [(_, command)] = &found[..] else {
            panic!("{found:?}");
        };
        // Other kernels don't go by the setting.
        assert_eq!(gateway.findings(), []);
        gateway.shell(command);
        assert_eq!(fs::read_to_string(&setting).unwrap().trim(), "2");
        assert_eq!(look(), []);
    });
}

#[test]
fn a_kernel_that_is_too_old() {
    on_a_gateway(|gateway| {
        let old = |words: &[&str]| {
            let mut setarch = Command::new("setarch");
            let global = ["--config", &Gateway::file()];
            let words = words.iter().chain(&global);
            // It has every program that it starts believe that.
            let begin = ["--uname-2.6"].map(Path::new);
            gateway.host.run(
                setarch
                    .args(begin)
                    .arg(sipguard_tests::netns::sipguard())
                    .args(words),
            )
        };
        let found = findings(old(&["doctor", "--json"]));
        assert!(found.iter().any(|(check, _)| check == "kernel"));
        let said = old(&["doctor"]).exited(1).stdout;
        assert!(
            said.contains("is too old: sipguard needs Linux 5.9 or later"),
            "{said}"
        );
        let said = old(&["apply"]).exited(1).stderr;
        assert!(said.contains("needs Linux 5.9"), "{said}");
    });
}

/// The setting is there in the machine's own network namespace alone, which tests may not be in, and is not to be changed there.
#[test]
fn programs_that_are_interpreted() {
    sandbox(|_| {
        const SETTINGS: &str = "/proc/sys/net/core";
        let folder = format!("{SCRATCH}/core");
        let file = format!("{folder}/bpf_jit_enable");
        fs::create_dir(&folder).unwrap();
        fs::write(&file, "0\n").unwrap();
        mount_bind(&folder, SETTINGS).unwrap();
        let config = Gateway::file();
        let look = || {
            let mut doctor = Command::new(sipguard_tests::netns::sipguard());
            let doctor = doctor.args(["--config", &config, "doctor", "--json"]);
            let output = doctor.output().unwrap();
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let found = json["findings"].as_array().unwrap();
            let of_jit = found.iter().find(|finding| finding["check"] == "jit");
            of_jit.map(|finding| finding["mend"].as_str().unwrap().to_owned())
        };
        let command = look().unwrap();
        let mended = Command::new("sh").args(["-ec", &command]).output().unwrap();
        assert!(mended.status.success(), "{mended:?}");
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), "1");
        assert_eq!(look(), None);
    });
}

#[test]
fn a_program_that_talks_to_somebody_who_is_not_let_in() {
    on_a_gateway(|gateway| {
        gateway.sipguard(&["apply"]).succeeded();
        let trunk = gateway.host.enter(|| {
            let socket = UdpSocket::bind(("203.0.113.1", 5060)).unwrap();
            socket.connect(("192.0.2.9", 5060)).unwrap();
            socket
        });
        gateway.mend("talkers");
        drop(trunk);
        // One that talks to anybody is seen where connections are tracked.
        gateway
            .host
            .run(Command::new("nft").args([
                "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new accept",
            ]))
            .succeeded();
        gateway.host.enter(|| {
            let socket = UdpSocket::bind(("203.0.113.1", 5060)).unwrap();
            socket.send_to(b"REGISTER", ("192.0.2.10", 5060)).unwrap();
            socket.send_to(b"OPTIONS", ("203.0.113.5", 5060)).unwrap();
        });
        let found = gateway.findings();
        assert_eq!(
            found,
            [(
                "talkers".to_owned(),
                "sipguard allow 192.0.2.10 --service sip".to_owned()
            )]
        );
    });
}

#[test]
fn programs_that_everybody_reaches_are_named() {
    on_a_gateway(|gateway| {
        gateway.sipguard(&["apply"]).succeeded();
        let bound: Vec<_> = gateway.host.enter(|| {
            [4569, 5160]
                .map(|port| UdpSocket::bind(("0.0.0.0", port)).unwrap())
                .into()
        });
        let _local = gateway
            .host
            .enter(|| TcpListener::bind("127.0.0.1:5038").unwrap());
        let _page = gateway
            .host
            .enter(|| TcpListener::bind("0.0.0.0:443").unwrap());
        let said = gateway.sipguard(&["doctor"]).succeeded().stdout;
        for wanted in [
            "advice: reached by everybody, not guarded: SIP on udp 5160",
            "advice: reached by everybody, not guarded: IAX2 on udp 4569",
            "advice: reached by everybody, not guarded: a web page on tcp 443",
        ] {
            assert!(said.contains(wanted), "{said}");
        }
        assert!(!said.contains("5038"), "{said}");
        for command in said.lines().filter_map(|line| line.strip_prefix("    ")) {
            gateway.shell(command);
        }
        let said = gateway.sipguard(&["doctor"]).succeeded().stdout;
        assert!(!said.contains("not guarded"), "{said}");
        drop(bound);
    });
}
