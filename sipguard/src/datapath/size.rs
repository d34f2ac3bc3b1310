//! How large the programs are in the kernel, for the tests that keep them small.

use std::collections::BTreeMap;

use sipguard_ebpf::abi::LinkKind;

use super::{
    Description, Error, Generation,
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
    let (_generation, object) = Generation::load(tables, description, whose)?;
    let programs = object.programs().filter(|program| {
        let judges = !program.name.starts_with("pending");
        judges && program.name.ends_with(load::FRAGS) == frags
    });
    programs
        .map(|program| {
            let name = &program.name;
            let info = load::load(program, name)?.info();
            let info = info.map_err(|error| {
                Error::io(format!("can't ask about the program {name}"), &error)
            })?;
            let size = ProgramSize {
                verified: (info.verified_insns > 0).then_some(info.verified_insns),
                translated: info.xlated_prog_len,
            };
            Ok((name.clone(), size))
        })
        .collect()
}
