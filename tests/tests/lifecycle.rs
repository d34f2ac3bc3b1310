//! What becomes of interfaces, pins and the state: put in force, let go, gone, back, renamed, somebody else's, and nowhere to write.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
};

use ipnet::IpNet;
use jiff::Timestamp;
use sipguard::{
    device::{self, Device, Hook},
    policy::Action,
    state::{OwnEntry, Store},
};
use sipguard_tests::{
    foreign::{self, Foreign},
    netns::{BPFFS, Finished, Sandbox, sandbox, sipguard},
    scene::{PROVIDER, SCANNER, Scene, link_id, pins},
};

fn config(interfaces: &str, port: u16) -> String {
    format!(
        "{interfaces}\n[sources]\nproviders = [\"{PROVIDER}\"]\n\
         [services.sip]\nudp = [{port}]\nallow = [\"providers\"]\n"
    )
}

const ETH0: &str = r#"interfaces = ["eth0"]"#;
const BOTH: &str = r#"interfaces = ["eth0", "wan.100"]"#;

/// A scene with a policy for 5060 in force.
fn guarded(sandbox: &Sandbox, links: &[&str], interfaces: &str) -> Scene {
    let scene = Scene::new(sandbox, links);
    scene.configure(&config(interfaces, 5060));
    scene.sipguard(["apply"]).succeeded();
    for link in links {
        assert_eq!(guards(&scene, link), interfaces.contains(link), "{link}");
    }
    scene
}

/// Whether 5060 is guarded there, as packets tell.
fn guards(scene: &Scene, interface: &str) -> bool {
    assert!(scene.passes(interface, PROVIDER, 5060), "{interface}");
    !scene.passes(interface, SCANNER, 5060)
}

fn device(scene: &Scene, name: &str) -> Device {
    let found = scene.gateway.enter(|| device::named(name));
    Device {
        // Packets come in all the while.
        received: 0,
        ..found
            .expect("netlink works")
            .expect("the interface is there")
    }
}

/// Fails as it should: with one line that has all of these words.
fn fails(finished: Finished, words: &[&str]) {
    let finished = finished.exited(1);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    for word in words {
        assert!(
            finished.stderr.contains(word),
            "{word}: {}",
            finished.stderr
        );
    }
}

#[test]
fn down_leaves_nothing_but_the_entries() {
    sandbox(|sandbox| {
        let scene = guarded(sandbox, &["eth0", "wan.100"], BOTH);
        scene
            .sipguard(["allow", "192.0.2.7", "--service", "all"])
            .succeeded();
        assert!(scene.passes("wan.100", "192.0.2.7", 5060));
        for turn in 0..2 {
            scene.sipguard(["down"]).succeeded();
            for interface in ["eth0", "wan.100"] {
                assert_eq!(
                    device(&scene, interface).xdp,
                    [],
                    "{interface} in turn {turn}"
                );
                assert!(!guards(&scene, interface));
            }
            assert_eq!(pins(), [""; 0]);
        }
        scene.sipguard(["apply"]).succeeded();
        assert!(guards(&scene, "eth0") && guards(&scene, "wan.100"));
        assert!(scene.passes("eth0", "192.0.2.7", 5060));
        assert!(!scene.passes("eth0", "192.0.2.8", 5060));
    });
}

/// Counters of another layout, say of the version before an upgrade.
#[test]
fn down_removes_what_another_version_left() {
    sandbox(|sandbox| {
        let scene = guarded(sandbox, &["eth0"], ETH0);
        let root = Path::new(BPFFS).join("sipguard");
        let folder = fs::read_dir(&root).expect("the pins").filter_map(|entry| {
            let path = entry.expect("readable").path();
            path.display()
                .to_string()
                .contains("counters")
                .then_some(path)
        });
        let folder = folder.last().expect("a folder of counters");
        fs::create_dir(root.join("counters-0")).expect("bpffs is writable");
        fs::rename(folder.join("eth0"), root.join("counters-0/eth0")).expect("a pin");
        scene.sipguard(["down"]).succeeded();
        assert_eq!(pins(), [""; 0]);
    });
}

