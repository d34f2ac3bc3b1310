//! From the object file to programs in the kernel, with the policy's constants and map sizes filled in.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, ProgramArray},
    programs::{Program, ProgramError, SchedClassifier, Xdp},
};
use rustix::thread::{CapabilitySet, capabilities};
use sipguard_ebpf::abi::{LinkKind, SERVICES};

use super::{Error, plain::Plain, table::Table, tell};
use crate::{kernel, tables::Constants};

/// The object, as sipguard-ebpf's sources give it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sipguard-ebpf"));

/// The object's bytes: another object is another program, whatever the policy.
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
pub(super) fn object(plan: &Plan<'_>) -> Result<Ebpf, Error> {
    new_enough()?;
    let Constants {
        port_page,
        port_services,
        protocols,
        monitor,
        default_allow,
        prefilter_shift,
    } = plan.constants;
    let Whose { number, slot, link } = &plan.whose;
    let link = *link as u32;
    // The standard library's hashers begin with what the system has drawn.
    let seed = RandomState::new().build_hasher().finish();
    let silent = u32::from(!tell::is_possible());
    let granted = tell::granted()?;
    let mut loader = EbpfLoader::new();
    loader
        // The kernel refuses the BTF of constants on some versions, and nothing here needs it.
        .btf(None)
        .override_global("PORT_PAGE", port_page.as_slice(), true)
        .override_global(
            "PORT_SERVICES",
            port_services.as_flattened().as_flattened(),
            true,
        )
        .override_global("PROTOCOLS", protocols, true)
        .override_global("MONITOR", monitor, true)
        .override_global("DEFAULT_ALLOW", default_allow, true)
        .override_global("PREFILTER_SHIFT", prefilter_shift, true)
        .override_global("LINK_KIND", &link, true)
        .override_global("DROPPED_SEED", &seed, true)
        .override_global("SILENT", &silent, true)
        .override_global("GENERATION", number, true)
        .override_global("SLOT", slot, true)
        .override_global("GRANT", granted.bytes(), true)
        .map_max_entries("ENTRIES4", plan.sizes.entries4)
        .map_max_entries("ENTRIES6", plan.sizes.entries6)
        .map_max_entries("PREFILTER", plan.sizes.prefilter)
        .map_max_entries("LENGTHS", u32::try_from(SERVICES).unwrap_or(u32::MAX));
    for (map, path) in &plan.pins {
        loader.map_pin_path(map, path);
    }
    loader
        .load(OBJECT)
        .map_err(|error| Error::kernel("can't make the maps", &error))
}

/// An object for the program `pending` alone: what the others look into has no size.
pub(super) fn pending_object(deadline: u64) -> Result<Ebpf, Error> {
    new_enough()?;
    EbpfLoader::new()
        .btf(None)
        .override_global("DEADLINE", &deadline, true)
        .load(OBJECT)
        .map_err(|error| Error::kernel("can't make the maps", &error))
}

/// Takes a map out of an object.
pub(super) fn take<K: Plain, V: Plain>(ebpf: &mut Ebpf, name: &str) -> Result<Table<K, V>, Error> {
    let map = ebpf.take_map(name).ok_or_else(|| Error::Kernel {
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

/// Loads the one of the two XDP programs that do `what` (`filter`, `check` or `pending`) which suits this kernel.
pub(super) fn xdp<'a>(ebpf: &'a mut Ebpf, what: &str) -> Result<&'a mut Xdp, Error> {
    let program = loaded_xdp(ebpf, what)?;
    load_xdp(program, what)?;
    Ok(program)
}

/// Loads the program for TC ingress that does `what`.
pub(super) fn tc<'a>(ebpf: &'a mut Ebpf, what: &str) -> Result<&'a mut SchedClassifier, Error> {
    let program = loaded_tc(ebpf, what)?;
    load_tc(program, what)?;
    Ok(program)
}

/// The programs of an interface, at one place, and where the one finds the other. Not loaded yet.
pub(super) struct Programs<'a, P> {
    pub(super) filter: &'a mut P,
    pub(super) tell: &'a mut P,
    pub(super) tellers: ProgramArray<MapData>,
}

/// Those of both places.
pub(super) fn both(
    ebpf: &mut Ebpf,
) -> Result<(Programs<'_, Xdp>, Programs<'_, SchedClassifier>), Error> {
    let mut tellers = |map: &str| {
        let map = ebpf.take_map(map).map(ProgramArray::try_from);
        let array = map.ok_or_else(|| missing("tell", "not in the object"))?;
        array.map_err(|error| Error::kernel("can't make the programs' array", &error))
    };
    let (tellers_xdp, tellers_tc) = (tellers("TELLERS")?, tellers("TELLERS_TC")?);
    let at = |name: &str, named: fn(&str) -> String| {
        let mut both = ["filter", "tell"].into_iter();
        both.position(|what| named(what) == name)
    };
    let (mut xdp, mut tc) = ([None, None], [None, None]);
    for (name, program) in ebpf.programs_mut() {
        match program {
            Program::Xdp(program) => {
                if let Some(at) = at(name, xdp_name) {
                    xdp[at] = Some(program);
                }
            }
            Program::SchedClassifier(program) => {
                if let Some(at) = at(name, tc_name) {
                    tc[at] = Some(program);
                }
            }
            _ => {}
        }
    }
    match (xdp, tc) {
        ([Some(filter), Some(tell)], [Some(filter_tc), Some(tell_tc)]) => Ok((
            Programs {
                filter,
                tell,
                tellers: tellers_xdp,
            },
            Programs {
                filter: filter_tc,
                tell: tell_tc,
                tellers: tellers_tc,
            },
        )),
        _ => Err(missing("filter and tell", "not in the object")),
    }
}

/// Loads one of [`both`].
pub(super) fn load_xdp(program: &mut Xdp, what: &str) -> Result<(), Error> {
    may_load()?;
    program.load().map_err(|error| refused(what, &error))
}

/// Loads the other.
pub(super) fn load_tc(program: &mut SchedClassifier, what: &str) -> Result<(), Error> {
    may_load()?;
    program.load().map_err(|error| refused(what, &error))
}

fn refused(what: &str, error: &ProgramError) -> Error {
    Error::kernel(format!("the kernel refuses the program {what}"), error)
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

/// The same program as [`xdp`] has loaded.
pub(super) fn loaded_xdp<'a>(ebpf: &'a mut Ebpf, what: &str) -> Result<&'a mut Xdp, Error> {
    named(ebpf, &xdp_name(what))
}

/// The same program as [`tc`] has loaded.
pub(super) fn loaded_tc<'a>(
    ebpf: &'a mut Ebpf,
    what: &str,
) -> Result<&'a mut SchedClassifier, Error> {
    named(ebpf, &tc_name(what))
}

fn xdp_name(what: &str) -> String {
    let end = if has_frags() { FRAGS } else { "" };
    format!("{what}{end}")
}

fn tc_name(what: &str) -> String {
    format!("{what}{TC}")
}

fn named<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| missing(name, "not in the object"))?;
    program
        .try_into()
        .map_err(|error: ProgramError| missing(name, &error.to_string()))
}

fn missing(name: &str, cause: &str) -> Error {
    Error::Kernel {
        what: format!("no program {name}"),
        cause: cause.to_owned(),
    }
}
