//! How large the program is in the kernel, for the tests that keep it small.

use sipguard_ebpf::abi::LinkKind;

use super::{Description, Error, Generation, load};
use crate::tables::Tables;

/// The kernel's figures of a loaded program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramSize {
    /// How many instructions the verifier went through, of the million that it allows; since Linux 5.16.
    pub verified: Option<u32>,
    /// Bytes of the program as the verifier left it, eight to an instruction.
    pub translated: u32,
}

/// Loads the filter for frames that begin as `link` says, and lets it go again.
///
/// # Errors
/// What the kernel refused.
pub fn program_size(
    tables: &Tables,
    description: Description,
    link: LinkKind,
) -> Result<ProgramSize, Error> {
    let (_generation, mut ebpf) = Generation::load(tables, description, link, 0, Vec::new())?;
    let info = load::program(&mut ebpf, "filter")?
        .info()
        .map_err(|error| Error::kernel("the kernel does not describe the program", &error))?;
    Ok(ProgramSize {
        verified: info.verified_instruction_count(),
        translated: info.size_translated().unwrap_or_default(),
    })
}
