//! One map with its key and value types, and the calls on it. Many elements go in one call (`BPF_MAP_UPDATE_BATCH`,
//! `BPF_MAP_LOOKUP_BATCH`; since Linux 5.6), which aya does not offer.

use std::{
    io,
    marker::PhantomData,
    num::NonZero,
    os::fd::{AsFd as _, AsRawFd as _},
    panic::resume_unwind,
    path::Path,
    thread,
};

use aya::maps::MapData;

use super::{Error, plain::Plain};

/// include/uapi/linux/bpf.h, enum bpf_cmd.
const LOOKUP: libc::c_int = 1;
const UPDATE: libc::c_int = 2;
const DELETE: libc::c_int = 3;
const FREEZE: libc::c_int = 22;
const LOOKUP_BATCH: libc::c_int = 24;
const UPDATE_BATCH: libc::c_int = 26;

/// How many elements are read or written at a time, at most.
const AT_ONCE: usize = 16_384;

/// For the element commands, include/uapi/linux/bpf.h, union bpf_attr.
#[repr(C)]
#[derive(Default)]
struct Element {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// For the batch commands, include/uapi/linux/bpf.h, union bpf_attr.
#[repr(C)]
#[derive(Default)]
#[expect(clippy::struct_field_names, reason = "the kernel's names")]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// # Safety
/// `attributes` must be what `command` takes, and the buffers it points to as long as the map's sizes and its count ask for.
pub(super) unsafe fn call<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn descriptor(map: &MapData) -> u32 {
    map.fd().as_fd().as_raw_fd().cast_unsigned()
}

/// Gives a map that has just been made for a section of the object what stands there; what is constant can't be changed any more then.
pub(super) fn write_section(map: &MapData, bytes: &[u8], constant: bool) -> io::Result<()> {
    let first = 0u32;
    let mut element = Element {
        map_fd: descriptor(map),
        key: &raw const first as u64,
        value: bytes.as_ptr() as u64,
        ..Element::default()
    };
    // SAFETY: such a map has one element, as long as the section, and its key is its number.
    unsafe { call(UPDATE, &mut element) }?;
    if constant {
        let mut map = descriptor(map);
        // SAFETY: the command takes the map alone.
        unsafe { call(FREEZE, &mut map) }?;
    }
    Ok(())
}

/// A map of `K` to `V`.
pub(super) struct Table<K, V> {
    map: MapData,
    types: PhantomData<(K, V)>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    /// # Errors
    /// [`Error::OtherVersion`] where the map's sizes are not those of `K` and `V`.
    fn new(map: MapData, path: &Path) -> Result<Self, Error> {
        let info = map
            .info()
            .map_err(|error| Error::kernel(path.display().to_string(), &error))?;
        if info.key_size() as usize != size_of::<K>()
            || info.value_size() as usize != size_of::<V>()
        {
            return Err(Error::OtherVersion {
                path: path.display().to_string(),
            });
        }
        Ok(Self {
            map,
            types: PhantomData,
        })
    }

    /// Takes a map that has just been made from the object.
    pub(super) fn made(map: MapData, name: &str) -> Result<Self, Error> {
        Self::new(map, Path::new(name))
    }

    /// An array of its own, not in the object.
    pub(super) fn array(name: &str, length: u32) -> Result<Self, Error> {
        let (key, value) = (size_of::<K>(), size_of::<V>());
        let [key, value] = [key, value].map(|size| u32::try_from(size).unwrap_or(u32::MAX));
        let object = aya_obj::Map::new_from_params(
            aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
            key,
            value,
            length,
            0,
        );
        let map = MapData::create(object, name, None)
            .map_err(|error| Error::kernel(format!("can't make {name}"), &error))?;
        Self::new(map, Path::new(name))
    }

    /// Opens a pin.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let map = MapData::from_pin(path)
            .map_err(|error| Error::kernel(format!("can't open {}", path.display()), &error))?;
        Self::new(map, path)
    }

    pub(super) fn pin(&self, path: &Path) -> Result<(), Error> {
        self.map
            .pin(path)
            .map_err(|error| Error::kernel(format!("can't pin {}", path.display()), &error))
    }

    /// How many elements there can be.
    pub(super) fn capacity(&self) -> Result<u32, Error> {
        let info = self
            .map
            .info()
            .map_err(|error| Error::kernel("can't ask a map for its size", &error))?;
        Ok(info.max_entries())
    }

    fn fd(&self) -> u32 {
        descriptor(&self.map)
    }

