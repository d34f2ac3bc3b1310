//! The object's maps made and its programs leading to them. aya's loader would do so, too: it has read and parsed the types of the whole kernel
//! by then, which takes longer than all else here, and more memory than a hundred thousand entries (`findings/aya-btf-none.sh`).

use std::{
    collections::HashMap,
    io, mem,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use aya::maps::{MapData, MapError};
use aya_obj::{
    EbpfSectionKind, ParseError, ProgramSection,
    btf::{Btf, BtfError, BtfFeatures},
    relocation::EbpfRelocationError,
};
use thiserror::Error;

use super::{
    program::{Functions, Kind, Program, made},
    table::write_section,
};
use crate::kernel;

/// include/uapi/linux/bpf.h, enum bpf_cmd.
const BTF_LOAD: libc::c_int = 18;

/// Why an object can't be used.
#[derive(Debug, Error)]
pub(super) enum ObjectError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error(transparent)]
    Types(#[from] BtfError),
    #[error("{name}")]
    Map { name: String, source: MapError },
    #[error("{name}")]
    Section { name: String, source: io::Error },
    #[error("{}: {source}", path.display())]
    Pin {
        path: PathBuf,
        source: aya::pin::PinError,
    },
    #[error(transparent)]
    Relocation(#[from] EbpfRelocationError),
    #[error("{0} is a program of another kind")]
    Kind(String),
}

/// What is said of an object from outside, by the names it has there.
#[derive(Default)]
pub(super) struct Said<'a> {
    /// What constants are.
    pub(super) constants: Vec<(&'a str, &'a [u8])>,
    /// How many elements maps have.
    pub(super) lengths: Vec<(&'a str, u32)>,
    /// Maps that are pinned already, and are taken as they are, or are to be pinned.
    pub(super) pins: &'a [(&'static str, PathBuf)],
}

/// An object with its maps in the kernel.
pub(super) struct Object {
    maps: HashMap<String, MapData>,
    programs: HashMap<String, Program>,
}

impl Object {
    /// Makes the maps of an object file. No program is loaded yet.
    pub(super) fn make(file: &[u8], said: &Said<'_>) -> Result<Self, ObjectError> {
        let mut object = aya_obj::Object::parse(file)?;
        let constants = said.constants.iter();
        object.patch_map_data(
            constants
                .map(|&(name, value)| (name, (value, true)))
                .collect(),
        )?;
        let (types, untyped) = match types(&mut object)?.transpose() {
            Ok(types) => (types, None),
            Err(error) => (None, Some(Arc::new(error))),
        };
        let mut written = mem::take(&mut object.maps);
        let mut maps = HashMap::new();
        for (name, map) in &mut written {
            if let Some((_, length)) = said.lengths.iter().find(|(map, _)| map == name) {
                map.set_max_entries(*length);
            }
            let pin = said.pins.iter().find(|(map, _)| map == name);
            maps.insert(
                name.clone(),
                make_map(name, map, pin.map(|(_, path)| path))?,
            );
        }
        let text = object
            .functions
            .keys()
            .map(|&(section, _)| section)
            .collect();
        object.relocate_maps(
            maps.iter().map(|(name, map)| {
                let descriptor = map.fd().as_fd().as_raw_fd();
                (name.as_str(), descriptor, &written[name])
            }),
            &text,
        )?;
        object.relocate_calls(&text)?;
        let mut programs = HashMap::new();
        for (name, program) in object.programs {
            let kind = match program.section {
                ProgramSection::Xdp { frags, .. } => Kind::Xdp { frags },
                ProgramSection::SchedClassifier => Kind::Tc,
                _ => return Err(ObjectError::Kind(name)),
            };
            let Some(function) = object.functions.remove(&program.function_key()) else {
                continue;
            };
            let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
            let functions = types.clone().map(|types| Functions {
                types,
                size: size(function.func_info_rec_size),
                count: size(function.func_info.len()),
                records: function.func_info.func_info_bytes(),
            });
            let program = Program {
                name: name.clone(),
                kind,
                license: program.license,
                code: function.instructions,
                functions,
                untyped: untyped.clone(),
            };
            programs.insert(name, program);
        }
        Ok(Self { maps, programs })
    }

    /// Takes a map out. Whoever takes it has to keep it until the programs are loaded that lead to it.
    pub(super) fn take_map(&mut self, name: &str) -> Option<MapData> {
        self.maps.remove(name)
    }

    pub(super) fn program(&self, name: &str) -> Option<&Program> {
        self.programs.get(name)
    }

    pub(super) fn programs(&self) -> impl Iterator<Item = &Program> {
        self.programs.values()
    }
}

/// Loads the object's types, with no more of them than this kernel knows. Without, programs are verified all the same, as long as it takes then.
fn types(object: &mut aya_obj::Object) -> Result<Option<io::Result<Arc<OwnedFd>>>, BtfError> {
    /// For [`BTF_LOAD`], include/uapi/linux/bpf.h, union bpf_attr, as far as it is used.
    #[repr(C)]
    struct Load {
        types: u64,
        log: u64,
        size: u32,
        log_size: u32,
        log_level: u32,
        /// Zero: kernels before 6.4 refuse what they don't know, and what pads a structure is anything.
        padding: u32,
    }
    // Functions, global ones and sections there are in every kernel that has all else we need.
    let features = BtfFeatures::new(
        true,
        true,
        true,
        kernel::at_least(5, 12),
        kernel::at_least(5, 13),
        kernel::at_least(5, 16),
        kernel::at_least(5, 17),
        kernel::at_least(6, 0),
    );
    let types = object.fixup_and_sanitize_btf(&features)?.map(Btf::to_bytes);
    let load = |types: Vec<u8>| {
        let mut attributes = Load {
            types: types.as_ptr() as u64,
            log: 0,
            size: u32::try_from(types.len()).unwrap_or(u32::MAX),
            log_size: 0,
            log_level: 0,
            padding: 0,
        };
        // SAFETY: these are the command's attributes, with so many bytes, and what it makes is ours.
        unsafe { made(BTF_LOAD, &mut attributes) }.map(Arc::new)
    };
    Ok(types.map(load))
}

/// Makes a map, or takes the one that is pinned there.
fn make_map(name: &str, map: &aya_obj::Map, pin: Option<&PathBuf>) -> Result<MapData, ObjectError> {
    if let Some(path) = pin
        && let Ok(map) = MapData::from_pin(path)
    {
        return Ok(map);
    }
    let made = MapData::create(map.clone(), name, None).map_err(|source| ObjectError::Map {
        name: name.to_owned(),
        source,
    })?;
    if !map.data().is_empty() {
        let constant = map.section_kind() == EbpfSectionKind::Rodata;
        write_section(&made, map.data(), constant).map_err(|source| ObjectError::Section {
            name: name.to_owned(),
            source,
        })?;
    }
    if let Some(path) = pin {
        made.pin(path).map_err(|source| ObjectError::Pin {
            path: path.clone(),
            source,
        })?;
    }
    Ok(made)
}
