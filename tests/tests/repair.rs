//! `sipguard repair` has what is in force filter again, and nothing else.

use sipguard_tests::{
    netns::sandbox,
    scene::{PROVIDER, SCANNER, Scene},
};

const POLICY: &str = "interfaces = [\"eth0\"]\n[sources]\nus = [\"203.0.113.0/24\"]\n\
                      [services.sip]\nudp = [5060]\nallow = [\"us\"]\n";

fn applied(scene: &Scene) {
    scene.configure(POLICY);
    scene.sipguard(["apply"]).succeeded();
}

#[test]
fn an_interface_that_came_back_is_filtered_again() {
    sandbox(|sandbox| {
        let mut scene = Scene::new(sandbox, &["eth0"]);
        applied(&scene);
        scene.gateway.ip("link delete eth0");
        scene.connect("eth0");
        assert!(scene.passes("eth0", SCANNER, 5060), "nothing filters there");

        // Whatever the config file says by now.
        scene.configure("interfaces = [");
        let repaired = scene.sipguard(["repair"]).succeeded();
        assert!(
            repaired
                .stderr
                .contains("warning: eth0 was not filtered as it should be, and is now: native"),
            "{}",
            repaired.stderr
        );
        assert!(!scene.passes("eth0", SCANNER, 5060));
        assert!(scene.passes("eth0", PROVIDER, 5060));

        let again = scene.sipguard(["repair"]).succeeded();
        assert_eq!(
            (&*again.stdout, &*again.stderr),
            ("nothing to repair\n", "")
        );
        let json = scene.sipguard(["repair", "--json"]).succeeded().stdout;
        assert_eq!(json, "{\"entries\":0,\"repaired\":[]}\n");
    });
}

#[test]
fn what_was_let_go_stays_so() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        applied(&scene);
        scene.sipguard(["down"]).succeeded();
        let repaired = scene.sipguard(["repair"]).succeeded();
        assert_eq!(repaired.stdout, "nothing to repair\n");
        assert!(scene.passes("eth0", SCANNER, 5060));
    });
}