    pub(super) fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::zero();
        let mut element = Element {
            map_fd: self.fd(),
            key: std::ptr::from_ref(key) as u64,
            value: &raw mut value as u64,
            ..Element::default()
        };
        // SAFETY: key and value are as long as the map's, which `new` has checked.
        match unsafe { call(LOOKUP, &mut element) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets one element. Maps that hold programs or other maps take no more at a time, whatever the kernel.
    pub(super) fn set(&self, key: &K, value: &V) -> io::Result<()> {
        let mut element = Element {
            map_fd: self.fd(),
            key: std::ptr::from_ref(key) as u64,
            value: std::ptr::from_ref(value) as u64,
            ..Element::default()
        };
        // SAFETY: key and value are as long as the map's, which `new` has checked.
        unsafe { call(UPDATE, &mut element) }.map(drop)
    }

    /// Removes an element; one that is not there is no error.
    pub(super) fn remove(&self, key: &K) -> io::Result<()> {
        let mut element = Element {
            map_fd: self.fd(),
            key: std::ptr::from_ref(key) as u64,
            ..Element::default()
        };
        // SAFETY: the key is as long as the map's, which `new` has checked.
        match unsafe { call(DELETE, &mut element) } {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(()),
        }
    }

    /// Sets `keys[i]` to `values[i]`.
    pub(super) fn update(&self, keys: &[K], values: &[V]) -> io::Result<()> {
        assert_eq!(keys.len(), values.len(), "a key for every value");
        let count =
            u32::try_from(keys.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        if count == 0 {
            return Ok(());
        }
        let mut batch = Batch {
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count,
            map_fd: self.fd(),
            ..Batch::default()
        };
        // SAFETY: `count` keys and values as long as the map's.
        unsafe { call(UPDATE_BATCH, &mut batch) }.map(drop)
    }

    /// Sets as many elements as there are pairs. Of many, where each goes is nowhere near the one before, so that a processor waits for memory
    /// most of the time: all of them do it then.
    pub(super) fn update_all(&self, pairs: &[(K, V)]) -> io::Result<()>
    where
        K: Sync,
        V: Sync,
    {
        /// Fewer are not worth a thread.
        const EACH: usize = 65_536;
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = (pairs.len() / EACH).clamp(1, processors);
        let set = |pairs: &[(K, V)]| {
            pairs.chunks(AT_ONCE).try_for_each(|pairs| {
                let (keys, values): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
                self.update(&keys, &values)
            })
        };
        if threads == 1 {
            return set(pairs);
        }
        thread::scope(|scope| {
            let parts = pairs.chunks(pairs.len().div_ceil(threads));
            let parts: Vec<_> = parts.map(|part| scope.spawn(|| set(part))).collect();
            parts
                .into_iter()
                .try_for_each(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })
    }

    /// Hands every element to `each`, in no order. Elements that others add or remove meanwhile may or may not be among them.
    pub(super) fn for_each(&self, mut each: impl FnMut(K, V)) -> io::Result<()> {
        // Elements may be large, and few.
        let capacity = self.capacity().map_err(io::Error::other)?;
        let read = AT_ONCE.min(capacity as usize).max(1);
        let (mut keys, mut values) = (vec![K::zero(); read], vec![V::zero(); read]);
        // The kernel's place marks: a hash's is the number of a bucket, an array's an index.
        let (mut from, mut to) = (0u64, 0u64);
        let mut first = true;
        loop {
            let mut batch = Batch {
                in_batch: if first { 0 } else { &raw const from as u64 },
                out_batch: &raw mut to as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: u32::try_from(keys.len()).unwrap_or(u32::MAX),
                map_fd: self.fd(),
                ..Batch::default()
            };
            // SAFETY: `count` keys and values as long as the map's; the marks are at least as long as the kernel's.
            let done = match unsafe { call(LOOKUP_BATCH, &mut batch) } {
                Ok(_) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                // One bucket holds more than the buffers.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    keys.resize(keys.len() * 2, K::zero());
                    values.resize(values.len() * 2, V::zero());
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (key, value) in keys.iter().zip(&values).take(batch.count as usize) {
                each(*key, *value);
            }
            if done {
                return Ok(());
            }
            first = false;
            from = to;
        }
    }
}

impl<V: Plain> Table<u32, V> {
    /// Gives an array's elements their values, from the first one on.
    pub(super) fn fill(&self, values: &[V]) -> io::Result<()> {
        let mut places = 0..;
        for values in values.chunks(AT_ONCE) {
            let places: Vec<u32> = places.by_ref().take(values.len()).collect();
            self.update(&places, values)?;
        }
        Ok(())
    }
}
