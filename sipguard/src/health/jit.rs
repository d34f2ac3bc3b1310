//! Whether the kernel program runs as machine code.

use std::fs;

use super::{Evidence, Finding, Kind};

pub(super) const FINDS: &[Kind] = &[Kind::JitOff];

pub(super) fn check(_: &Evidence) -> Vec<Finding> {
    // The setting is the host's; other network namespaces don't see it.
    match setting("net.core.bpf_jit_enable").as_deref() {
        Some("0") => vec![Kind::JitOff.wrong(
            "the kernel interprets BPF programs instead of compiling them, which makes every packet several times as dear",
            "sysctl -w net.core.bpf_jit_enable=1",
        )],
        _ => Vec::new(),
    }
}

/// A setting below `/proc/sys`; nothing where this kernel or this network namespace has none.
fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(text.trim().to_owned())
}
