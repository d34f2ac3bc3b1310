//! bpf-linker.

use anyhow::Result;

use super::tool::Tool;

/// Reads LLVM 22: see the compiler's version.
const LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.10.3",
    answer: "bpf-linker 0.10.3",
    why: "links the kernel program",
};

pub(super) fn ensure() -> Result<()> {
    LINKER.ensure()
}