#[test]
fn somebody_elses_program_is_named_and_left_alone() {
    sandbox(|sandbox| {
        let scene = guarded(sandbox, &["eth0", "wan.100"], ETH0);
        let foreign = Foreign::attach(&scene.gateway, "wan.100");
        let before = (pins(), device(&scene, "eth0"), device(&scene, "wan.100"));
        let state = Store::system().load().expect("a state");
        scene.configure(&config(BOTH, 5061));
        let id = foreign.id.to_string();
        let apply = ["apply", "--all-or-nothing"];
        fails(scene.sipguard(apply), &["wan.100", foreign::NAME, &id]);
        let after = (pins(), device(&scene, "eth0"), device(&scene, "wan.100"));
        assert_eq!(before, after);
        assert_eq!(state, Store::system().load().expect("a state"));
        assert_eq!(device(&scene, "wan.100").xdp[0].program, foreign.id);
        assert!(guards(&scene, "eth0"));

        drop(foreign);
        scene.sipguard(["apply"]).succeeded();
        assert!(!guards(&scene, "eth0") && !guards(&scene, "wan.100"));
        assert!(!scene.passes("wan.100", SCANNER, 5061));
    });
}

/// An interface comes back with somebody else's program on it. That is no reason to leave the other interfaces as they are.
#[test]
fn somebody_elses_program_on_an_interface_that_came_back() {
    sandbox(|sandbox| {
        let mut scene = guarded(sandbox, &["eth0", "wan.100"], BOTH);
        // A swap that was cut off: the other interface's link is gone.
        scene.gateway.ip("link del wan.100");
        fs::remove_file(Path::new(BPFFS).join("sipguard/links/wan:100")).expect("a pin");
        scene.connect("wan.100");
        let foreign = Foreign::attach(&scene.gateway, "wan.100");

        scene
            .sipguard(["allow", "192.0.2.7", "--service", "all"])
            .succeeded();
        assert!(scene.passes("eth0", "192.0.2.7", 5060));
        let id = foreign.id.to_string();
        fails(scene.sipguard(["apply"]), &["wan.100", foreign::NAME, &id]);
        // What the message says to do helps.
        scene.configure(&config(ETH0, 5061));
        scene.sipguard(["apply"]).succeeded();
        assert!(!scene.passes("eth0", SCANNER, 5061));
        assert_eq!(device(&scene, "wan.100").xdp[0].program, foreign.id);
    });
}

#[test]
fn an_interface_that_is_gone_and_comes_back() {
    sandbox(|sandbox| {
        let mut scene = guarded(sandbox, &["eth0", "wan.100"], BOTH);
        scene.gateway.ip("link del wan.100");
        let said = scene.sipguard(["apply"]).succeeded().stderr;
        assert!(said.contains("wan.100"), "{said}");
        assert!(guards(&scene, "eth0"));
        assert!(
            !pins().iter().any(|pin| pin.contains("links/wan")),
            "{:?}",
            pins()
        );

        scene.connect("wan.100");
        assert!(!guards(&scene, "wan.100"));
        scene.sipguard(["apply"]).succeeded();
        assert!(guards(&scene, "wan.100"));

        // Gone and back before anybody looks: the old link leads nowhere.
        scene.gateway.ip("link del wan.100");
        scene.connect("wan.100");
        scene.sipguard(["apply"]).succeeded();
        assert!(guards(&scene, "wan.100") && guards(&scene, "eth0"));

        // Both gone: an error that says what there is, and what is pinned stays.
        scene.gateway.ip("link del wan.100");
        scene.gateway.ip("link del eth0");
        fails(scene.sipguard(["apply"]), &["eth0", "wan.100", "lo"]);
        scene.connect("eth0");
        scene.connect("wan.100");
        scene.sipguard(["apply"]).succeeded();
        assert!(guards(&scene, "wan.100") && guards(&scene, "eth0"));
    });
}

