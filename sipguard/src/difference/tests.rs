use std::convert::Infallible;

use jiff::Timestamp;
use sipguard_ebpf::abi::{Layer, VERSION};

use super::*;
use crate::{
    datapath::ServiceDescription,
    policy::{Entry, Hide},
    tables::{Now, PrefixKey},
};

const NOW: Now = Now {
    boot_ns: 1_000,
    wall: Timestamp::UNIX_EPOCH,
};

struct Compiled {
    policy: Policy,
    slots: Slots,
    tables: Tables,
    description: Description,
}

fn compiled(policy: Policy, first: &[&str]) -> Compiled {
    let mut slots = Slots::default();
    slots.assign(first.iter().copied()).unwrap();
    slots
        .assign(policy.services.iter().map(|service| &*service.name))
        .unwrap();
    let tables = Tables::compile(&policy, &slots, &[], Vec::new(), NOW).unwrap();
    let services = policy.services.iter().map(|service| ServiceDescription {
        slot: slots.get(&service.name).unwrap(),
        service: service.clone(),
    });
    let description = Description {
        doubts: Vec::new(),
        abi: VERSION,
        version: String::new(),
        applied: NOW.wall,
        config: "sipguard.toml".into(),
        digest: String::new(),
        mode: policy.mode,
        services: services.collect(),
        interfaces: policy.interfaces.clone(),
        origins: Vec::new(),
        live: Vec::new(),
        dns: policy.dns.clone(),
        notify: policy.notify.clone(),
        hide: policy.hide,
        entries: policy.entries.len(),
        prefilter_shift: tables.constants.prefilter_shift,
    };
    Compiled {
        policy,
        slots,
        tables,
        description,
    }
}

fn policy(entries: &[(&str, u8, Action)]) -> Policy {
    Policy {
        interfaces: vec![interface("eth0", AttachMode::Auto)],
        entries: entries
            .iter()
            .map(|&(prefix, service, action)| Entry {
                prefix: prefix.parse().unwrap(),
                service,
                action,
                origin: 0,
            })
            .collect(),
        ..Policy::default()
    }
}

fn interface(name: &str, mode: AttachMode) -> Interface {
    Interface {
        name: name.to_owned(),
        mode,
    }
}

fn difference(before: Option<&Compiled>, after: &Compiled) -> Difference {
    let Ok(difference) = Difference::between::<Infallible>(
        before.map(|before| Before {
            description: &before.description,
            interfaces: &before.policy.interfaces,
        }),
        After {
            policy: &after.policy,
            slots: &after.slots,
            tables: &after.tables,
            interfaces: &after.policy.interfaces,
        },
        NOW.boot_ns,
        |each| {
            let Compiled {
                policy,
                slots,
                tables,
                ..
            } = before.unwrap();
            for entry in &policy.entries {
                let service = &policy.services[usize::from(entry.service)].name;
                let service = slots.get(service).unwrap();
                let value = match PrefixKey::new(entry.prefix, service, Layer::Hand) {
                    PrefixKey::V4(key) => tables.entries4.get(&key),
                    PrefixKey::V6(key) => tables.entries6.get(&key),
                };
                each(datapath::Entry {
                    service,
                    layer: Layer::Hand,
                    prefix: entry.prefix,
                    value: value.unwrap(),
                });
            }
            Ok(())
        },
    );
    difference
}

#[test]
fn the_same_is_no_difference_whatever_its_numbers() {
    let entries = [
        ("203.0.113.0/24", 0, Action::Allow),
        ("2001:db8::/32", 1, Action::Deny),
    ];
    let before = compiled(policy(&entries), &[]);
    assert!(difference(Some(&before), &compiled(policy(&entries), &[])).is_empty());
    assert!(
        difference(
            Some(&before),
            &compiled(policy(&entries), &["old", "older"])
        )
        .is_empty()
    );
}

#[test]
fn everything_is_new_where_nothing_is_in_force() {
    let after = compiled(policy(&[("203.0.113.0/24", 0, Action::Allow)]), &[]);
    let found = difference(None, &after);
    assert_eq!(found.mode.unwrap().to, Some(Mode::Enforce));
    assert_eq!(found.interfaces[0].from, None);
    assert_eq!(found.services.len(), 2);
    assert_eq!(found.entries.added.count, 1);
    assert_eq!(found.entries.removed.count, 0);
}

