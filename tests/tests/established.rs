//! A ban ends a flow that connection tracking knows.

use std::process::Command;

use sipguard_tests::{
    netns::{Host, sandbox},
    scene::{MARK, PROVIDER, Scene, bind},
};

/// As most firewalls begin: what belongs to a known flow is accepted before anybody looks at addresses.
fn firewall() -> String {
    format!(
        "table inet firewall {{
            set listed {{ type ipv4_addr; elements = {{ {PROVIDER} }}; }}
            chain input {{
                type filter hook input priority filter; policy drop;
                udp dport {MARK} accept
                ct state established accept
                udp dport 5060 ip saddr @listed accept
            }}
        }}"
    )
}

fn nft(host: &Host, words: &str) {
    host.run(Command::new("nft").arg(words)).succeeded();
}

#[test]
fn a_ban_ends_an_established_flow() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        nft(&scene.gateway, &firewall());
        // The gateway answers, which makes the flow an established one; where to, does not matter.
        let route = format!("route add {PROVIDER}/32 dev eth0");
        scene.gateway.ip(&route);
        scene.configure(&format!(
            "interfaces = [\"eth0\"]\n[sources]\nproviders = [\"{PROVIDER}\"]\n\
             [services.sip]\nudp = [5060]\nallow = [\"providers\"]\n"
        ));
        scene.sipguard(["apply"]).succeeded();
        let socket = scene.gateway.enter(|| bind(5060));
        socket.set_nonblocking(true).expect("an option of sockets");
        let mut buffer = [0; 64];
        let mut arrives = || {
            let frame = scene.frame("eth0", PROVIDER).udp(5060).payload(b"INVITE");
            scene.wire("eth0").send(&frame.bytes());
            scene.settle("eth0");
            socket.recv_from(&mut buffer).ok().map(|(_, from)| from)
        };

        let caller = arrives().expect("the provider is listed");
        socket.send_to(b"100 Trying", caller).expect("a route");
        nft(
            &scene.gateway,
            &format!("delete element inet firewall listed {{ {PROVIDER} }}"),
        );
        assert!(
            arrives().is_some(),
            "the firewall knows the flow, and a ban there changes nothing"
        );
        scene.sipguard(["deny", PROVIDER]).succeeded();
        assert!(arrives().is_none(), "the next packet after the ban");
    });
}