#[test]
fn a_renamed_interface() {
    sandbox(|sandbox| {
        let scene = guarded(sandbox, &["eth0"], ETH0);
        // An interface may be renamed only while it is down, on older kernels.
        scene.gateway.ip("link set eth0 down");
        scene.gateway.ip("link set eth0 name wan.200");
        scene.gateway.ip("link set wan.200 up");
        scene.await_link("eth0");
        assert!(guards(&scene, "eth0"), "the link goes with the interface");
        let link = link_id("eth0");
        scene.configure(&config(r#"interfaces = ["wan.200"]"#, 5061));
        scene.sipguard(["apply"]).succeeded();
        assert!(!scene.passes("eth0", SCANNER, 5061));
        assert!(scene.passes("eth0", SCANNER, 5060));
        let links: Vec<_> = pins()
            .into_iter()
            .filter(|pin| pin.contains("links/"))
            .collect();
        assert_eq!(links, ["sipguard/links/wan:200"]);
        assert_eq!(link_id("wan:200"), link);
        // And the old name is free for another one.
        scene.gateway.ip("link set wan.200 down");
        scene.gateway.ip("link set wan.200 name eth0");
        scene.gateway.ip("link set eth0 up");
        scene.await_link("eth0");
        scene.configure(&config(ETH0, 5060));
        scene.sipguard(["apply"]).succeeded();
        assert!(guards(&scene, "eth0"));
        scene.sipguard(["down"]).succeeded();
        assert!(!guards(&scene, "eth0"));
    });
}

/// A guarded interface is renamed, and another one gets its name: nothing is let go of without a word.
#[test]
fn a_renamed_interface_and_a_new_one_of_its_name() {
    sandbox(|sandbox| {
        let scene = guarded(sandbox, &["eth0"], ETH0);
        scene.gateway.ip("link set eth0 down");
        scene.gateway.ip("link set eth0 name wan0");
        scene.gateway.ip("link set wan0 up");
        let rows = || {
            let said = scene.sipguard(["status", "--json"]).succeeded().stdout;
            let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
            assert_eq!(json["enforced"], true);
            let rows = json["interfaces"].as_array().expect("a list").clone();
            let row = |row: &serde_json::Value| {
                let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
                (text("name"), text("state"), text("renamed"))
            };
            rows.iter().map(row).collect::<Vec<_>>()
        };
        let row = |state: &str, renamed: &str| ("eth0".into(), state.into(), renamed.into());
        assert_eq!(rows(), [row("attached", "wan0")]);
        let said = scene.sipguard(["status"]).succeeded().stdout;
        assert!(said.contains("eth0 (now wan0)"), "{said}");
        assert!(!said.contains("nothing is dropped"), "{said}");

        scene.gateway.ip("link add eth0 type veth peer name eth9");
        assert_eq!(rows(), [row("attached", "wan0"), row("detached", "")]);
        let told = scene.sipguard(["apply"]).succeeded().stderr;
        assert!(
            told.contains("wan0 (was eth0): not filtered any more"),
            "{told}"
        );
        assert_eq!(rows(), [row("attached", "")]);
        assert!(device(&scene, "wan0").xdp.is_empty());
    });
}

/// Names that `ip link property add` gave are as good as the kernel's.
#[test]
fn another_name_of_an_interface() {
    let long = "enp3s0f0-of-the-left-card";
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene
            .gateway
            .ip(&format!("link property add dev eth0 altname {long}"));
        scene.configure(&config(&format!("interfaces = [\"{long}\"]"), 5060));
        let told = scene.sipguard(["apply"]).succeeded().stdout;
        assert!(
            told.starts_with(&format!("eth0 ({long}): native")),
            "{told}"
        );
        assert!(guards(&scene, "eth0"));
        let again = scene.sipguard(["apply", "--json"]).succeeded().stdout;
        assert!(again.contains("\"changed\":false"), "{again}");
        let said = scene.sipguard(["status"]).succeeded().stdout;
        assert!(said.contains(&format!("eth0 ({long})")), "{said}");
        let found = scene.sipguard(["doctor", "--json"]).stdout;
        assert!(!found.contains("\"check\":\"in_force\""), "{found}");

        scene.configure(&config(
            &format!("interfaces = [\"eth0\", \"{long}\"]"),
            5060,
        ));
        let told = scene.sipguard(["apply"]).exited(1).stderr;
        assert!(told.contains("is another name of eth0"), "{told}");
        assert!(guards(&scene, "eth0"));
    });
}