#[test]
fn entries_that_come_and_go() {
    let before = compiled(
        policy(&[
            ("203.0.113.0/24", 0, Action::Allow),
            ("203.0.113.7/32", 0, Action::Allow),
            ("2001:db8::/32", 0, Action::Allow),
        ]),
        &[],
    );
    let after = compiled(
        policy(&[
            ("203.0.113.0/24", 0, Action::Allow),
            ("203.0.113.7/32", 0, Action::Deny),
            ("2001:db8::/32", 1, Action::Allow),
        ]),
        &[],
    );
    let said = |prefix: &str, service: &str, action| EntryLine {
        prefix: prefix.parse().unwrap(),
        service: service.to_owned(),
        action,
        timed: false,
    };
    let found = difference(Some(&before), &after).entries;
    assert_eq!(
        found.added.first,
        [
            said("203.0.113.7/32", "sip", Action::Deny),
            said("2001:db8::/32", "web", Action::Allow),
        ]
    );
    assert_eq!(
        found.removed.first,
        [
            said("203.0.113.7/32", "sip", Action::Allow),
            said("2001:db8::/32", "sip", Action::Allow),
        ]
    );
}

#[test]
fn the_first_by_address_are_named() {
    let before = compiled(policy(&[]), &[]);
    let entries: Vec<_> = (0..100)
        .rev()
        .map(|n| format!("198.51.100.{n}/32"))
        .collect();
    let entries: Vec<_> = entries
        .iter()
        .map(|prefix| (&**prefix, 0, Action::Allow))
        .collect();
    let after = compiled(policy(&entries), &[]);
    for said in [
        difference(Some(&before), &after).entries.added,
        difference(Some(&after), &before).entries.removed,
    ] {
        assert_eq!(said.count, 100);
        let first: Vec<_> = said
            .first
            .iter()
            .map(|said| prefix::format(said.prefix))
            .collect();
        assert_eq!(
            first,
            [
                "198.51.100.0",
                "198.51.100.1",
                "198.51.100.2",
                "198.51.100.3",
                "198.51.100.4"
            ]
        );
    }
}

#[test]
fn what_guards_nothing_changes_by_itself() {
    let before = compiled(policy(&[]), &[]);
    let mut changed = policy(&[]);
    changed.hide = Hide::EVERYTHING;
    changed.dns.servers = vec!["192.0.2.53".parse().unwrap()];
    let changed = compiled(changed, &[]);
    assert_eq!(
        difference(Some(&before), &changed).tables,
        ["dns", "events"]
    );
    assert_eq!(
        difference(Some(&changed), &before).tables,
        ["dns", "events"]
    );
    assert_eq!(difference(None, &changed).tables, ["dns", "events"]);
}

#[test]
fn services_and_interfaces() {
    let before = compiled(policy(&[("203.0.113.0/24", 1, Action::Allow)]), &[]);
    let mut changed = policy(&[]);
    changed.mode = Mode::Monitor;
    changed.interfaces = vec![
        interface("eth0", AttachMode::Native),
        interface("eth1", AttachMode::Auto),
    ];
    changed.services.truncate(1);
    changed.services[0].default = Action::Allow;
    let found = difference(Some(&before), &compiled(changed, &[]));
    let mode = found.mode.unwrap();
    assert_eq!(
        (mode.from, mode.to),
        (Some(Mode::Enforce), Some(Mode::Monitor))
    );
    let interfaces: Vec<_> = found
        .interfaces
        .iter()
        .map(|change| (&*change.name, change.from, change.to))
        .collect();
    assert_eq!(
        interfaces,
        [
            ("eth0", Some(AttachMode::Auto), Some(AttachMode::Native)),
            ("eth1", None, Some(AttachMode::Auto)),
        ]
    );
    assert_eq!(found.services[0].name, "sip");
    assert!(found.services[0].to.is_some());
    assert_eq!(
        (&*found.services[1].name, &found.services[1].to),
        ("web", &None)
    );
    assert_eq!(found.entries.removed.count, 1, "it goes with its service");
}
