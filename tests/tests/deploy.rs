//! `cargo xtask deploy` puts sipguard on gateways, or leaves them what they had.

use sipguard_tests::{gateway::on_gateways, package::CONFIG};

/// Guards what nobody here uses.
const POLICY: &str = "interfaces = [\"eth0\"]\n[sources]\nus = [\"203.0.113.0/24\"]\n\
                      [services.sip]\nudp = [5060]\nallow = [\"us\"]\n";

#[test]
fn a_fresh_host_gets_package_and_policy() {
    on_gateways(1, |deployer, gateways| {
        let gateway = &gateways[0];
        deployer.write("gateway.toml", POLICY);
        let words = format!(
            "deploy --host root@{} --config gateway.toml",
            gateway.address
        );
        let deployed = deployer.run(&words).succeeded();
        println!("{}{}", deployed.stdout, deployed.stderr);
        assert_eq!(gateway.read(CONFIG).as_deref(), Some(POLICY));
        assert!(gateway.system.program().is_some());
        println!("{}", gateway.state());

        let before = gateway.state();
        let again = deployer.run(&words).succeeded();
        assert!(again.stdout.contains("nothing to do"), "{again:?}");
        assert_eq!(gateway.state(), before);
    });
}
