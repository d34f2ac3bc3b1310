//! What generations and listeners share: the grant, what each processor keeps of it, who was told of, and where events go. Pinned beside the counters,
//! for all generations, so that no apply silences a listener.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    path::PathBuf,
    sync::OnceLock,
};

use aya::maps::{MapData, MapType};
use sipguard_ebpf::event::{Grant, SETS, Set, Teller};

use super::{
    Error, pins,
    table::{Table, call},
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
const ALL: [Shared; 4] = [
    GRANT,
    Shared {
        map: "TELLER",
        pin: "teller",
        kind: MapType::PerCpuArray,
        value: size_of::<Teller>(),
        length: 1,
    },
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
    /// Where that is not what the program expects: aya adopts a pin unchecked.
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

/// What is granted now. A map that is pinned gets what the object says of it whenever that is loaded: this, so that nothing changes. A grant that
/// comes in between is lost, and the next one comes a tenth of a second later.
///
/// # Errors
/// Where it can't be read.
pub(super) fn granted() -> Result<Grant, Error> {
    let Some(table) = grant_table()? else {
        return Ok(Grant::default());
    };
    let granted = table.get(&0);
    let granted = granted.map_err(|error| Error::io("can't read the grant", &error))?;
    Ok(granted.unwrap_or_default())
}

/// include/uapi/linux/bpf.h, enum bpf_cmd and bpf_prog_type.
const PROG_LOAD: libc::c_int = 5;
const SOCKET_FILTER: u32 = 1;

/// For `PROG_LOAD`, include/uapi/linux/bpf.h, union bpf_attr, as far as it is used.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
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
    let mut attributes = Load {
        kind: SOCKET_FILTER,
        count: u32::try_from(code.len()).unwrap_or_default(),
        instructions: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel: 0,
        flags: 0,
    };
    // SAFETY: these are the command's attributes, so many instructions, and a text that ends with a zero.
    let descriptor = unsafe { call(PROG_LOAD, &mut attributes) }?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us alone.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok(())
}
