//! Gateways that translate addresses: what a client behind one may do to itself with a guarded port, and what `doctor` says against it.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{fs, net::UdpSocket, process::Command, time::Duration};

use sipguard_tests::netns::{End, Host, SCRATCH, join, sandbox, sipguard};

const POLICY: &str = "interfaces = [\"eth0\"]\n[sources]\nus = [\"203.0.113.9\"]\n\
                      [services.sip]\nudp = [5060, 5061]\ntcp = [5060, 5061]\nallow = [\"us\"]\n\
                      [services.web]\nudp = [80]\ntcp = [80]\nallow = [\"us\"]\n";
/// Reserved, as `doctor` wants it, which NAT does not heed.
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports=80,5060,5061";

/// How long an answer may take that comes; one that does not come is dropped before what is asked for after it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client, its gateway, and the world that nobody listed.
struct Router {
    client: Host,
    gateway: Host,
    world: Host,
    /// On port 9000 of 203.0.113.5, and of the same in IPv6.
    server: UdpSocket,
}

impl Router {
    /// Runs a shell's command as an administrator does who has sipguard on the path.
    fn shell(&self, command: &str) {
        let folder = sipguard();
        let folder = folder.parent().unwrap().display();
        let path = std::env::var("PATH").unwrap();
        let mut shell = Command::new("sh");
        shell.env("PATH", format!("{folder}:{path}"));
        self.gateway.run(shell.args(["-ec", command])).succeeded();
    }

