//! A deployment that is cut off, wherever that happens, leaves a host what it had or what it was to get, and nothing between.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};
use sipguard_tests::{
    gateway::{Deployer, Gateway, on_gateways, other_version},
    netns::{Process, until},
    package::{CONFIG, POLICY},
};

const STEPS: [&str; 6] = [
    "copying",
    "installing",
    "applying",
    "verifying",
    "confirming",
    "checking",
];

/// Does not let the deployer in.
fn cutting_off() -> String {
    format!("{POLICY}[services.ssh]\ntcp = [22]\nallow = [\"us\"]\n")
}

fn other_policy() -> String {
    POLICY.replace("5060", "5060, 5061")
}

fn deploy(deployer: &Deployer<'_>, gateway: &Gateway<'_>, package: &Path) -> Process {
    let words = format!(
        "deploy --config gateway.toml --confirm 15s --host root@{} --package {}",
        gateway.address,
        package.display()
    );
    deployer.host.spawn(&mut deployer.xtask(&words))
}

/// Deploys to as many gateways as there are steps, and cuts each deployment off in another one. Returns those that go on, and what the
/// gateways had.
fn cut_in_each_step(
    deployer: &Deployer<'_>,
    gateways: &[Gateway<'_>],
    mut cut: impl FnMut(&Gateway<'_>, &Process),
) -> (Vec<Process>, Vec<String>) {
    deployer.write("gateway.toml", &other_policy());
    let newer = other_version(&deployer.folder, "0.1.1");
    for gateway in gateways {
        gateway.install(POLICY);
    }
    let before: Vec<_> = gateways.iter().map(Gateway::state).collect();
    let running: Vec<_> = gateways
        .iter()
        .map(|gateway| deploy(deployer, gateway, &newer))
        .collect();
    let mut waiting: Vec<_> = STEPS.iter().zip(gateways).zip(&running).collect();
    until("each deployment has come to its step", || {
        waiting.retain(|((step, gateway), process)| {
            let there = process.stderr().contains(&format!(": {step}\n"));
            if there {
                cut(gateway, process);
            }
            !there
        });
        waiting.is_empty()
    });
    (running, before)
}

/// The host has what it had, or, where the last word may have been heard, what it was to get.
fn is_whole(gateway: &Gateway<'_>, before: &str, step: &str) {
    until("the host has ended its deployment", || {
        !gateway.is_at_work()
    });
    let after = gateway.state();
    if step == "confirming" && gateway.read(CONFIG) == Some(other_policy()) {
        assert!(
            after.contains("ii 0.1.1") && after.contains("5061"),
            "{after}"
        );
        assert!(
            after.contains("left \"\"") && after.contains("\"pending\":null"),
            "{after}"
        );
    } else {
        assert_eq!(after, before, "cut off in {step}");
    }
}

#[test]
fn with_its_cable_cut_a_host_takes_itself_back() {
    on_gateways(6, |deployer, gateways| {
        let (running, before) =
            cut_in_each_step(deployer, gateways, |gateway, _| gateway.cable("down"));
        for ((step, gateway), before) in STEPS.iter().zip(&*gateways).zip(&before) {
            is_whole(gateway, before, step);
            gateway.cable("up");
        }
        // Each deployer is still asking, and says in the end what it finds.
        for ((step, process), gateway) in STEPS.iter().zip(running).zip(&*gateways) {
            let ended = process.wait();
            let new = gateway.read(CONFIG) == Some(other_policy());
            assert_eq!(ended.status.success(), new, "{ended:?}");
            let says = match *step {
                "checking" => "nothing was changed there",
                _ if new => "sipguard 0.1.1 in force",
                _ => "it has again what it had",
            };
            let row = ended.stdout.lines().last().unwrap();
            assert!(row.contains(says), "{step}: {ended:?}");
        }
        let newer = deployer.folder.join("0.1.1");
        for gateway in &*gateways {
            deploy(deployer, gateway, &newer).wait().succeeded();
            assert!(gateway.state().contains("ii 0.1.1"));
        }
    });
}

#[test]
fn with_its_deployer_killed_a_host_takes_itself_back() {
    on_gateways(6, |deployer, gateways| {
        let (_running, before) = cut_in_each_step(deployer, gateways, |_, process| {
            process.signal(Signal::KILL);
            for ssh in children(process.pid()) {
                let _ = kill_process(ssh, Signal::KILL);
            }
        });
        for ((step, gateway), before) in STEPS.iter().zip(&*gateways).zip(&before) {
            is_whole(gateway, before, step);
        }
    });
}

/// What its threads have started.
fn children(parent: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    threads
        .filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).ok())
        .flat_map(|children| {
            let numbers = children.split_whitespace().map(str::parse);
            numbers
                .filter_map(|number| Pid::from_raw(number.unwrap()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_config_that_cuts_off_the_deployer_takes_itself_back() {
    on_gateways(3, |deployer, gateways| {
        deployer.write("gateway.toml", &cutting_off());
        let newer = other_version(&deployer.folder, "0.1.1");
        gateways[1].install(POLICY);
        // What an administrator has prepared is none of the package's, though its folder is.
        let etc = gateways[2].system.root.join("etc/sipguard");
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("blocked.txt"), "198.51.100.0/24\n").unwrap();
        let before: Vec<_> = gateways.iter().map(Gateway::state).collect();
        let running: Vec<_> = gateways
            .iter()
            .map(|gateway| deploy(deployer, gateway, &newer))
            .collect();
        for (process, in_force) in running.into_iter().zip(["nothing ", "on eth0", "nothing "]) {
            let failed = process.wait().exited(1);
            let row = failed.stdout.lines().last().unwrap();
            for text in [
                "it does not answer any more",
                "it has again what it had",
                in_force,
            ] {
                assert!(row.contains(text), "{text}: {failed:?}");
            }
        }
        assert!(
            gateways[0].traces().is_empty(),
            "{:?}",
            gateways[0].traces()
        );
        assert_eq!(gateways[1].state(), before[1]);
        // What a boot does.
        gateways[1].system.run("sipguard apply").succeeded();
        assert_eq!(gateways[1].state(), before[1]);
        assert_eq!(gateways[2].read(CONFIG), None);
        let list = fs::read_to_string(etc.join("blocked.txt")).unwrap();
        assert_eq!(list, "198.51.100.0/24\n");
    });
}

#[test]
fn without_dpkg_a_host_takes_itself_back_too() {
    on_gateways(2, |deployer, gateways| {
        for gateway in &*gateways {
            fs::remove_file(gateway.system.root.join("usr/bin/dpkg")).unwrap();
        }
        deployer.write("gateway.toml", POLICY);
        let words = format!(
            "deploy --config gateway.toml --host root@{}",
            gateways[1].address
        );
        deployer.run(&words).succeeded();
        let before = gateways[1].state();
        deployer.write("gateway.toml", &cutting_off());
        let newer = other_version(&deployer.folder, "0.1.1");
        let running = [&gateways[0], &gateways[1]].map(|gateway| deploy(deployer, gateway, &newer));
        for process in running {
            let failed = process.wait().exited(1);
            assert!(
                failed.stdout.contains("it has again what it had"),
                "{failed:?}"
            );
        }
        let left = gateways[0].traces();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(gateways[1].state(), before);
    });
}

#[test]
fn with_its_disk_filled_in_mid_installation_a_host_takes_itself_back() {
    on_gateways(1, |deployer, gateways| {
        let gateway = &gateways[0];
        gateway.install(POLICY);
        let before = gateway.state();
        gateway.system.write(
            "etc/dpkg/dpkg.cfg.d/fill",
            "pre-invoke=[ -e /filled ] || dd if=/dev/zero of=/filled bs=1048576 2> /dev/null; true\n",
        );
        deployer.write("gateway.toml", &other_policy());
        let newer = other_version(&deployer.folder, "0.1.1");
        let failed = deploy(deployer, gateway, &newer).wait().exited(1);
        for text in [
            "installing: ",
            "it has again what it had",
            "generation 1 on eth0",
        ] {
            assert!(failed.stdout.contains(text), "{text}: {failed:?}");
        }
        assert!(gateway.read("filled").is_some());
        assert_eq!(gateway.state(), before);
    });
}

#[test]
fn a_host_that_restarts_in_mid_deployment_comes_up_with_what_it_had() {
    on_gateways(1, |deployer, gateways| {
        let gateway = &mut gateways[0];
        gateway.install(POLICY);
        let before = gateway.state();
        let newer = other_version(&deployer.folder, "0.1.1");
        deployer.write("gateway.toml", &cutting_off());
        let running = deploy(deployer, gateway, &newer);
        running.wait_for_error("verifying");
        gateway.restart();
        drop(running);
        // What a boot does: what was never confirmed is not applied, and whoever watches the service is told.
        gateway.system.run("sipguard apply").exited(5);
        let status = gateway.system.run("sipguard status").succeeded().stdout;
        assert!(!status.contains("ssh"), "{status}");

        // The next deployment clears up, and goes on.
        deployer.write("gateway.toml", &other_policy());
        let deployed = deploy(deployer, gateway, &newer).wait().succeeded();
        assert!(
            deployed.stderr.contains("that a restart cut off"),
            "{deployed:?}"
        );
        assert!(gateway.state().contains("5061"));
        assert_ne!(gateway.state(), before);
    });
}

#[test]
fn of_two_deployments_the_second_is_refused() {
    on_gateways(1, |deployer, gateways| {
        let gateway = &gateways[0];
        let newer = other_version(&deployer.folder, "0.1.1");
        deployer.write("gateway.toml", &other_policy());
        let first = deploy(deployer, gateway, &newer);
        first.wait_for_error("installing");
        first.signal(Signal::STOP);
        until("its step has ended", || !gateway.is_in_a_step());
        let second = deploy(deployer, gateway, &newer).wait().exited(1);
        assert!(
            second
                .stdout
                .contains("another deployment is at work there"),
            "{second:?}"
        );
        first.signal(Signal::CONT);
        first.wait().succeeded();
    });
}
