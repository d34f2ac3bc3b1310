//! The fixtures of the other tests: sandboxes and hosts.

use std::{fs, net::UdpSocket, path::Path, process::Command, time::Duration};

use rustix::process::test_kill_process;
use sipguard_tests::{
    frame::eth,
    netns::{BPFFS, End, STATE, join, sandbox},
};

#[test]
fn a_sandbox_is_nobody_elses() {
    let mark = Path::new(STATE).join("mark");
    let pins = Path::new(BPFFS).join("mark");
    sandbox(|_| {
        fs::write(&mark, "here").expect("the state folder is writable");
        fs::create_dir(&pins).expect("bpffs is there");
        sandbox(|_| {
            assert!(!mark.exists(), "{} is seen elsewhere", mark.display());
            assert!(!pins.exists(), "{} is seen elsewhere", pins.display());
        });
        assert!(mark.exists() && pins.exists());
    });
    assert!(!mark.exists() && !pins.exists());
}

#[test]
fn commands_live_in_the_sandbox() {
    sandbox(|sandbox| {
        fs::create_dir(Path::new(BPFFS).join("pinned")).expect("bpffs is there");
        let listed = sandbox
            .host()
            .run(Command::new("ls").arg(BPFFS))
            .succeeded();
        assert!(listed.stdout.contains("pinned"), "{}", listed.stdout);
        sandbox.unmount_bpffs();
        let listed = sandbox
            .host()
            .run(Command::new("ls").arg(BPFFS))
            .succeeded();
        assert_eq!(listed.stdout, "");
    });
}

#[test]
fn joined_hosts_reach_each_other_at_once() {
    sandbox(|sandbox| {
        let (gateway, provider) = (sandbox.host(), sandbox.host());
        let [gateway_mac, provider_mac] = join(
            End {
                host: &gateway,
                interface: "eth0",
                addresses: &["203.0.113.1/24", "2001:db8:100::1/48"],
            },
            End {
                host: &provider,
                interface: "eth0",
                addresses: &["203.0.113.5/24", "2001:db8:100::5/48"],
            },
        );
        for address in ["203.0.113.1", "2001:db8:100::1"] {
            let ping = ["-c", "1", "-W", "5", address];
            if provider
                .run(Command::new("sh").args(["-c", "command -v ping"]))
                .status
                .success()
            {
                provider.run(Command::new("ping").args(ping)).succeeded();
            }
            let bind = |host: &str| UdpSocket::bind((host, 5060)).expect("a free port");
            let server = gateway.enter(|| bind(address));
            gateway.wait_until_bound("udp", 5060);
            let patience = Some(Duration::from_secs(10));
            server.set_read_timeout(patience).expect("a timeout");
            let any = if address.contains(':') {
                "::"
            } else {
                "0.0.0.0"
            };
            let client = provider.enter(|| bind(any));
            client.send_to(b"OPTIONS", (address, 5060)).expect("sent");
            let mut buffer = [0; 16];
            let (length, _) = server.recv_from(&mut buffer).expect("received");
            assert_eq!(&buffer[..length], b"OPTIONS");
        }
        // Frames made by hand arrive, too: their lengths and checksums are right.
        let server = gateway.enter(|| UdpSocket::bind("[::]:5061").expect("a free port"));
        let patience = Some(Duration::from_secs(10));
        server.set_read_timeout(patience).expect("a timeout");
        let wire = provider.wire("eth0");
        let begin = || eth().macs(gateway_mac, provider_mac);
        let v4 = || begin().ip("203.0.113.5").to("203.0.113.1");
        let v6 = || begin().ip("2001:db8:100::5").to("2001:db8:100::1");
        for (number, frame) in [
            v4(),
            v4().options(40),
            v6(),
            v6().hop_by_hop(8)
                .destination(24)
                .routing(24)
                .fragment(0, false),
            v6().hop_by_hop(264),
        ]
        .into_iter()
        .enumerate()
        {
            let text = format!("frame {number}");
            wire.send(&frame.udp(5061).payload(text.as_bytes()).bytes());
            let mut buffer = [0; 16];
            let (length, _) = server
                .recv_from(&mut buffer)
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(&buffer[..length], text.as_bytes());
        }
    });
}

#[test]
fn commands_end_with_their_guard() {
    sandbox(|sandbox| {
        let host = sandbox.host();
        let process = host.spawn(Command::new("sh").args(["-c", "echo ready; exec sleep 1000"]));
        process.wait_for_output("ready");
        let pid = process.pid();
        drop(process);
        assert!(test_kill_process(pid).is_err(), "it still lives");
        let stopped = host.spawn(Command::new("sleep").arg("1000")).stop();
        assert_eq!(stopped.status.code(), None);
    });
}
