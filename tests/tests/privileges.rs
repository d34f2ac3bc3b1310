//! What sipguard may do with which capabilities, and who may read what it leaves.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use sipguard_tests::{
    capture_file::{CaptureFile, Format, Order},
    foreign::{self, Foreign},
    frame::eth,
    netns::{BPFFS, Finished, SCRATCH, STATE, sandbox, sipguard},
    scene::{PROVIDER, SCANNER, Scene, pins},
};

/// What the package's service has.
const THREE: &[&str] = &["bpf", "net_admin", "perfmon"];
/// Enough to look, and to change single entries.
const TWO: &[&str] = &["bpf", "net_admin"];

const POLICY: &str = r#"
interfaces = ["eth0"]
[sources]
providers = ["203.0.113.0/24"]
[services.sip]
udp = [5060]
allow = ["providers"]
"#;

/// Runs sipguard as root with these capabilities and no others.
fn with(capabilities: &[&str], scene: &Scene, line: &str) -> Finished {
    let mut set = "--bounding-set=-all".to_owned();
    for capability in capabilities {
        set.push_str(",+");
        set.push_str(capability);
    }
    let mut command = Command::new("setpriv");
    command.args([&set, "--inh-caps=-all"]);
    command.arg(sipguard()).arg("--config").arg(scene.config());
    scene.gateway.run(command.args(line.split_whitespace()))
}

fn refused(finished: &Finished) {
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let wanted = "sipguard: sipguard needs root (or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON) for this: run it with sudo\n";
    assert_eq!(finished.stderr, wanted, "{finished:?}");
}

#[test]
fn three_capabilities_do_for_every_command() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(POLICY);
        let capture = Path::new(SCRATCH).join("one.pcap");
        let mut packets = CaptureFile::new(Format::Micro, Order::Little, 1);
        packets.add(&scene.frame("eth0", SCANNER).udp(5060).bytes());
        fs::write(&capture, packets.bytes()).expect("the scratch folder is writable");
        let checked = format!("check --pcap {}", capture.display());

        // A capture is judged without any.
        let told = with(&[], &scene, &checked).succeeded().stdout;
        assert!(told.contains("1 would be dropped"), "{told}");
        let by_kernel = format!("{checked} --kernel");
        refused(&with(&[], &scene, &by_kernel));
        refused(&with(&[], &scene, &format!("{checked} --against live")));

        let run = |line: &str| with(THREE, &scene, line).succeeded();
        run("apply");
        assert!(!scene.passes("eth0", SCANNER, 5060) && scene.passes("eth0", PROVIDER, 5060));
        run("allow 198.51.100.7 --service all --for 1h");
        assert!(scene.passes("eth0", SCANNER, 5060));
        for line in [
            "status",
            "stats",
            "list",
            "check --live 203.0.113.5",
            &checked,
            &by_kernel,
        ] {
            run(line);
        }
        run("remove 198.51.100.7");
        scene.configure(&POLICY.replace("5060", "5060, 5061"));
        run("apply --confirm 60s");
        run("rollback");
        scene.configure(&POLICY.replace("5060", "5060, 5062"));
        run("apply --confirm 60s");
        run("confirm");
        assert!(!scene.passes("eth0", SCANNER, 5062));
        run("down");
        assert_eq!(pins(), [""; 0]);
    });
}

/// Somebody who may read a config and a capture, and nothing else, tries the one on the other and learns from it. Nothing is written.
#[test]
fn captures_are_for_everybody() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let at = |name: &str| Path::new(SCRATCH).join(name);
        // Where it was built nobody else may be let in.
        fs::copy(sipguard(), at("sipguard-command")).expect("there is room");
        fs::write(at("policy.toml"), POLICY).expect("there is room");
        let mut packets = CaptureFile::new(Format::Micro, Order::Little, 1);
        for source in [SCANNER, PROVIDER] {
            packets.add(&eth().ip(source).udp(5060).bytes());
        }
        for (name, mode) in [("one.pcap", 0o644), ("secret.pcap", 0o600)] {
            fs::write(at(name), packets.bytes()).expect("there is room");
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(at(name), mode).expect("it is ours");
        }
        let run = |program: &mut Command, line: &str| {
            let command = program.arg(at("sipguard-command")).current_dir(SCRATCH);
            host.run(command.args(line.split_whitespace()))
        };
        let nobody = |line: &str| {
            let words = ["--reuid=65534", "--regid=65534", "--clear-groups"];
            run(Command::new("setpriv").args(words), line)
        };
        let before = tree();
        for line in [
            "check --config policy.toml --pcap one.pcap",
            "check --config policy.toml --pcap one.pcap --json",
            "check --config policy.toml --pcap one.pcap --explain 1",
            "learn --pcap one.pcap",
            "learn --pcap one.pcap --json",
        ] {
            let told = nobody(line).succeeded();
            assert_eq!(told.stderr, "", "{line}");
            let by_root = run(&mut Command::new("env"), line).succeeded();
            assert_eq!(told.stdout, by_root.stdout, "{line}");
        }
        for (line, wanted) in [
            (
                "learn --interface lo --for 1s",
                "sipguard: listening to an interface needs root (or CAP_NET_RAW); a capture of it can be read without: --pcap FILE\n",
            ),
            (
                "learn --pcap secret.pcap",
                "sipguard: cannot open secret.pcap; name a capture, or - for standard input: Permission denied (os error 13)\n",
            ),
            (
                "check --config policy.toml --pcap secret.pcap",
                "sipguard: cannot open secret.pcap; name a capture, or - for standard input: Permission denied (os error 13)\n",
            ),
            (
                "check --config policy.toml --pcap one.pcap --drops secret.pcap",
                "sipguard: cannot write secret.pcap: Permission denied (os error 13)\n",
            ),
        ] {
            let told = nobody(line).exited(1);
            assert_eq!(
                (told.stdout.as_str(), told.stderr.as_str()),
                ("", wanted),
                "{line}"
            );
        }
        refused(&nobody(
            "check --config policy.toml --pcap one.pcap --kernel",
        ));
        assert_eq!(tree(), before, "something was written");
    });
}

