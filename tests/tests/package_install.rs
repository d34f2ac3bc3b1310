//! Installing, upgrading and removing the package, and its service, leave no gap and nothing behind.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{
    fs,
    net::UdpSocket,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use sipguard_tests::{
    netns::BPFFS,
    package::{CONFIG, POLICY, on_a_system},
};

#[test]
fn installing_upgrading_and_removing_are_boring() {
    on_a_system(|system, _| {
        let pins = Path::new(BPFFS).join("sipguard");
        system.dpkg("--install /sipguard.deb").succeeded();
        assert!(!pins.exists(), "installing put something in force");
        assert!(
            system
                .root
                .join("etc/systemd/system/sysinit.target.wants/sipguard.service")
                .is_symlink()
        );
        assert!(
            system
                .root
                .join("etc/systemd/system/multi-user.target.wants/sipguard-agent.service")
                .is_symlink()
        );

        system.write(CONFIG, POLICY);
        system.run("sipguard apply").succeeded();
        let first = system.program().expect("filtered");

        // An upgrade puts what the config says now in force, with the program changed in its place.
        system.write(CONFIG, &POLICY.replace("5060", "5060, 5061"));
        system.dpkg("--install /sipguard.deb").succeeded();
        let second = system.program().expect("filtered");
        assert_ne!(first, second);
        assert!(
            system
                .run("sipguard status")
                .succeeded()
                .stdout
                .contains("5061")
        );

        // One with a config that is not right says so and leaves what there is.
        system.write(CONFIG, "interfaces = [");
        let upgraded = system.dpkg("--install /sipguard.deb").succeeded();
        assert!(
            upgraded
                .stderr
                .contains("what was in force before still is"),
            "{upgraded:?}"
        );
        assert_eq!(system.program().as_deref(), Some(second.as_str()));

        let removed = system.dpkg("--remove sipguard").succeeded();
        assert_eq!(system.program(), None, "{removed:?}");
        assert!(!pins.exists());
        assert!(
            system.root.join(CONFIG).exists(),
            "a config is kept until purge"
        );
        assert!(system.root.join("var/lib/sipguard").exists());

        // As doctor's commands do it.
        let settings = system.root.join("etc/sysctl.d");
        fs::create_dir_all(&settings).expect("a folder");
        for name in ["50-sipguard", "51-sipguard-ports", "52-sipguard-agent"] {
            fs::write(settings.join(format!("{name}.conf")), "").expect("a file");
        }

        system.dpkg("--purge sipguard").succeeded();
        let traces: Vec<_> = system
            .traces()
            .into_iter()
            .filter(|path| path.extension().is_none_or(|it| it != "deb"))
            .collect();
        assert!(traces.is_empty(), "{traces:?}");
    });
}

#[test]
fn no_packet_gets_through_an_upgrade() {
    on_a_system(|system, stranger| {
        system.dpkg("--install /sipguard.deb").succeeded();
        let server = system
            .host
            .enter(|| UdpSocket::bind("203.0.113.1:5060").unwrap());
        let client = stranger.enter(|| UdpSocket::bind("198.51.100.7:5060").unwrap());
        let patience = Some(Duration::from_secs(10));
        server.set_read_timeout(patience).unwrap();
        let send = |word: &[u8]| client.send_to(word, "203.0.113.1:5060").unwrap();
        // Otherwise silence would prove nothing.
        send(b"before");
        let mut word = [0; 16];
        let (length, _) = server.recv_from(&mut word).unwrap();
        assert_eq!(&word[..length], b"before");

        system.write(CONFIG, POLICY);
        system.run("sipguard apply").succeeded();
        let first = system.program();
        let upgrading = AtomicBool::new(true);
        let flood = thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                let mut packets = 0_u32;
                while upgrading.load(Ordering::Relaxed) {
                    send(b"during");
                    packets += 1;
                }
                packets
            });
            system.write(CONFIG, &POLICY.replace("5060", "5060, 5061"));
            system.dpkg("--install /sipguard.deb").succeeded();
            upgrading.store(false, Ordering::Relaxed);
            flooding.join().unwrap()
        });
        assert_ne!(system.program(), first);
        assert!(flood > 1000, "{flood}");
        system.run("sipguard down").succeeded();
        send(b"after");
        let (length, _) = server.recv_from(&mut word).unwrap();
        assert_eq!(&word[..length], b"after", "one of {flood} packets");
    });
}

#[test]
fn the_units_hold_together() {
    on_a_system(|system, _| {
        system.dpkg("--install /sipguard.deb").succeeded();
        let units = "/usr/lib/systemd/system";
        system
            .run(&format!(
                "systemd-analyze verify {units}/sipguard.service {units}/sipguard-interface@eth0.service {units}/sipguard-repair.service {units}/sipguard-repair.timer {units}/sipguard-agent.service"
            ))
            .succeeded();
        // Tenths: at most 3.0.
        system
            .run(&format!(
                "systemd-analyze security --offline=true --threshold=30 {units}/sipguard.service {units}/sipguard-repair.service"
            ))
            .succeeded();
        // The agent is awake all the time.
        system
            .run(&format!(
                "systemd-analyze security --offline=true --threshold=25 {units}/sipguard-agent.service"
            ))
            .succeeded();
        let unit =
            fs::read_to_string(system.root.join(&units[1..]).join("sipguard.service")).unwrap();
        assert!(
            !unit.contains("\nExecStop"),
            "a stop must not detach:\n{unit}"
        );
    });
}