/// Two interfaces exchange their names: so do the pins, and neither is ever without a program.
#[test]
fn exchanged_names() {
    sandbox(|sandbox| {
        let scene = guarded(sandbox, &["eth0", "wan.100"], BOTH);
        let links = ["eth0", "wan:100"].map(link_id);
        for (from, to) in [("eth0", "other"), ("wan.100", "eth0"), ("other", "wan.100")] {
            scene.gateway.ip(&format!("link set {from} down"));
            scene.gateway.ip(&format!("link set {from} name {to}"));
            scene.gateway.ip(&format!("link set {to} up"));
        }
        for interface in ["eth0", "wan.100"] {
            scene.await_link(interface);
        }
        scene.configure(&config(BOTH, 5061));
        scene.sipguard(["apply"]).succeeded();
        assert_eq!(["wan:100", "eth0"].map(link_id), links);
        for interface in ["eth0", "wan.100"] {
            assert!(!scene.passes(interface, SCANNER, 5061));
            assert!(scene.passes(interface, SCANNER, 5060));
        }
    });
}

/// A bridge has no native mode.
const NO_NATIVE: &str = "interface = [{ name = \"eth0\" }, { name = \"br0\", mode = \"native\" }]";

#[test]
fn where_the_second_interface_fails_the_first_turns_back() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.gateway.ip("link add br0 type bridge");
        scene.configure(&config(NO_NATIVE, 5060));
        let apply = ["apply", "--all-or-nothing"];
        fails(scene.sipguard(apply), &["br0", "native"]);
        assert_eq!(device(&scene, "eth0").xdp, []);
        assert!(!guards(&scene, "eth0"));

        scene.configure(&config(ETH0, 5060));
        scene.sipguard(["apply"]).succeeded();
        let before = (device(&scene, "eth0").xdp, link_id("eth0"));
        scene.configure(&config(NO_NATIVE, 5061));
        fails(scene.sipguard(apply), &["br0", "native"]);
        assert!(guards(&scene, "eth0"));
        assert!(scene.passes("eth0", SCANNER, 5061));
        assert_eq!((device(&scene, "eth0").xdp, link_id("eth0")), before);
        let generations = pins();
        let generations = generations
            .iter()
            .filter(|pin| pin.ends_with("/program-eth0"));
        assert_eq!(generations.count(), 1);
    });
}

#[test]
fn another_mode() {
    sandbox(|sandbox| {
        let interface = |name: &str, mode: &str| {
            format!("interface = [{{ name = \"{name}\", mode = \"{mode}\" }}]")
        };
        let scene = guarded(sandbox, &["eth0"], &interface("eth0", "native"));
        for (mode, hook) in [
            ("tc", Hook::Tc),
            ("native", Hook::Native),
            ("auto", Hook::Native),
            ("tc", Hook::Tc),
        ] {
            scene.configure(&config(&interface("eth0", mode), 5060));
            scene.sipguard(["apply"]).succeeded();
            let told = scene.sipguard(["status", "--json"]).succeeded().stdout;
            let wanted = format!("\"mode\":\"{}\"", hook.name());
            assert!(told.contains(&wanted), "{mode}: {told}");
            assert!(guards(&scene, "eth0"));
        }
        // One that is refused leaves the old one in force.
        scene.sipguard(["down"]).succeeded();
        scene.gateway.ip("link add br0 type bridge");
        scene.configure(&config(&interface("br0", "auto"), 5060));
        let said = scene.sipguard(["apply"]).succeeded().stdout;
        assert!(said.contains("tc"), "{said}");
        let before = device(&scene, "br0");
        scene.configure(&config(&interface("br0", "native"), 5060));
        fails(scene.sipguard(["apply"]), &["br0", "native"]);
        assert_eq!(device(&scene, "br0"), before);
        scene
            .sipguard(["allow", "192.0.2.7", "--service", "all"])
            .succeeded();
        assert_eq!(device(&scene, "br0"), before);
    });
}