/// All files where something could be written, with their lengths.
fn tree() -> Vec<(PathBuf, u64)> {
    let mut folders = vec![SCRATCH.into(), BPFFS.into(), "/run/sipguard".into()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let folder: PathBuf = folder;
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a folder that can be read").path();
            let about = fs::symlink_metadata(&path).expect("it is there");
            if about.is_dir() {
                folders.push(path.clone());
            }
            files.push((path, about.len()));
        }
    }
    files.sort();
    files
}

/// `CAP_PERFMON` is for loading programs.
#[test]
fn two_capabilities_do_for_looking_and_for_single_entries() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(POLICY);
        refused(&with(TWO, &scene, "apply"));
        scene.sipguard(["apply"]).succeeded();
        for line in ["status", "stats", "list", "apply", "deny 203.0.113.5"] {
            with(TWO, &scene, line).succeeded();
        }
        assert!(!scene.passes("eth0", PROVIDER, 5060));
        with(TWO, &scene, "remove 203.0.113.5").succeeded();
        assert!(scene.passes("eth0", PROVIDER, 5060));
        refused(&with(TWO, &scene, "check --live 203.0.113.5"));
        scene.configure(&POLICY.replace("5060", "5061"));
        refused(&with(TWO, &scene, "apply"));
        assert!(!scene.passes("eth0", SCANNER, 5060), "what was in force is");

        for one in [&["bpf", "perfmon"], &["net_admin", "perfmon"]] {
            refused(&with(one, &scene, "status"));
            refused(&with(one, &scene, "down"));
        }
        with(TWO, &scene, "down").succeeded();
    });
}

/// Without `CAP_SYS_ADMIN` another program has a number, and no name.
#[test]
fn another_program_is_named_by_its_number() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(POLICY);
        let foreign = Foreign::attach(&scene.gateway, "eth0");
        let number = foreign.id.to_string();
        let told = with(THREE, &scene, "apply").exited(1).stderr;
        assert!(told.contains(&number), "{told}");
        assert!(!told.contains(foreign::NAME), "{told}");
        let four = [THREE, &["sys_admin"]].concat();
        let told = with(&four, &scene, "apply").exited(1).stderr;
        assert!(told.contains(&number), "{told}");
        assert!(told.contains(foreign::NAME), "{told}");
    });
}

/// Whoever could write a pin could open the filter; whoever could read the entries would know whom the gateway trusts.
#[test]
fn pins_and_state_are_for_root_alone() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(POLICY);
        // Whatever the caller's umask.
        let run = |line: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", "umask 0; exec \"$@\"", "sh"]);
            command.arg(sipguard()).arg("--config").arg(scene.config());
            scene
                .gateway
                .run(command.args(line.split_whitespace()))
                .succeeded();
        };
        run("apply");
        run("allow 192.0.2.7 --service sip");
        scene.configure(&POLICY.replace("5060", "5061"));
        run("apply --confirm 60s");

        let mut seen = 0;
        let pins = walk(&Path::new(BPFFS).join("sipguard"));
        // The folder itself is the sandbox's here.
        let state = walk(Path::new(STATE)).into_iter().skip(1);
        for path in pins.into_iter().chain(state) {
            let about = fs::symlink_metadata(&path).expect("it is there");
            let mode = about.permissions().mode() & 0o7777;
            let wanted = if about.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, wanted, "{} has mode {mode:o}", path.display());
            seen += 1;
        }
        // Folders, links, counters, programs and maps of two generations, state, lock, the policy before.
        assert!(seen > 20, "{seen}");
    });
}

/// Everything below a folder, and the folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).expect("root reads everything") {
        let path = entry.expect("root reads everything").path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found
}
