//! `cargo xtask deploy` puts sipguard on gateways, and `undeploy` takes it off again.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::fs;

use sipguard_tests::{
    gateway::{Gateway, OPERATOR, on_gateways, other_version},
    package::{CONFIG, POLICY},
};

/// A policy that differs.
fn other_policy() -> String {
    POLICY.replace("5060", "5060, 5061")
}

fn in_force(gateway: &Gateway<'_>, port: &str) -> bool {
    assert!(gateway.system.program().is_some());
    let status = gateway.system.run("sipguard status").succeeded();
    assert!(!status.stdout.contains("waits"), "{status:?}");
    status.stdout.contains(port)
}

/// Whether sipguard would find it: its program, its folder, and its user.
fn has_fetcher(gateway: &Gateway<'_>) -> bool {
    let users = gateway.read("etc/passwd").unwrap();
    gateway
        .system
        .run("/usr/bin/sipguard-fetch --version")
        .succeeded();
    let folder = gateway.system.run("stat -c %U:%a /var/lib/sipguard-fetch");
    users.contains("\nsipguard-fetch:") && folder.stdout == "sipguard-fetch:750\n"
}

#[test]
fn two_hosts_get_package_and_policy_and_again_nothing() {
    on_gateways(2, |deployer, gateways| {
        deployer.write("gateway.toml", POLICY);
        deployer.write(
            &format!("hosts/{}.toml", gateways[1].address6),
            &other_policy(),
        );
        let words = format!(
            "deploy --host root@{} {OPERATOR}@[{}]:22 --config gateway.toml",
            gateways[0].address, gateways[1].address6
        );
        let deployed = deployer.run(&words).succeeded();
        assert!(
            deployed.stdout.contains("generation 1 on eth0"),
            "{deployed:?}"
        );
        assert_eq!(gateways[0].read(CONFIG).as_deref(), Some(POLICY));
        assert_eq!(gateways[1].read(CONFIG), Some(other_policy()));
        assert!(!in_force(&gateways[0], "5061"));
        assert!(in_force(&gateways[1], "5061"));

        // Who asks the network comes along, with its user.
        for gateway in &*gateways {
            gateway
                .system
                .run("dpkg-query --show sipguard-fetch")
                .succeeded();
            assert!(has_fetcher(gateway));
        }

        let before = [&gateways[0], &gateways[1]].map(Gateway::state);
        assert!(before[0].contains("left \"\""), "{}", before[0]);
        let again = deployer.run(&words).succeeded();
        let table: Vec<_> = again.stdout.lines().rev().take(2).collect();
        assert!(
            table.iter().all(|row| row.ends_with("nothing to do")),
            "{again:?}"
        );
        assert_eq!([&gateways[0], &gateways[1]].map(Gateway::state), before);
    });
}

#[test]
fn an_upgrade_keeps_the_config_and_the_command_line_s_entries() {
    on_gateways(1, |deployer, gateways| {
        let gateway = &gateways[0];
        gateway.install(POLICY);
        gateway.system.run("sipguard allow 192.0.2.77").succeeded();
        let old = gateway.state();
        let newer = other_version(&deployer.folder, "0.1.1");
        let words = format!(
            "deploy --host root@{} --package {}",
            gateway.address,
            newer.display()
        );
        deployer.run(&words).succeeded();
        let new = gateway.state();
        assert!(
            new.contains("ii 0.1.1") && old.contains("ii 0.1.0"),
            "{new}"
        );
        assert!(in_force(gateway, "5060"));
        assert_eq!(gateway.read(CONFIG).as_deref(), Some(POLICY));
        let list = gateway.system.run("sipguard list").succeeded().stdout;
        assert!(list.contains("192.0.2.77"), "{list}");

        let again = deployer.run(&words).succeeded();
        assert!(again.stdout.contains("nothing to do"), "{again:?}");
    });
}

#[test]
fn a_dry_run_shows_what_would_change_and_changes_nothing() {
    on_gateways(2, |deployer, gateways| {
        deployer.write("gateway.toml", &other_policy());
        gateways[1].install(POLICY);
        let before = [&gateways[0], &gateways[1]].map(Gateway::state);
        let words = format!(
            "deploy --dry-run --host root@{} --host root@{} --config gateway.toml",
            gateways[0].address, gateways[1].address
        );
        let shown = deployer.run(&words).succeeded().stdout;
        for text in [
            "to do: install sipguard 0.1.0 (dpkg), config gateway.toml",
            "to do: config gateway.toml",
            "service sip: +udp 5061",
            "nothing was changed (dry run)",
        ] {
            assert!(shown.contains(text), "{text}: {shown}");
        }
        assert_eq!([&gateways[0], &gateways[1]].map(Gateway::state), before);
    });
}

#[test]
fn a_host_without_dpkg_gets_the_tarball() {
    on_gateways(1, |deployer, gateways| {
        let gateway = &gateways[0];
        fs::remove_file(gateway.system.root.join("usr/bin/dpkg")).unwrap();
        deployer.write("gateway.toml", POLICY);
        let host = format!("--host root@{}", gateway.address);
        let words = format!("deploy {host} --config gateway.toml");
        let deployed = deployer.run(&words).succeeded();
        assert!(deployed.stdout.contains("(tarball)"), "{deployed:?}");
        assert!(has_fetcher(gateway));
        assert!(in_force(gateway, "5060"));
        let again = deployer.run(&words).succeeded();
        assert!(again.stdout.contains("nothing to do"), "{again:?}");

        let newer = other_version(&deployer.folder, "0.1.1");
        let upgrade = format!("deploy {host} --package {}", newer.display());
        let before = gateway.state();
        deployer.run(&upgrade).succeeded();
        assert!(in_force(gateway, "5060"));
        assert_ne!(gateway.state(), before);

        deployer.run(&format!("undeploy {host}")).succeeded();
        let left = gateway.traces();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn undeploy_leaves_nothing() {
    on_gateways(2, |deployer, gateways| {
        deployer.write("gateway.toml", POLICY);
        let hosts = format!(
            "--host root@{} {OPERATOR}@{}",
            gateways[0].address, gateways[1].address
        );
        deployer
            .run(&format!("deploy {hosts} --config gateway.toml"))
            .succeeded();
        let removed = deployer.run(&format!("undeploy {hosts}")).succeeded();
        assert!(
            removed
                .stdout
                .contains("no file, no pin, no program is left"),
            "{removed:?}"
        );
        for gateway in &*gateways {
            assert_eq!(gateway.system.program(), None);
            let left = gateway.traces();
            assert!(left.is_empty(), "{left:?}");
        }
        let again = deployer.run(&format!("undeploy {hosts}")).succeeded();
        assert!(again.stdout.contains("nothing to do"), "{again:?}");
    });
}
