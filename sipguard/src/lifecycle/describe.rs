//! What a generation says of itself, and how it is told from others.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
};

use jiff::Timestamp;
use sipguard_ebpf::abi::VERSION;

use crate::{
    datapath::{self, Description, ServiceDescription},
    policy::Policy,
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
        entries: policy.entries.len(),
        prefilter_shift: tables.constants.prefilter_shift,
    }
}

/// A fingerprint of the program and of everything the config says.
pub(super) fn digest(policy: &Policy, slots: &Slots) -> String {
    let mut hasher = DefaultHasher::new();
    datapath::object_bytes().hash(&mut hasher);
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    // Structures with derived serialisers and string keys have nothing in them that can't be written.
    let text = serde_json::to_string(&(
        policy.mode,
        &policy.services,
        &policy.interfaces,
        &policy.origins,
        slots,
    ))
    .unwrap_or_default();
    text.hash(&mut hasher);
    for entry in &policy.entries {
        (entry.prefix, entry.service, entry.action, entry.origin).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}
