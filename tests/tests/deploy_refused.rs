//! A host that can't be deployed to keeps what it has, and one line says why.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::fs;

use sipguard_tests::{
    foreign::{self, Foreign},
    gateway::{Deployer, GUEST, Gateway, on_gateways, other_version},
    netns::Finished,
    package::{self, CONFIG, POLICY},
};

/// Runs xtask, which must fail, and must leave the gateway as it is and say so in one line of the table.
fn refused(deployer: &Deployer<'_>, gateway: &Gateway<'_>, words: &str, why: &str, in_force: &str) {
    let before = gateway.state();
    let failed = deployer.run(words).exited(1);
    let row = last_row(&failed);
    assert!(row.contains(why), "{why}: {failed:?}");
    assert!(row.contains(in_force), "{in_force}: {failed:?}");
    assert!(row.contains("nothing was changed there"), "{failed:?}");
    assert_eq!(gateway.state(), before);
}

fn last_row(finished: &Finished) -> String {
    finished.stdout.lines().last().unwrap().to_owned()
}

#[test]
fn who_is_not_let_in_changes_nothing() {
    on_gateways(1, |deployer, gateways| {
        let gateway = &gateways[0];
        gateway.install(POLICY);
        deployer.write("gateway.toml", POLICY);
        deployer.write("nobody", "");
        // The deployer's own key in the gateway's place.
        let other = fs::read_to_string(deployer.folder.join("key.pub")).unwrap();
        deployer.write("changed", &format!("{} {other}", gateway.address));
        let host = format!("--host root@{}", gateway.address);
        for (words, why) in [
            (
                format!("{host} --identity other-key"),
                "it does not let us in",
            ),
            (
                format!("{host} --known-hosts nobody"),
                "its host key is not known",
            ),
            (
                format!("{host} --known-hosts changed"),
                "its host key is another one than is known",
            ),
            (format!("{host}:23"), "Connection refused"),
            (
                "--host root@gateway.invalid".to_owned(),
                "Could not resolve",
            ),
        ] {
            for task in ["deploy --config gateway.toml", "undeploy"] {
                let words = format!("{task} {words}");
                refused(deployer, gateway, &words, why, "what was before");
            }
        }
        let words = format!(
            "deploy --config gateway.toml --host {GUEST}@{}",
            gateway.address
        );
        refused(
            deployer,
            gateway,
            &words,
            "can't use sudo",
            "what was before",
        );
        assert_eq!(
            fs::read_to_string(deployer.folder.join("nobody")).unwrap(),
            "",
            "a host key was accepted"
        );
        fs::remove_file(gateway.system.root.join("usr/bin/sudo")).unwrap();
        refused(
            deployer,
            gateway,
            &words,
            "can't use sudo",
            "what was before",
        );
    });
}

#[test]
fn what_does_not_fit_a_host_is_not_copied_there() {
    on_gateways(1, |deployer, gateways| {
        let gateway = &mut gateways[0];
        deployer.write("gateway.toml", POLICY);
        let words = format!(
            "deploy --config gateway.toml --host root@{}",
            gateway.address
        );
        // Linux itself tells programs another architecture, or another version, where they are started so.
        for (as_if, why) in [
            (["setarch", "linux32"], "wrong architecture: it is i686"),
            (["setarch", "--uname-2.6"], "its kernel is too old: 2.6."),
        ] {
            gateway.start(&as_if);
            refused(deployer, gateway, &words, why, " nothing ");
        }
    });
}

#[test]
fn a_full_disk_is_found_before_anything_is_copied() {
    on_gateways(1, |deployer, gateways| {
        let gateway = &gateways[0];
        gateway.install(POLICY);
        deployer.write("gateway.toml", POLICY);
        let newer = other_version(&deployer.folder, "0.1.1");
        let words = format!(
            "deploy --config gateway.toml --host root@{} --package {}",
            gateway.address,
            newer.display()
        );
        gateway.fill_disk();
        refused(
            deployer,
            gateway,
            &words,
            "its disk is full",
            "generation 1 on eth0",
        );
    });
}