#[test]
fn an_interface_of_the_config_that_appears_is_filtered_again() {
    on_a_system(|system, _| {
        system.dpkg("--install /sipguard.deb").succeeded();
        // With the network namespace's own interfaces.
        system.write(
            "appears.sh",
            "mount -t sysfs sysfs /sys && udevadm test --action=add /sys/class/net/eth0 2>&1",
        );
        let wanted = "SYSTEMD_WANTS=sipguard-interface@eth0.service";
        let appears = || {
            system
                .run("unshare --mount sh /appears.sh")
                .succeeded()
                .stdout
        };
        system.write(CONFIG, POLICY);
        assert!(appears().contains(wanted), "{}", appears());
        system.write(CONFIG, &POLICY.replace("eth0", "eth01"));
        assert!(!appears().contains(wanted), "{}", appears());
    });
}

#[test]
fn under_systemd_the_filter_outlives_its_service() {
    on_a_system(|system, _| {
        system.dpkg("--install /sipguard.deb").succeeded();
        system.write(CONFIG, POLICY);
        let printed = system.boot(
            "systemctl is-active sipguard.service\n\
             sed -i 's/5060/5060, 5061/' /etc/sipguard/sipguard.toml\n\
             systemctl reload sipguard.service && echo reloaded\n\
             systemctl stop sipguard.service && echo stopped\n",
        );
        assert_eq!(printed, "active\nreloaded\nstopped\n");
        // The machine is off, and what its kernel had pinned is all there is.
        assert!(system.program().is_some());
        assert!(Path::new(BPFFS).join("sipguard/links/eth0").exists());
        assert!(
            system
                .run("sipguard status")
                .succeeded()
                .stdout
                .contains("5061")
        );
    });
}

#[test]
fn under_systemd_the_agent_hears_and_comes_back() {
    on_a_system(|system, stranger| {
        system.dpkg("--install /sipguard.deb").succeeded();
        system.write(CONFIG, POLICY);
        // There is no more of a system than it needs. A process that was stopped does not end by itself, and is ended a little later.
        let folder = "etc/systemd/system/sipguard-agent.service.d";
        fs::create_dir_all(system.root.join(folder)).unwrap();
        system.write(
            &format!("{folder}/test.conf"),
            "[Unit]\nDefaultDependencies=no\n[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n",
        );
        let client = stranger.enter(|| UdpSocket::bind("198.51.100.7:5060").unwrap());
        let ended = AtomicBool::new(false);
        let printed = thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    client.send_to(b"knock", "203.0.113.1:5060").unwrap();
                    thread::sleep(Duration::from_millis(100));
                }
            });
            let booted = catch_unwind(AssertUnwindSafe(|| {
                system.boot(
                    "wait_for() { timeout 40 sh -c \"until $1; do sleep 0.1; done\" || { echo \"never: $1\"; \
                     systemctl status sipguard-agent.service; }; }\n\
                     restarts() { wait_for \"systemctl show -P NRestarts sipguard-agent.service | grep -qx $1\"; \
                     wait_for 'systemctl is-active --quiet sipguard-agent.service' && echo \"back, $2\"; }\n\
                     hears() { rm -f /run/sipguard/metrics.prom; \
                     wait_for 'grep -qs \"^sipguard_events_total [1-9]\" /run/sipguard/metrics.prom' && echo \"hears, $1\"; }\n\
                     wait_for 'sipguard status --json | grep -q attached'\n\
                     systemctl start sipguard-agent.service && echo ready\n\
                     hears first\n\
                     stat -c %a /run/sipguard/events /run/sipguard/metrics.prom\n\
                     systemctl kill --signal=KILL sipguard-agent.service\n\
                     restarts 1 killed\n\
                     systemctl kill --signal=STOP sipguard-agent.service\n\
                     restarts 2 stopped\n\
                     hears again\n\
                     systemctl stop sipguard-agent.service && echo ended\n\
                     stat -c %a /var/lib/sipguard/knocks.jsonl\n\
                     sipguard knocks --json | grep -o 198.51.100.7\n\
                     systemctl list-units --failed --no-legend 'sipguard*'\n",
                )
            }));
            ended.store(true, Ordering::Relaxed);
            booted.unwrap_or_else(|panicked| resume_unwind(panicked))
        });
        assert_eq!(
            printed,
            "ready\nhears, first\n600\n644\nback, killed\nback, stopped\nhears, again\nended\n600\n198.51.100.7\n"
        );
    });
}

#[test]
fn an_interface_that_was_late_is_filtered_once_it_is_there() {
    on_a_system(|system, _| {
        system.dpkg("--install /sipguard.deb").succeeded();
        system.write(CONFIG, &POLICY.replace("eth0", "late0"));
        let printed = system.boot(
            "systemctl is-active sipguard.service\n\
             ip link add late0 type veth peer late1\n\
             systemctl start sipguard-interface@late0.service\n\
             while systemctl show -p Job sipguard.service | grep -q '[1-9]'; do sleep 0.1; done\n\
             systemctl is-active sipguard.service\n\
             sipguard status --json | grep -o attached\n",
        );
        assert_eq!(printed, "failed\nactive\nattached\n");
    });
}

#[test]
fn what_cannot_be_detached_is_not_removed() {
    on_a_system(|system, _| {
        system.dpkg("--install /sipguard.deb").succeeded();
        system.write(CONFIG, POLICY);
        system.run("sipguard apply").succeeded();
        // No pin can be taken away.
        system
            .run("mount -o remount,bind,ro /sys/fs/bpf")
            .succeeded();
        let removed = system.dpkg("--remove sipguard");
        assert!(!removed.status.success(), "{removed:?}");
        assert!(system.program().is_some());
        system
            .run("mount -o remount,bind,rw /sys/fs/bpf")
            .succeeded();
        system.dpkg("--remove sipguard").succeeded();
        assert_eq!(system.program(), None);
    });
}
