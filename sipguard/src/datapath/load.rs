//! From the object file to programs in the kernel, with the policy's constants and map sizes filled in.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::{Path, PathBuf},
};

use rustix::thread::{CapabilitySet, capabilities};
use sipguard_ebpf::abi::{LinkKind, SERVICES};

use super::{
    Error, Place,
    object::{Object, Said},
    plain::Plain,
    program::{Loaded, Program},
    table::Table,
    tell,
};
use crate::{kernel, tables::Constants};

/// The object, as sipguard-ebpf's sources give it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sipguard-ebpf"));

/// The object's fingerprint: another object is another program, whatever the policy.
pub const OBJECT_DIGEST: &str = env!("OBJECT_DIGEST");

/// The object's bytes.
pub fn object_bytes() -> &'static [u8] {
    OBJECT
}

/// How large the policy's maps are to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) entries4: u32,
    pub(super) entries6: u32,
    pub(super) prefilter: u32,
}

/// Where the maps of a pinned generation are, by their names in the object.
pub(super) fn policy_pins(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    [
        ("ENTRIES4", "entries4"),
        ("ENTRIES6", "entries6"),
        ("PREFILTER", "prefilter"),
        ("LENGTHS", "lengths"),
    ]
    .map(|(map, pin)| (map, folder.join(pin)))
    .into()
}

/// What programs are loaded for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose {
    /// The generation's number; 0 where it has none.
    pub(super) number: u64,
    /// Which of the policy's interfaces.
    pub(super) slot: u32,
    /// What its frames begin with.
    pub(super) link: LinkKind,
}

impl Whose {
    /// Programs that are attached to nothing.
    pub(super) fn nobody(link: LinkKind) -> Self {
        Self {
            number: 0,
            slot: 0,
            link,
        }
    }
}

/// What is to be loaded.
pub(super) struct Plan<'a> {
    pub(super) constants: &'a Constants,
    pub(super) sizes: Sizes,
    pub(super) whose: Whose,
    /// Maps that are pinned already, or are to be, by their names in the object.
    pub(super) pins: Vec<(&'static str, PathBuf)>,
}

/// Asked before anything is made: kernels that are older still refuse the maps, for reasons that say nothing.
fn new_enough() -> Result<(), Error> {
    if kernel::at_least(5, 9) {
        return Ok(());
    }
    Err(Error::TooOld {
        running: kernel::release(),
        needed: "5.9",
        feature: "XDP programs that stay attached without a process",
    })
}

/// Makes the maps; no program is loaded yet.
pub(super) fn object(plan: &Plan<'_>) -> Result<Object, Error> {
    let Constants {
        guards,
        protocols,
        monitor,
        prefilter_shift,
    } = plan.constants;
    let Whose { number, slot, link } = &plan.whose;
    let link = *link as u32;
    // The standard library's hashers begin with what the system has drawn.
    let seed = RandomState::new().build_hasher().finish();
    let silent = u32::from(!tell::is_possible());
    make(&Said {
        constants: vec![
            ("GUARDS", guards.as_flattened()),
            ("PROTOCOLS", protocols.bytes()),
            ("MONITOR", monitor.bytes()),
            ("PREFILTER_SHIFT", prefilter_shift.bytes()),
            ("LINK_KIND", link.bytes()),
            ("DROPPED_SEED", seed.bytes()),
            ("SILENT", silent.bytes()),
            ("GENERATION", number.bytes()),
            ("SLOT", slot.bytes()),
        ],
        lengths: vec![
            ("ENTRIES4", plan.sizes.entries4),
            ("ENTRIES6", plan.sizes.entries6),
            ("PREFILTER", plan.sizes.prefilter),
            ("LENGTHS", u32::try_from(SERVICES).unwrap_or(u32::MAX)),
        ],
        pins: &plan.pins,
    })
}

/// An object for the program `pending` alone: what the others look into has no size.
pub(super) fn pending_object(deadline: u64) -> Result<Object, Error> {
    make(&Said {
        constants: vec![("DEADLINE", deadline.bytes())],
        ..Said::default()
    })
}

fn make(said: &Said<'_>) -> Result<Object, Error> {
    new_enough()?;
    Object::make(OBJECT, said).map_err(|error| Error::kernel("can't make the maps", &error))
}

/// Takes a map out of an object.
pub(super) fn take<K: Plain, V: Plain>(
    object: &mut Object,
    name: &str,
) -> Result<Table<K, V>, Error> {
    let map = object.take_map(name).ok_or_else(|| Error::Kernel {
        what: format!("can't make {name}"),
        cause: "not in the object".to_owned(),
    })?;
    Table::made(map, name)
}

/// How the names of the programs end that take frames in several pieces.
pub(super) const FRAGS: &str = "_frags";

/// How the names of the programs for TC ingress end.
const TC: &str = "_tc";

/// Whether this kernel hands on frames in several pieces, and has the helpers that read them.
pub(super) fn has_frags() -> bool {
    kernel::at_least(5, 18)
}

/// Loads the program that does `what` (`filter`, `tell`, `check` or `pending`) at a place: of the two for XDP the one that suits this kernel.
pub(super) fn program(object: &Object, place: Place, what: &str) -> Result<Loaded, Error> {
    let end = match place {
        Place::Xdp if has_frags() => FRAGS,
        Place::Xdp => "",
        Place::Tc => TC,
    };
    let name = format!("{what}{end}");
    let program = object.program(&name).ok_or_else(|| Error::Kernel {
        what: format!("no program {name}"),
        cause: "not in the object".to_owned(),
    })?;
    load(program, what)
}

/// Loads a program, which is called so where the kernel refuses it.
pub(super) fn load(program: &Program, what: &str) -> Result<Loaded, Error> {
    may_load()?;
    let loaded = program.load();
    loaded.map_err(|error| Error::kernel(format!("the kernel refuses the program {what}"), &error))
}

/// Takes the array where the filter at a place finds the program that tells.
pub(super) fn tellers(object: &mut Object, place: Place) -> Result<Table<u32, u32>, Error> {
    let map = match place {
        Place::Xdp => "TELLERS",
        Place::Tc => "TELLERS_TC",
    };
    take(object, map)
}

/// Whether the verifier lets this process's programs calculate with addresses, which it takes to find out how long a frame is. Its own
/// refusal is a page of instructions.
fn may_load() -> Result<(), Error> {
    // The call can't fail for the calling thread.
    let may = capabilities(None).is_ok_and(|own| {
        let either = CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN;
        own.effective.intersects(either)
    });
    if may {
        Ok(())
    } else {
        Err(Error::NotPermitted)
    }
}
