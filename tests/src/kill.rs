//! `kill -9` of a command at each of its system calls that change something.

use std::{collections::BTreeMap, fs, os::unix::process::ExitStatusExt as _, process::Command};

use crate::{netns::sipguard, scene::Scene};

/// One system call of a command: its name, and which one of that name it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    name: String,
    number: usize,
    /// Its arguments, for messages.
    text: String,
}

impl Call {
    /// Whether this is among its arguments.
    #[must_use]
    pub fn does(&self, what: &str) -> bool {
        self.text.contains(what)
    }
}

fn strace(scene: &Scene, options: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(sipguard());
    command.arg("--config").arg(scene.config()).args(arguments);
    command
}

/// The calls of a command that change what others can see: between two of them, one moment is like any other.
#[must_use]
pub fn calls(scene: &Scene, arguments: &[&str]) -> Vec<Call> {
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = log.path().to_str().expect("a path in UTF-8");
    let options = [
        "-o",
        path,
        "-e",
        "trace=bpf,openat,write,fsync,fdatasync,ftruncate,rename,unlink,unlinkat,mkdir,rmdir",
    ];
    scene
        .gateway
        .run(&mut strace(scene, &options, arguments))
        .succeeded();
    let mut numbers = BTreeMap::<String, usize>::new();
    let mut found = Vec::new();
    for line in fs::read_to_string(path).expect("strace's log").lines() {
        // 123 rename("a", "b") = 0
        let call = line
            .trim_start_matches(|it: char| it.is_ascii_digit())
            .trim();
        let Some((name, text)) = call.split_once('(') else {
            continue;
        };
        let number = numbers.entry(name.to_owned()).or_default();
        *number += 1;
        let changes = match name {
            "bpf" => [
                "OBJ_PIN",
                "LINK_CREATE",
                "LINK_UPDATE",
                "LINK_DETACH",
                "UPDATE_BATCH",
                "UPDATE_ELEM",
                "DELETE",
            ]
            .iter()
            .any(|command| text.contains(command)),
            "openat" => text.contains("O_CREAT"),
            _ => true,
        };
        if changes && !text.contains(" = -1 ") {
            found.push(Call {
                name: name.to_owned(),
                number: *number,
                text: text.chars().take(90).collect(),
            });
        }
    }
    assert!(found.len() > 5, "strace tells nothing of {arguments:?}");
    found
}

/// Runs a command that is killed where this call would begin; says whether it came so far.
#[must_use]
pub fn killed_at(scene: &Scene, call: &Call, arguments: &[&str]) -> bool {
    let Call { name, number, .. } = call;
    let trace = format!("trace={name}");
    let inject = format!("inject={name}:signal=SIGKILL:when={number}");
    let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
    let ended = scene.gateway.run(&mut strace(scene, &options, arguments));
    // strace ends as what it traces did.
    let killed = ended.status.signal() == Some(9);
    if !killed {
        ended.succeeded();
    }
    killed
}
