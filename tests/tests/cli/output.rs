//! Where output goes: pipes that nobody reads, terminals with colours, shells and manual pages.

use std::{fs, path::Path, process::Command};

use sipguard_tests::{
    netns::{SCRATCH, sandbox, sipguard},
    scene::Scene,
};

use super::{applied, run, shell};

#[test]
fn output_that_nobody_reads() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        for line in [
            "list",
            "status",
            "stats --watch",
            "man",
            "completions zsh",
            "--help",
            "check --live ::1",
        ] {
            let closed = shell(&scene, &format!("sipguard {line} | true")).succeeded();
            assert_eq!(closed.stderr, "", "{line}");
        }
        for line in [
            "list",
            "status",
            "stats",
            "man",
            "completions zsh",
            "check --live ::1",
        ] {
            let full = shell(&scene, &format!("sipguard {line} > /dev/full")).exited(1);
            assert_eq!(
                full.stderr,
                "sipguard: cannot write the output: No space left on device (os error 28)\n",
                "{line}"
            );
        }
    });
}

#[test]
fn colours_only_where_they_are_wanted() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        run(&scene, "deny ::1").succeeded();
        for line in ["status", "stats", "list"] {
            assert!(
                !run(&scene, line).succeeded().stdout.contains('\x1b'),
                "{line}"
            );
            let coloured = run(&scene, &format!("{line} --color always")).succeeded();
            assert!(coloured.stdout.contains('\x1b'), "{line}");
        }
        let failed = run(&scene, "remove ::2 --color always").exited(1);
        assert!(failed.stderr.starts_with("\x1b["), "{}", failed.stderr);
        // `script` runs it on a terminal.
        let command = format!(
            "{} --config {} list",
            sipguard().display(),
            scene.config().display()
        );
        for (variables, coloured) in [
            ("TERM=xterm", true),
            ("TERM=xterm NO_COLOR=1", false),
            ("TERM=dumb", false),
        ] {
            let mut script = Command::new("script");
            // Under CI a terminal is taken to show colours, whatever it says of itself.
            script.env_remove("NO_COLOR").env_remove("CI").args([
                "-qec",
                &format!("{variables} {command}"),
                "/dev/null",
            ]);
            let told = scene.gateway.run(&mut script).succeeded().stdout;
            assert_eq!(told.contains('\x1b'), coloured, "{variables}: {told}");
        }
    });
}

#[test]
fn completions_and_manual_pages() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &[]);
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = run(&scene, &format!("completions {shell}"))
                .succeeded()
                .stdout;
            assert!(script.contains("comment"), "{shell}");
        }
        let page = run(&scene, "man").succeeded().stdout;
        assert!(page.contains(".TH sipguard 1"), "{page}");
        let folder = Path::new(SCRATCH).join("man");
        run(&scene, &format!("man --out {}", folder.display())).succeeded();
        let pages = fs::read_dir(&folder).expect("it was made").count();
        assert!(pages > 12, "{pages}");
        assert!(folder.join("sipguard-check.1").exists());
    });
}
