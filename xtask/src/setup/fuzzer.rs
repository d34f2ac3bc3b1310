//! cargo-fuzz.

use std::path::PathBuf;

use anyhow::Result;

use super::tool::Tool;

const FUZZER: Tool = Tool {
    name: "cargo-fuzz",
    version: "0.13.2",
    answer: "cargo-fuzz 0.13.2",
    why: "drives the fuzzer",
};

pub(crate) fn ensure() -> Result<PathBuf> {
    FUZZER.ensure()?;
    Ok(FUZZER.path())
}
