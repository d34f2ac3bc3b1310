//! Whether the kernel program runs as machine code.

use super::{Finding, Host, setting, wrong};

pub(super) fn check(_: &Host) -> Vec<Finding> {
    // The setting is the host's; other network namespaces don't see it.
    match setting("net.core.bpf_jit_enable").as_deref() {
        Some("0") => vec![wrong(
            "the kernel interprets BPF programs instead of compiling them, which makes every packet several times as dear",
            "sysctl -w net.core.bpf_jit_enable=1",
        )],
        _ => Vec::new(),
    }
}