#[test]
fn without_bpffs() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(&config(ETH0, 5060));
        sandbox.unmount_bpffs();
        // This mount namespace is not pid 1's, as with `ip netns exec`.
        for command in [
            vec!["apply"],
            vec!["allow", "192.0.2.7", "--service", "sip"],
        ] {
            fails(scene.sipguard(command), &["nsenter --net="]);
        }
        assert_eq!(device(&scene, "eth0").xdp, []);
        assert_eq!(fs::read_dir(BPFFS).expect("a folder").count(), 0);

        // In one that is, it is mounted.
        let script = "\"$0\" --config \"$1\" apply && stat --file-system --format %T /sys/fs/bpf";
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "sh",
            "-c",
            script,
        ]);
        let finished = scene
            .gateway
            .run(command.arg(sipguard()).arg(scene.config()))
            .succeeded();
        assert!(finished.stdout.contains("bpf_fs"), "{}", finished.stdout);
    });
}

/// More entries of the command line than there is room for in the generation: the next change makes another one. While an apply waits to be
/// confirmed, that has to wait, too.
#[test]
fn more_entries_than_there_is_room_for() {
    sandbox(|sandbox| {
        let scene = guarded(sandbox, &["eth0"], ETH0);
        let mut state = Store::system().load().expect("a state");
        for number in 0..70_000 {
            let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + number);
            state.entries.push(OwnEntry {
                prefix: IpNet::from(IpAddr::from(address)),
                service: "sip".to_owned(),
                action: Action::Allow,
                until: None,
                lasts_in: None,
                comment: None,
                added: Timestamp::UNIX_EPOCH,
            });
        }
        state.revision += 1;
        Store::system()
            .save(&mut state)
            .expect("the state folder is writable");
        scene.configure(&config(ETH0, 5061));
        scene.sipguard(["apply", "--confirm", "10m"]).succeeded();
        let before = link_id("eth0");
        scene.sipguard(["rollback"]).succeeded();
        scene.sipguard(["deny", "10.0.0.7"]).succeeded();
        assert_eq!(link_id("eth0"), before, "never without a program");
        assert!(guards(&scene, "eth0"));
        for listed in ["10.0.0.0", "10.1.17.111"] {
            assert!(scene.passes("eth0", listed, 5060), "{listed}");
        }
        assert!(!scene.passes("eth0", "10.0.0.7", 5060));
        scene.sipguard(["remove", "10.0.0.7"]).succeeded();
        scene.sipguard(["deny", "10.0.0.8"]).succeeded();
        assert!(!scene.passes("eth0", "10.0.0.8", 5060));
        scene
            .sipguard(["allow", "192.0.2.8", "--service", "all"])
            .succeeded();
        assert!(scene.passes("eth0", "192.0.2.8", 5060));
        let generations = pins();
        let generations = generations
            .iter()
            .filter(|pin| pin.ends_with("/program-eth0"));
        assert_eq!(generations.count(), 1);
    });
}

/// What was read once can't have changed meanwhile.
#[test]
fn the_config_file_is_opened_once() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(&config(ETH0, 5060));
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        for (turn, arguments) in [
            vec!["apply"],
            vec!["apply"],
            vec!["apply", "--dry-run"],
            vec!["apply", "--confirm", "10m"],
        ]
        .into_iter()
        .enumerate()
        {
            if turn == 3 {
                scene.configure(&config(ETH0, 5061));
            }
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-e", "trace=open,openat", "-o"]);
            command.arg(log.path()).arg(sipguard());
            command.arg("--config").arg(scene.config()).args(&arguments);
            scene.gateway.run(&mut command).succeeded();
            let calls = fs::read_to_string(log.path()).expect("strace's log");
            let path = format!("\"{}\"", scene.config().display());
            assert_eq!(calls.matches(&path).count(), 1, "{arguments:?}: {calls}");
        }
    });
}
