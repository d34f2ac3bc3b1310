use std::convert::Infallible;

use sipguard_ebpf::abi::{ALLOW_CONFIG, DENY_CONFIG};

use super::*;

fn login(connection: Option<&str>, client: Option<&str>) -> Option<Login> {
    Login::find(|name| {
        match name {
            "SSH_CONNECTION" => connection,
            _ => client,
        }
        .map(Into::into)
    })
}

#[test]
fn who_is_logged_in() {
    let known = |address: &str, port| {
        Some(Login {
            address: address.parse().unwrap(),
            port,
        })
    };
    for (connection, client, wanted) in [
        (None, None, None),
        (
            Some("198.51.100.10 51234 192.0.2.1 22"),
            None,
            known("198.51.100.10", 22),
        ),
        (
            Some("2001:db8::7 51234 2001:db8::1 2222"),
            None,
            known("2001:db8::7", 2222),
        ),
        (
            Some("::ffff:198.51.100.10 51234 ::ffff:192.0.2.1 22"),
            None,
            known("198.51.100.10", 22),
        ),
        (
            None,
            Some("198.51.100.10 51234 22"),
            known("198.51.100.10", 22),
        ),
        (
            Some("nonsense"),
            Some("198.51.100.10 51234 22"),
            known("198.51.100.10", 22),
        ),
        (Some(""), Some("198.51.100.10"), None),
        (Some("UNKNOWN 65535 UNKNOWN 65535"), None, None),
    ] {
        assert_eq!(login(connection, client), wanted, "{connection:?}");
    }
}

/// `sip` has number 0, `web` number 1.
fn side<'s>(policy: &'s Policy, entries: &'s [(u8, &str, u8)]) -> Side<'s, Infallible> {
    Side {
        services: policy.services.iter().zip(0..).collect(),
        value: Box::new(move |service, layer, prefix| {
            if layer != Layer::Hand {
                return Ok(None);
            }
            let said = entries
                .iter()
                .find(|(number, known, _)| *number == service && known.parse() == Ok(prefix));
            Ok(said.map(|&(_, _, permanent)| Value {
                permanent,
                ..Value::default()
            }))
        }),
        boot_ns: 0,
    }
}

fn names(lost: Result<Vec<(String, Ports)>, Infallible>) -> Vec<String> {
    let Ok(lost) = lost;
    lost.into_iter().map(|(service, _)| service).collect()
}

#[test]
fn who_is_cut_off() {
    let policy = Policy::default();
    let address: IpAddr = "198.51.100.10".parse().unwrap();
    let nobody = side(&policy, &[]);
    let listed = side(
        &policy,
        &[
            (0, "198.51.100.0/24", ALLOW_CONFIG),
            (1, "198.51.100.0/24", ALLOW_CONFIG),
        ],
    );
    let denied = side(
        &policy,
        &[
            (0, "198.51.100.0/24", ALLOW_CONFIG),
            (0, "198.51.100.10/32", DENY_CONFIG),
            (1, "0.0.0.0/0", ALLOW_CONFIG),
        ],
    );
    assert_eq!(names(cut_off(address, None, &nobody)), ["sip", "web"]);
    assert_eq!(names(cut_off(address, None, &listed)), [""; 0]);
    assert_eq!(
        names(cut_off(address, Some(&listed), &nobody)),
        ["sip", "web"]
    );
    assert_eq!(names(cut_off(address, Some(&listed), &denied)), ["sip"]);
    assert_eq!(names(cut_off(address, Some(&nobody), &denied)), [""; 0]);

    let mut watching = policy.clone();
    for service in &mut watching.services {
        service.mode = Mode::Monitor;
    }
    let watching = side(&watching, &[]);
    assert_eq!(names(cut_off(address, None, &watching)), [""; 0]);
    assert_eq!(
        names(cut_off(address, Some(&watching), &nobody)),
        ["sip", "web"]
    );
}

#[test]
fn only_newly_guarded_ports_are_lost() {
    let mut before = Policy::default();
    before.services[0]
        .ports
        .retain(|protocol, _| *protocol == Protocol::Udp);
    before.services.truncate(1);
    let after = Policy::default();
    let Ok(lost) = cut_off(
        "2001:db8::7".parse().unwrap(),
        Some(&side(&before, &[])),
        &side(&after, &[]),
    );
    assert_eq!(lost[0].1.keys().collect::<Vec<_>>(), [&Protocol::Tcp]);
    assert_eq!(lost[1].0, "web");
}

#[test]
fn ports_of_outgoing_connections() {
    let policy = Policy::default();
    let found = |range, reserved| unreserved(&policy, range, reserved);
    assert_eq!(
        found("32768\t60999\n", ""),
        Some(Ephemeral {
            ports: [50600].into(),
            reserve: "50600".to_owned(),
        })
    );
    assert_eq!(
        found("1024 65535", "8080,5060-5061"),
        Some(Ephemeral {
            ports: [50600].into(),
            reserve: "8080,5060-5061,50600".to_owned(),
        })
    );
    assert_eq!(found("32768\t60999", "50000-51000"), None);
    assert_eq!(found("51000\t60999", ""), None);
    assert_eq!(found("", ""), None);
    let mut watching = policy.clone();
    watching.services[0].mode = Mode::Monitor;
    assert_eq!(unreserved(&watching, "32768 60999", ""), None);
}
