//! The package sipguard-fetch: its user, its units, and what is left of it.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use sipguard_tests::{
    dnsmasq::dnsmasq,
    package::{CONFIG, System, on_a_system},
};

/// Who answers for names: the host at the other end.
const SERVER: &str = "203.0.113.5";
const POLICY: &str = "interfaces = [\"eth0\"]\n[dns]\nservers = [\"203.0.113.5\"]\n[sources]\ntrunk = [\"sip.first.example\"]\n\
                      [services.sip]\nudp = [5060]\nallow = [\"trunk\"]\n";
const TASKS: &str = "var/lib/sipguard/tasks.json";
const FOLDER: &str = "var/lib/sipguard-fetch";

fn install(system: &System<'_>) {
    system
        .dpkg("--install /sipguard.deb /sipguard-fetch.deb")
        .succeeded();
}

/// The user's number and his group's, as the system has them.
fn user(system: &System<'_>) -> Option<(u32, u32)> {
    let users = fs::read_to_string(system.root.join("etc/passwd")).unwrap();
    let user = users
        .lines()
        .find(|line| line.starts_with("sipguard-fetch:"))?;
    let fields: Vec<_> = user.split(':').collect();
    assert_eq!(fields[6], "/usr/sbin/nologin");
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

fn about(system: &System<'_>, path: &str) -> (u32, u32, u32) {
    let metadata = fs::metadata(system.root.join(path)).unwrap();
    let mode = metadata.permissions().mode() & 0o7777;
    (metadata.uid(), metadata.gid(), mode)
}

#[test]
fn it_comes_with_a_user_and_purged_leaves_nothing() {
    on_a_system(|system, _| {
        // What is to be asked for may be there before there is anybody to ask.
        system.dpkg("--install /sipguard.deb").succeeded();
        system.write(CONFIG, POLICY);
        system.run("sipguard apply --offline").succeeded();
        assert_eq!(about(system, TASKS), (0, 0, 0o600));
        let alone = system.dpkg("--install /sipguard-fetch.deb").succeeded();
        assert!(!alone.stderr.contains("error"), "{alone:?}");
        let (uid, gid) = user(system).unwrap();
        assert!((1..1000).contains(&uid), "{uid}");
        assert_eq!(about(system, TASKS), (0, gid, 0o640));
        assert_eq!(about(system, FOLDER), (uid, gid, 0o750));
        let enabled = "etc/systemd/system/multi-user.target.wants/sipguard-fetch.service";
        assert!(system.root.join(enabled).is_symlink());

        // Again, as an upgrade does it.
        install(system);
        assert_eq!(user(system), Some((uid, gid)));
        let needed = system.dpkg("--remove sipguard");
        assert!(!needed.status.success(), "{needed:?}");

        // What was found, and what is in force, stay.
        system.write(&format!("{FOLDER}/trunk.json"), "{}");
        system.dpkg("--remove sipguard-fetch").succeeded();
        assert!(system.program().is_some());
        assert!(system.root.join(FOLDER).join("trunk.json").exists());
        let units = system
            .run("find /usr/lib/systemd /usr/lib/sysusers.d -name *sipguard-fetch*")
            .stdout;
        assert_eq!(units, "");
        system.run("sipguard apply --offline").succeeded();

        system.dpkg("--purge sipguard-fetch").succeeded();
        assert_eq!(user(system), None);
        assert_eq!(about(system, TASKS), (0, 0, 0o600));
        assert!(!system.root.join(FOLDER).exists());
        system.dpkg("--purge sipguard").succeeded();
        let traces: Vec<_> = system
            .traces()
            .into_iter()
            .filter(|path| path.extension().is_none_or(|it| it != "deb"))
            .collect();
        assert!(traces.is_empty(), "{traces:?}");
        for file in ["passwd", "group", "shadow", "gshadow"] {
            let text = fs::read_to_string(system.root.join("etc").join(file)).unwrap();
            assert!(!text.contains("sipguard"), "{file}: {text}");
        }
    });
}

#[test]
fn its_units_hold_together_and_may_do_little() {
    on_a_system(|system, _| {
        install(system);
        let units = [
            "sipguard.service",
            "sipguard-repair.service",
            "sipguard-fetch.service",
            "sipguard-refresh.path",
            "sipguard-refresh.service",
            "sipguard-agent.service",
        ];
        let units = units.map(|unit| format!("/usr/lib/systemd/system/{unit}"));
        system
            .run(&format!("systemd-analyze verify {}", units.join(" ")))
            .succeeded();
        // Tenths.
        let security = |threshold: u32, units: &[String]| {
            let units = units.join(" ");
            let words = "systemd-analyze security --offline=true";
            system
                .run(&format!("{words} --threshold={threshold} {units}"))
                .succeeded();
        };
        security(15, &units[2..3]);
        security(25, &units[5..]);
        security(30, &[units[0].clone(), units[1].clone(), units[4].clone()]);
    });
}

#[test]
fn what_its_service_finds_comes_into_force_by_itself() {
    on_a_system(|system, other| {
        let records = [
            "host-record=sip.first.example,192.0.2.71",
            "host-record=sip.second.example,192.0.2.72",
        ];
        let _server = dnsmasq(other, SERVER, &records);
        install(system);
        system.write(CONFIG, POLICY);
        // There is no more of a system than they need.
        for unit in [
            "sipguard-fetch.service",
            "sipguard-refresh.path",
            "sipguard-refresh.service",
        ] {
            let folder = format!("etc/systemd/system/{unit}.d");
            fs::create_dir_all(system.root.join(&folder)).unwrap();
            let file = format!("{folder}/test.conf");
            system.write(&file, "[Unit]\nDefaultDependencies=no\n");
        }
        let printed = system.boot(
            "wait_for() { timeout 20 sh -c \"until $1; do sleep 0.1; done\" || { echo \"never: $1\"; sipguard status; \
             systemctl status sipguard-fetch.service sipguard-refresh.service sipguard-refresh.path; }; }\n\
             systemctl is-active sipguard.service\n\
             systemctl start sipguard-fetch.service\n\
             wait_for 'sipguard list | grep -q 192.0.2.71' && echo first\n\
             sed -i s/first/second/ /etc/sipguard/sipguard.toml\n\
             systemctl reload sipguard.service\n\
             stat -c %U:%G:%a /var/lib/sipguard/tasks.json\n\
             wait_for 'sipguard list | grep -q 192.0.2.72' && echo second\n\
             systemctl kill --signal=KILL sipguard-fetch.service\n\
             wait_for 'systemctl show -P NRestarts sipguard-fetch.service | grep -q 1' && echo back\n\
             setpriv --reuid=sipguard-fetch --regid=sipguard-fetch --clear-groups sh -c \
             'cd /var/lib/sipguard-fetch; for i in $(seq 1000); do : > x; mv x y; rm y; done'\n\
             sipguard status --json | grep -o 'refused\":null'\n\
             systemctl is-active sipguard-refresh.path sipguard-fetch.service\n\
             systemctl list-units --failed --no-legend 'sipguard*'\n",
        );
        assert_eq!(
            printed,
            "active\nfirst\nroot:sipguard-fetch:640\nsecond\nback\nrefused\":null\nactive\nactive\n"
        );
    });
}
