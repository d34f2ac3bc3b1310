//! A kernel that lacks what sipguard can't do without: the feature is named, and nothing is changed.

use std::process::Command;

use sipguard_tests::{
    netns::{SCRATCH, sandbox, sipguard},
    scene::{Scene, pins},
};

#[test]
fn a_kernel_without_bpf() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure("interfaces = [\"eth0\"]\n");
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-o", &format!("{SCRATCH}/calls")])
            .args(["-e", "trace=bpf", "-e", "inject=bpf:error=ENOSYS"])
            .arg(sipguard())
            .arg("--config")
            .arg(scene.config())
            .arg("apply");
        let said = scene.gateway.run(&mut command).exited(1).stderr;
        assert!(
            said.contains("was built without BPF (CONFIG_BPF_SYSCALL)"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        // Empty folders, for the next apply.
        let deep = |pin: &String| pin.matches('/').count() > 1;
        assert!(!pins().iter().any(deep), "{:?}", pins());
    });
}
