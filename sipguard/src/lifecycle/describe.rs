//! What a generation says of itself, and how it is told from others.

use std::{hash::Hasher as _, path::Path};

use ipnet::IpNet;
use jiff::Timestamp;
use sipguard_ebpf::abi::VERSION;
use siphasher::sip::SipHasher13;

use crate::{
    datapath::{self, Description, ServiceDescription},
    policy::{Action, Entry, Policy},
    state::Slots,
    tables::Tables,
};

/// Of a policy and its tables, made at this moment from this file.
pub(crate) fn describe(
    policy: &Policy,
    slots: &Slots,
    tables: &Tables,
    file: &Path,
    digest: String,
    applied: Timestamp,
) -> Description {
    let services = policy.services.iter().filter_map(|service| {
        Some(ServiceDescription {
            slot: slots.get(&service.name)?,
            service: service.clone(),
        })
    });
    Description {
        abi: VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        applied,
        config: std::path::absolute(file).unwrap_or_else(|_| file.to_owned()),
        digest,
        mode: policy.mode,
        services: services.collect(),
        interfaces: policy.interfaces.clone(),
        origins: policy.origins.clone(),
        doubts: Vec::new(),
        live: policy.live.clone(),
        dns: policy.dns.clone(),
        notify: policy.notify.clone(),
        hide: policy.hide,
        entries: policy.entries.len(),
        prefilter_shift: tables.constants.prefilter_shift,
    }
}

/// A fingerprint of the program and of everything the config says: of bytes that are written out here, so that another compiler finds the
/// same.
pub(crate) fn digest(policy: &Policy, slots: &Slots) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(datapath::OBJECT_DIGEST.as_bytes());
    hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
    // Structures with derived serialisers and string keys have nothing in them that can't be written.
    let text = serde_json::to_vec(&(
        policy.mode,
        &policy.services,
        &policy.interfaces,
        &policy.origins,
        &policy.live,
        &policy.dns,
        &policy.notify,
        policy.hide,
        slots,
    ))
    .unwrap_or_default();
    hasher.write(&text);
    for entry in &policy.entries {
        hasher.write(&bytes(entry));
    }
    format!("{:016x}", hasher.finish())
}

/// An entry in as many bytes as each of them takes.
fn bytes(entry: &Entry) -> [u8; 22] {
    let mut bytes = [0; 22];
    let (address, rest) = bytes.split_at_mut(16);
    let family = match entry.prefix {
        IpNet::V4(net) => {
            address[..4].copy_from_slice(&net.addr().octets());
            4
        }
        IpNet::V6(net) => {
            address.copy_from_slice(&net.addr().octets());
            6
        }
    };
    let [high, low] = entry.origin.to_be_bytes();
    let action = match entry.action {
        Action::Allow => 1,
        Action::Deny => 2,
    };
    let length = entry.prefix.prefix_len();
    rest.copy_from_slice(&[family, length, entry.service, action, high, low]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Origin;

    #[test]
    fn entries_are_told_apart() {
        let entry = |prefix: &str, service, action, origin| {
            let prefix = prefix.parse().unwrap();
            bytes(&Entry {
                prefix,
                service,
                action,
                origin,
            })
        };
        let all = [
            entry("10.0.0.0/8", 0, Action::Allow, 0),
            entry("10.0.0.0/9", 0, Action::Allow, 0),
            entry("a00::/8", 0, Action::Allow, 0),
            entry("10.0.0.0/8", 1, Action::Allow, 0),
            entry("10.0.0.0/8", 0, Action::Deny, 0),
            entry("10.0.0.0/8", 0, Action::Allow, 1),
            entry("10.0.0.0/8", 0, Action::Allow, 256),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one), "{index}");
        }
    }

    /// What another compiler has to find, too.
    #[test]
    fn the_same_bytes_have_the_same_digest() {
        let mut hasher = SipHasher13::new();
        hasher.write(b"sipguard");
        assert_eq!(format!("{:016x}", hasher.finish()), "88033cdcc2a0848f");
        let mut slots = Slots::default();
        slots.assign(["sip", "web"]).unwrap();
        let policy = Policy::default();
        let named = Policy {
            origins: vec![Origin {
                source: "one".to_owned(),
                file: None,
                prefixes: None,
            }],
            ..Policy::default()
        };
        assert_eq!(digest(&policy, &slots), digest(&policy.clone(), &slots));
        assert_ne!(digest(&policy, &slots), digest(&named, &slots));
    }
}
