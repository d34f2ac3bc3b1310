//! How large the programs are in the kernel, for the tests that keep them small.

use std::collections::BTreeMap;

use aya::programs::{Program, ProgramError, Xdp};
use sipguard_ebpf::abi::LinkKind;

use super::{
    Description, Error, Generation, Revisions,
    load::{self, Whose},
};
use crate::tables::Tables;

/// The kernel's figures of a loaded program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramSize {
    /// How many instructions the verifier went through, of the million that it allows; since Linux 5.16.
    pub verified: Option<u32>,
    /// Bytes of the program as the verifier left it, eight to an instruction.
    pub translated: u32,
}

/// Loads the programs that judge frames, which begin as `link` says, and lets them go again. By their names: both forms of each where the
/// kernel knows frames in several pieces, whichever is in use there. `pending` is a dozen instructions, and not among them.
///
/// # Errors
/// What the kernel refused.
pub fn program_sizes(
    tables: &Tables,
    description: Description,
    link: LinkKind,
) -> Result<BTreeMap<String, ProgramSize>, Error> {
    let mut sizes = sizes(tables, description.clone(), link, false)?;
    if load::has_frags() {
        sizes.extend(self::sizes(tables, description, link, true)?);
    }
    Ok(sizes)
}

/// Those that take frames in several pieces, or the others: both lead to programs of their kind, and an array holds only one kind.
fn sizes(
    tables: &Tables,
    description: Description,
    link: LinkKind,
    frags: bool,
) -> Result<BTreeMap<String, ProgramSize>, Error> {
    let whose = Whose::nobody(link);
    let (_generation, mut ebpf) =
        Generation::load(tables, description, whose, Revisions::default(), Vec::new())?;
    let programs = ebpf.programs_mut().filter(|(name, _)| {
        let judges = !name.starts_with("pending");
        judges && name.ends_with(load::FRAGS) == frags
    });
    programs
        .map(|(name, program)| {
            let refused = |error: &ProgramError| {
                Error::kernel(format!("the kernel refuses the program {name}"), error)
            };
            let info = match program {
                Program::SchedClassifier(program) => program.load().and_then(|()| program.info()),
                program => <&mut Xdp>::try_from(program)
                    .and_then(|program| program.load().and_then(|()| program.info())),
            };
            let info = info.map_err(|error| refused(&error))?;
            let size = ProgramSize {
                verified: info.verified_instruction_count(),
                translated: info.size_translated().unwrap_or_default(),
            };
            Ok((name.to_owned(), size))
        })
        .collect()
}
