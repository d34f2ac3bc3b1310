//! Rule sets and lists that people have, on which an earlier `sipguard import` was wrong. What netfilter does with them is asked in
//! `tests/tests/import_oracle.rs`; here it stands what a person expects.

use super::*;

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/import/", $name))
    };
}

#[test]
fn a_reject_on_an_interface() {
    let (policy, notes) = imported(file!("rules/reject-on-an-interface.iptables-save"));
    hold(
        &policy,
        &[
            ("203.0.113.20", "udp", 5060, true),
            ("203.0.113.22", "udp", 5060, false),
            ("203.0.113.20", "tcp", 5060, false),
            ("8.8.8.8", "tcp", 80, true),
        ],
    );
    assert!(
        notes.iter().any(|note| note.contains("come in by eth0")),
        "{notes:?}"
    );
}

#[test]
fn ufw() {
    let (policy, notes) = imported(file!("rules/ufw.iptables-save"));
    hold(
        &policy,
        &[
            ("203.0.113.20", "udp", 5060, true),
            ("203.0.113.20", "tcp", 5061, true),
            ("203.0.113.20", "tcp", 5060, false),
            ("198.51.100.10", "tcp", 80, true),
            ("192.0.2.66", "udp", 5060, false),
            ("2001:db8:100::1", "tcp", 5060, true),
            ("2001:db8:200::1", "tcp", 5060, false),
        ],
    );
    assert_eq!(notes, [""; 0]);
}

#[test]
fn freepbx_with_trunks_by_mark() {
    let (policy, _) = imported(file!("rules/freepbx.iptables-save"));
    hold(
        &policy,
        &[
            ("203.0.113.20", "tcp", 5061, true),
            ("203.0.113.22", "tcp", 5061, false),
            ("192.0.2.66", "udp", 5060, false),
            ("198.51.100.77", "udp", 5060, false),
            ("198.51.100.3", "tcp", 50600, true),
        ],
    );
}

#[test]
fn a_ban_table_in_front_of_the_hosts_own() {
    let (policy, _) = imported(file!("rules/fail2ban-table-behind.nft"));
    hold(
        &policy,
        &[
            ("203.0.113.65", "udp", 5060, true),
            ("203.0.113.66", "udp", 5060, false),
            ("198.51.100.10", "tcp", 80, true),
            ("8.8.8.8", "udp", 5060, false),
        ],
    );
    let names: Vec<&str> = policy
        .origins
        .iter()
        .map(|origin| origin.source.as_str())
        .collect();
    assert_eq!(names, ["sip_providers", "addr-set-asterisk", "web-allow"]);
}

#[test]
fn sip_and_media_in_one_rule() {
    let (policy, _) = imported(file!("rules/sip-and-rtp-in-one-rule.nft"));
    hold(
        &policy,
        &[
            ("192.0.2.66", "udp", 5060, false),
            ("192.0.2.67", "udp", 5060, true),
            ("192.0.2.66", "udp", 10_000, true),
        ],
    );
}

#[test]
fn lists() {
    for (text, action, cases) in [
        (
            file!("lists/crowdsec.csv"),
            Action::Deny,
            &[
                ("192.0.2.66", false),
                ("198.51.100.1", false),
                ("192.0.2.67", true),
            ][..],
        ),
        (
            file!("lists/crowdsec-one-line.json"),
            Action::Deny,
            // The alert names a range, the decision one address.
            &[("192.0.2.66", false), ("192.0.2.67", true)],
        ),
        (
            file!("lists/semicolons.txt"),
            Action::Deny,
            &[
                ("192.0.2.5", false),
                ("198.51.100.5", false),
                ("203.0.113.5", true),
            ],
        ),
    ] {
        let all = made(text, &with(action)).unwrap();
        for &(source, wanted) in cases {
            hold(&policy(&all), &[(source, "udp", 5060, wanted)]);
        }
        assert!(
            all.notes.iter().all(|note| note.kind != Kind::Lost),
            "{:?}",
            all.notes
        );
    }
}

#[test]
fn several_sets_are_not_lumped_together() {
    let sets = file!("rules/several-sets.ipset-save");
    let Err(ImportError::Sets(found)) = made(sets, &with(Action::Allow)) else {
        panic!("several sets");
    };
    assert_eq!(found.len(), 4);
    let mut options = with(Action::Allow);
    options.sets = vec!["whitelist".to_owned()];
    let all = made(sets, &options).unwrap();
    hold(
        &policy(&all),
        &[
            ("203.0.113.1", "udp", 5060, true),
            ("198.51.100.10", "udp", 5060, true),
            ("192.0.2.1", "udp", 5060, false),
        ],
    );
    options.sets = vec!["white".to_owned()];
    let error = made(sets, &options).unwrap_err().to_string();
    assert!(
        error.contains("no set white") && error.contains("whitelist (2)"),
        "{error}"
    );

    let lists = file!("lists/routeros-export.rsc");
    assert!(matches!(
        made(lists, &with(Action::Allow)),
        Err(ImportError::Sets(_))
    ));
    options.sets = vec!["Provider".to_owned(), "Admin".to_owned()];
    let all = made(lists, &options).unwrap();
    hold(
        &policy(&all),
        &[
            ("203.0.113.1", "udp", 5060, true),
            ("192.0.2.31", "udp", 5060, true),
            ("192.0.2.32", "udp", 5060, false),
        ],
    );
    assert!(
        all.notes
            .iter()
            .any(|note| note.text.contains("sip.example.net"))
    );
}