    fn doctor(&self) -> Vec<(String, String)> {
        let file = format!("{SCRATCH}/sipguard.toml");
        let said = self
            .gateway
            .sipguard(["--config", &file, "doctor", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let found = json["findings"].as_array().unwrap().iter();
        found
            .filter(|finding| finding["check"] == "nat")
            .map(|finding| (text(&finding["about"]), text(&finding["mend"])))
            .collect()
    }

    /// From which port a datagram comes to the world that was sent from this one, and whether its answer arrives.
    fn asks(&self, from: &Host, local: &str) -> (u16, bool) {
        let socket = from.enter(|| {
            let socket = UdpSocket::bind(local).unwrap();
            socket.connect(self.server.local_addr().unwrap()).unwrap();
            socket
        });
        socket.send(b"?").unwrap();
        let (_, seen) = self.server.recv_from(&mut [0; 8]).unwrap();
        self.server.send_to(b"!", seen).unwrap();
        // Where the first answer is dropped, so that nothing could ever come: one to a port that nobody guards.
        let other = from.enter(|| {
            UdpSocket::bind(local.rsplit_once(':').unwrap().0.to_owned() + ":0").unwrap()
        });
        other.connect(self.server.local_addr().unwrap()).unwrap();
        other.set_read_timeout(Some(PATIENCE)).unwrap();
        other.send(b"?").unwrap();
        let (_, there) = self.server.recv_from(&mut [0; 8]).unwrap();
        self.server.send_to(b"!", there).unwrap();
        assert_eq!(other.recv(&mut [0; 8]).unwrap(), 1);
        // Both went the same way, one after the other.
        socket.set_nonblocking(true).unwrap();
        (seen.port(), socket.recv(&mut [0; 8]).is_ok())
    }
}

/// `rule` is a shell's command that makes the gateway translate.
fn on_a_router(family: &str, rule: &str, test: impl FnOnce(&Router, [&str; 2]) + Send) {
    // The client's address, the gateway's two, the world's.
    let [client, inside, outside, world, length] = match family {
        "ip" => [
            "192.168.9.2",
            "192.168.9.1",
            "203.0.113.1",
            "203.0.113.5",
            "24",
        ],
        _ => ["fd00:9::2", "fd00:9::1", "2001:db8::1", "2001:db8::5", "64"],
    };
    let bracketed = |address: &str| match family {
        "ip" => address.to_owned(),
        _ => format!("[{address}]"),
    };
    sandbox(|sandbox| {
        let (lan, gateway, other) = (sandbox.host(), sandbox.host(), sandbox.host());
        let line = |one: (&Host, &str), other: (&Host, &str), interface: &str| {
            let [first, second] = [one.1, other.1].map(|address| format!("{address}/{length}"));
            let end = |host, address| End {
                host,
                interface,
                addresses: address,
            };
            join(end(one.0, &[&first]), end(other.0, &[&second]));
        };
        line((&lan, client), (&gateway, inside), "lan0");
        line((&gateway, outside), (&other, world), "eth0");
        lan.ip(&format!("route add default via {inside}"));
        let server = other.enter(|| UdpSocket::bind(format!("{}:9000", bracketed(world))).unwrap());
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let router = Router {
            client: lan,
            gateway,
            world: other,
            server,
        };
        let all = [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            RESERVED,
        ];
        router.shell(&format!("sysctl -qw {}", all.join(" ")));
        router.shell(rule);
        fs::write(format!("{SCRATCH}/sipguard.toml"), POLICY).unwrap();
        router.shell(&format!("sipguard --config {SCRATCH}/sipguard.toml apply"));
        test(&router, [&bracketed(client), &bracketed(outside)]);
    });
}

/// The client loses answers, `doctor` sees why, and what it says to run mends that; the gateway's own connections keep their ports.
fn doctor_mends(family: &str, rule: &str) {
    on_a_router(family, rule, |router, [client, outside]| {
        let asks = |port: u16| router.asks(&router.client, &format!("{client}:{port}"));
        assert_eq!(asks(5060), (5060, false), "{rule}");
        assert!(asks(40_000).1, "{rule}");
        let found = router.doctor();
        let [(about, mend)] = &found[..] else {
            panic!("{rule}: {found:?}");
        };
        assert!(about.contains("80, 5060 and 5061"), "{about}");
        assert!(about.contains("on eth0"), "{about}");
        router.shell(mend);
        assert_eq!(router.doctor(), [], "{rule}: {mend}");
        for guarded in [5061, 80] {
            let (port, answered) = asks(guarded);
            assert!((5062..65535).contains(&port), "{rule}: {port}");
            assert!(answered, "{rule}");
            let own = router.asks(&router.gateway, &format!("{outside}:{guarded}"));
            assert_eq!(own, (guarded, false), "{rule}");
        }
    });
}

fn nft(family: &str, rule: &str) -> String {
    format!(
        "nft 'table {family} nat {{ chain postrouting {{ type nat hook postrouting priority srcnat; {rule}; }}; }}'"
    )
}

#[test]
fn nft_masquerades() {
    doctor_mends(
        "ip",
        &nft("ip", "oifname \"eth0\" masquerade comment \"the world\""),
    );
    doctor_mends(
        "ip6",
        &nft(
            "inet",
            "oifname { \"eth0\", \"ppp0\" } counter masquerade persistent",
        ),
    );
}

#[test]
fn nft_translates_to_an_address() {
    doctor_mends(
        "ip",
        &nft("ip", "ip saddr 192.168.9.0/24 snat to 203.0.113.1"),
    );
    doctor_mends("ip6", &nft("ip6", "snat to 2001:db8::1"));
}

#[test]
fn iptables_masquerades_on_both_back_ends() {
    for backend in ["nft", "legacy"] {
        let rule = format!(
            "iptables-{backend} -t nat -A POSTROUTING -s 192.168.9.0/24 -o eth0 -j MASQUERADE"
        );
        doctor_mends("ip", &rule);
        let rule = format!(
            "ip6tables-{backend} -t nat -A POSTROUTING ! -o docker0 -m comment --comment 'it is ours' -j MASQUERADE"
        );
        doctor_mends("ip6", &rule);
    }
}

#[test]
fn iptables_translates_to_an_address_on_both_back_ends() {
    for backend in ["nft", "legacy"] {
        let rule = format!(
            "iptables-{backend} -t nat -A POSTROUTING -o eth+ -j SNAT --to-source 203.0.113.1"
        );
        doctor_mends("ip", &rule);
        let rule = format!(
            "ip6tables-{backend} -t nat -A POSTROUTING -p udp -j SNAT --to-source 2001:db8::1"
        );
        doctor_mends("ip6", &rule);
    }
}

/// Random ports are other ports than the client's, but any: below 512 only those below 512. And the gateway's own are not kept.
#[test]
fn random_ports_are_no_way_out() {
    on_a_router(
        "ip",
        &nft("ip", "masquerade fully-random"),
        |router, [client, outside]| {
            let (port, _) = router.asks(&router.client, &format!("{client}:80"));
            assert!(port < 512, "{port}");
            let kept = [5060, 5061, 40_000].map(|port| {
                let own = format!("{outside}:{port}");
                router.asks(&router.gateway, &own).0 == port
            });
            assert_ne!(kept, [true; 3]);
            assert_eq!(router.doctor().len(), 1);
        },
    );
}

#[test]
fn nothing_to_say() {
    let elsewhere = nft("ip", "oifname \"lan0\" masquerade");
    on_a_router("ip", &elsewhere, |router, _| {
        assert_eq!(router.doctor(), []);
    });
    let kept = nft("ip", "meta l4proto { tcp, udp } masquerade to :10000-20000");
    on_a_router("ip", &kept, |router, _| assert_eq!(router.doctor(), []));
    on_a_router("ip", &nft("ip", "masquerade"), |router, _| {
        router.shell("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
        assert_eq!(router.doctor(), []);
    });
}

/// What comes in for a host behind the gateway is judged by the port that it has on the wire, whatever becomes of that afterwards.
#[test]
fn what_is_routed_is_judged() {
    let to_inside = "nft 'table ip nat { chain prerouting { type nat hook prerouting priority dstnat; \
                     iifname \"eth0\" udp dport 8080 dnat to 192.168.9.2:80; }; }'";
    on_a_router("ip", to_inside, |router, _| {
        let inside = |port: u16| {
            let socket = router
                .client
                .enter(|| UdpSocket::bind(("192.168.9.2", port)).unwrap());
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (sip, web, other) = (inside(5060), inside(80), inside(6000));
        router.world.ip("route add 192.168.9.0/24 via 203.0.113.1");
        let sends = |to: &str| router.server.send_to(to.as_bytes(), to).unwrap();
        let gets = |socket: &UdpSocket| {
            let mut text = [0; 32];
            let length = socket.recv(&mut text).unwrap();
            String::from_utf8_lossy(&text[..length]).into_owned()
        };
        sends("192.168.9.2:5060");
        sends("192.168.9.2:80");
        sends("203.0.113.1:8080");
        sends("192.168.9.2:6000");
        // The last one got through, and so did of those before it what was not dropped.
        assert_eq!(gets(&other), "192.168.9.2:6000");
        assert_eq!(gets(&web), "203.0.113.1:8080");
        sip.set_nonblocking(true).unwrap();
        assert!(sip.recv(&mut [0; 32]).is_err());
        router.shell(&format!(
            "sipguard --config {SCRATCH}/sipguard.toml allow 203.0.113.5 --service sip"
        ));
        sip.set_nonblocking(false).unwrap();
        sends("192.168.9.2:5060");
        assert_eq!(gets(&sip), "192.168.9.2:5060");
    });
}