#[test]
fn a_wrong_config_is_refused_by_its_own_name() {
    on_gateways(1, |deployer, gateways| {
        let gateway = &gateways[0];
        let host = format!("--host root@{}", gateway.address);
        deployer.write("wrong.toml", "interfaces = [\"eth0\"]\nmod = \"enforce\"\n");
        let words = format!("deploy {host} --config wrong.toml");
        refused(deployer, gateway, &words, "wrong.toml:2:1: ", " nothing ");
        gateway.install(POLICY);
        let in_force = "generation 1 on eth0";
        refused(deployer, gateway, &words, "wrong.toml:2:1: ", in_force);
        deployer.write("missing.toml", &POLICY.replace("eth0", "eth7"));
        let words = format!("deploy {host} --config missing.toml");
        refused(deployer, gateway, &words, "eth7", in_force);
        let words = format!("deploy {host} --config nowhere.toml");
        let failed = deployer.run(&words).exited(1);
        assert!(failed.stderr.contains("nowhere.toml"), "{failed:?}");
    });
}

#[test]
fn a_host_in_disorder_is_left_to_its_administrator() {
    on_gateways(1, |deployer, gateways| {
        let gateway = &gateways[0];
        let newer = other_version(&deployer.folder, "0.1.1");
        deployer.write("gateway.toml", POLICY);
        let words = format!(
            "deploy --config gateway.toml --host root@{} --package {}",
            gateway.address,
            newer.display()
        );
        // Half installed: unpacked, but not configured.
        fs::copy(
            package::deb("sipguard"),
            gateway.system.root.join("old.deb"),
        )
        .unwrap();
        gateway.system.run("dpkg --unpack /old.deb").succeeded();
        refused(deployer, gateway, &words, "half installed", " nothing ");
        gateway.system.run("dpkg --configure sipguard").succeeded();

        // Somebody has edited the config and not applied it.
        let in_force = "generation 1 on eth0";
        gateway.install(POLICY);
        gateway
            .system
            .write(CONFIG, &POLICY.replace("5060", "5060, 5070"));
        let why = "its config file says something else";
        refused(deployer, gateway, &words, why, in_force);
        gateway
            .system
            .run("sipguard apply --confirm 10m")
            .succeeded();
        let why = "an apply waits to be confirmed there";
        refused(deployer, gateway, &words, why, "eth0");
        gateway.system.run("sipguard confirm").succeeded();
        deployer.run(&words).succeeded();
    });
}

#[test]
fn somebody_else_s_program_is_named_and_left_alone() {
    on_gateways(1, |deployer, gateways| {
        let gateway = &gateways[0];
        let other = Foreign::attach(gateway.system.host, "eth0");
        deployer.write("gateway.toml", POLICY);
        let words = format!(
            "deploy --config gateway.toml --host root@{}",
            gateway.address
        );
        refused(deployer, gateway, &words, foreign::NAME, " nothing ");
        let told = deployer.run(&words).exited(1).stdout;
        let program = "an XDP program of somebody else's on eth0";
        assert!(told.contains(program), "{told}");
        assert_eq!(gateway.system.program(), Some(other.id.to_string()));
    });
}

#[test]
fn the_hosts_after_one_that_failed_are_not_begun() {
    on_gateways(3, |deployer, gateways| {
        deployer.write("gateway.toml", POLICY);
        deployer.write(&format!("hosts/{}.toml", gateways[1].address), "mod = 1\n");
        let before = gateways[2].state();
        let hosts: Vec<_> = gateways
            .iter()
            .map(|gateway| format!(" root@{}", gateway.address))
            .collect();
        let words = format!(
            "deploy --config gateway.toml --batch 1 --host{}",
            hosts.concat()
        );
        let failed = deployer.run(&words).exited(1);
        let rows: Vec<_> = failed.stdout.lines().rev().take(3).collect();
        assert!(rows[2].ends_with("sipguard 0.1.0 in force"), "{failed:?}");
        assert!(rows[1].contains("failed: "), "{failed:?}");
        assert!(rows[0].ends_with("not begun"), "{failed:?}");
        assert_eq!(gateways[2].state(), before);
        assert!(gateways[0].system.program().is_some());
    });
}
