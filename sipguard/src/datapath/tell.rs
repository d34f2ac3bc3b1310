//! What generations and listeners share: the grant, what each processor keeps of it, who was told of, and where events go. Pinned beside the counters,
//! for all generations, so that no apply silences a listener.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
    sync::OnceLock,
};

use aya::maps::{Map, MapData, MapType, PerCpuArray};
use aya_obj::copy_instructions;
use sipguard_ebpf::event::{Grant, SETS, Set, Teller};

use super::{
    Error, pins,
    plain::Plain as _,
    program::{Kind, Program},
    table::Table,
};

/// One of the maps, as the object and the pins call it.
struct Shared {
    /// In the object.
    map: &'static str,
    pin: &'static str,
    kind: MapType,
    value: usize,
    /// 0 where it is a place for each processor.
    length: usize,
}

/// Where the listener's grant is.
const GRANT: Shared = Shared {
    map: ".bss.grant",
    pin: "grant",
    kind: MapType::Array,
    value: size_of::<Grant>(),
    length: 1,
};
/// Where events go.
const EVENTS: Shared = Shared {
    map: "EVENTS",
    pin: "events",
    kind: MapType::PerfEventArray,
    value: size_of::<u32>(),
    length: 0,
};
/// What each processor keeps.
const TELLER: Shared = Shared {
    map: "TELLER",
    pin: "teller",
    kind: MapType::PerCpuArray,
    value: size_of::<Teller>(),
    length: 1,
};
const ALL: [Shared; 4] = [
    GRANT,
    TELLER,
    Shared {
        map: "TOLD",
        pin: "told",
        kind: MapType::Array,
        value: size_of::<Set>(),
        length: SETS,
    },
    EVENTS,
];

impl Shared {
    fn path(&self) -> PathBuf {
        pins::events().join(self.pin)
    }

    /// What is pinned; none where nothing is.
    ///
    /// # Errors
    /// Where that is not what the program expects: a pin is adopted unchecked.
    fn open(&self) -> Result<Option<MapData>, Error> {
        let path = self.path();
        if !path.exists() {
            return Ok(None);
        }
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Error::kernel(format!("can't open {}", path.display()), error)
        };
        let map = MapData::from_pin(&path).map_err(|error| failed(&error))?;
        let info = map.info().map_err(|error| failed(&error))?;
        let length = info.max_entries() as usize;
        let expected = info.map_type().is_ok_and(|kind| kind == self.kind)
            && info.key_size() as usize == size_of::<u32>()
            && info.value_size() as usize == self.value
            && (self.length == 0 || length == self.length);
        if expected {
            Ok(Some(map))
        } else {
            Err(Error::OtherVersion {
                path: path.display().to_string(),
            })
        }
    }
}

/// Where they are, or are to be, by their names in the object.
///
/// # Errors
/// Where something else is there.
pub(super) fn pins() -> Result<Vec<(&'static str, PathBuf)>, Error> {
    pins::make_folder(&pins::events())?;
    let pin = |shared: &Shared| {
        shared.open()?;
        Ok((shared.map, shared.path()))
    };
    ALL.iter().map(pin).collect()
}

/// Where events go; none where no generation has made it.
///
/// # Errors
/// Where something else is there.
pub(super) fn events() -> Result<Option<MapData>, Error> {
    EVENTS.open()
}

/// The same, by processors' numbers and descriptors.
///
/// # Errors
/// Where something else is there.
pub(super) fn places() -> Result<Option<Table<u32, u32>>, Error> {
    let events = EVENTS.open()?;
    events.map(|map| Table::made(map, EVENTS.map)).transpose()
}

/// Where the grant is; none where no generation has made it.
///
/// # Errors
/// Where something else is there.
pub(super) fn grant_table() -> Result<Option<Table<u32, Grant>>, Error> {
    match GRANT.open()? {
        Some(_) => Table::open(&GRANT.path()).map(Some),
        None => Ok(None),
    }
}

/// How many packets each processor, by its number, has left out since its last event; none where no generation has made the map.
///
/// # Errors
/// Where something else is there, or it can't be read.
pub(super) fn left_out() -> Result<Option<Vec<u64>>, Error> {
    let Some(map) = TELLER.open()? else {
        return Ok(None);
    };
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Error::kernel(format!("can't read {}", TELLER.path().display()), error)
    };
    let map: PerCpuArray<MapData, [u8; size_of::<Teller>()]> = Map::from_map_data(map)
        .and_then(PerCpuArray::try_from)
        .map_err(|error| failed(&error))?;
    let tellers = map.get(&0, 0).map_err(|error| failed(&error))?;
    let tellers = tellers.iter().filter_map(|it| Teller::split_from(it));
    Ok(Some(tellers.map(|(teller, _)| teller.left_out).collect()))
}

/// Whether this kernel lets a program that has functions go on in another program. Without a compiler for them to machine code, and for arm64 before
/// Linux 6.0, none does (`check_map_func_compatibility` in kernel/bpf/verifier.c): the one that tells can't be reached then. The compiler can be
/// switched off, and where is not to be seen from every network namespace, so that it is tried.
pub(super) fn is_possible() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| try_it().is_ok())
}

/// Loads a program that does just that, and lets it go again.
fn try_it() -> io::Result<()> {
    let map = aya_obj::Map::new_from_params(MapType::ProgramArray as u32, 4, 4, 1, 0);
    let map = MapData::create(map, "possible", None).map_err(io::Error::other)?;
    let map = map.fd().as_fd().as_raw_fd().cast_unsigned();
    // Documentation/bpf/standardization/instruction-set.rst: operation, registers (destination below, source above), offset, constant.
    let code: [(u8, u8, u32); 11] = [
        (0xbf, 0x16, 0),   // r6 = r1, the context
        (0x85, 0x10, 7),   // the function at the end
        (0xbf, 0x61, 0),   // r1 = r6
        (0x18, 0x12, map), // r2 = the array, in two instructions
        (0x00, 0x00, 0),
        (0xb7, 0x03, 0),  // r3 = 0
        (0x85, 0x00, 12), // bpf_tail_call
        (0xb7, 0x00, 0),  // r0 = 0
        (0x95, 0x00, 0),
        (0xb7, 0x00, 0), // the function: r0 = 0
        (0x95, 0x00, 0),
    ];
    let code = code.map(|(operation, registers, constant)| {
        let [a, b, c, d] = constant.to_ne_bytes();
        [operation, registers, 0, 0, a, b, c, d]
    });
    let program = Program {
        name: "possible".to_owned(),
        kind: Kind::Socket,
        license: c"GPL".to_owned(),
        code: copy_instructions(code.as_flattened()).map_err(io::Error::other)?,
        functions: None,
        untyped: None,
    };
    program.load().map(drop).map_err(io::Error::other)
}
