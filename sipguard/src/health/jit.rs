//! Whether the kernel program runs as machine code.

use super::{Evidence, Finding, Kind};
use crate::kernel;

pub(super) const FINDS: &[Kind] = &[Kind::JitOff];

pub(super) fn check(_: &Evidence) -> Vec<Finding> {
    // The setting is the host's; other network namespaces don't see it.
    match kernel::setting("net/core/bpf_jit_enable").as_deref() {
        Some("0") => vec![Kind::JitOff.wrong(
            "the kernel interprets BPF programs instead of compiling them, which makes every packet several times as dear",
            "sysctl -w net.core.bpf_jit_enable=1",
        )],
        _ => Vec::new(),
    }
}
