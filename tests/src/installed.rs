//! The programs as packages install them, with the fetcher's user.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::mount::mount_bind;

use crate::{
    netns::{Finished, SCRATCH, sipguard, sipguard_fetch},
    scene::Scene,
};

/// The programs as they are installed: where their user may run one of them.
#[derive(Debug)]
pub struct Installed {
    sipguard: PathBuf,
}

impl Installed {
    /// Of these tests, in a folder of the sandbox.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        const USER: u32 = 4_711;
        let folder = Path::new(SCRATCH).join("bin");
        fs::create_dir(&folder).expect("the scratch folder is writable");
        let copy = |program: PathBuf| {
            let copy = folder.join(program.file_name().expect("it has a name"));
            fs::copy(program, &copy).expect("there is room for it");
            copy
        };
        let users = fs::read_to_string("/etc/passwd").expect("everybody may read it");
        let with_ours = Path::new(SCRATCH).join("passwd");
        let user =
            format!("{users}sipguard-fetch:x:{USER}:{USER}::/nonexistent:/usr/sbin/nologin\n");
        fs::write(&with_ours, user).expect("the scratch folder is writable");
        // In this test's mounts alone.
        mount_bind(&with_ours, "/etc/passwd").expect("a file can be mounted over a file");
        let found = Path::new(SCRATCH).join("sipguard-fetch");
        fs::create_dir_all(&found).expect("the scratch folder is writable");
        chown(&found, Some(USER), Some(USER)).expect("this test runs as root");
        copy(sipguard_fetch());
        Self {
            sipguard: copy(sipguard()),
        }
    }

    /// Runs sipguard on the gateway with the scene's config.
    #[must_use]
    pub fn run(&self, scene: &Scene, line: &str) -> Finished {
        let mut command = Command::new(&self.sipguard);
        command.arg("--config").arg(scene.config());
        scene.gateway.run(command.args(line.split_whitespace()))
    }
}
