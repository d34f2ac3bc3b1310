//! What has been counted. Counters belong to an interface, not to a generation: they survive every apply.

use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData, MapType, PerCpuArray, PerCpuValues};
use sipguard_ebpf::abi::{Action, COUNTERS, Counter, NO_SERVICE, Reason, counter};

use super::{Error, pins};

/// The counters of one interface, all CPUs added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(Vec<Counter>);

impl Counts {
    /// What was counted for one service ([`sipguard_ebpf::abi::NO_SERVICE`] for none) and reason.
    pub fn of(&self, service: u8, reason: Reason) -> Counter {
        self.0
            .get(counter(service, reason) as usize)
            .copied()
            .unwrap_or_default()
    }

    /// How many packets were dropped in all, or would have been but for monitor mode.
    pub fn to_be_dropped(&self) -> u64 {
        let reasons = Reason::COUNTED.into_iter();
        let reasons = reasons.filter(|reason| reason.action() == Action::Drop);
        let of = |reason| -> u64 {
            let slots = 0..=NO_SERVICE;
            slots.map(|slot| self.of(slot, reason).packets).sum()
        };
        reasons.map(of).sum()
    }
}

/// Where an interface's counters are pinned.
pub(super) fn path(interface: &str) -> PathBuf {
    pins::counters().join(pins::pin_name(interface))
}

/// Makes sure that what is pinned there, if anything, is what the program expects: a pin is adopted unchecked.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    let other = || Error::OtherVersion {
        path: path.display().to_string(),
    };
    let map = open(path)?;
    let info = map
        .info()
        .map_err(|error| Error::kernel(path.display().to_string(), &error))?;
    let expected = info
        .map_type()
        .is_ok_and(|kind| kind == MapType::PerCpuArray)
        && info.key_size() as usize == size_of::<u32>()
        && info.value_size() as usize == size_of::<Counter>()
        && info.max_entries() as usize == COUNTERS;
    if expected { Ok(()) } else { Err(other()) }
}

fn open(path: &Path) -> Result<MapData, Error> {
    MapData::from_pin(path)
        .map_err(|error| Error::kernel(format!("can't open {}", path.display()), &error))
}

/// A [`Counter`] as aya reads it.
type Raw = [u64; 2];

fn array(path: &Path) -> Result<PerCpuArray<MapData, Raw>, Error> {
    check(path)?;
    Map::from_map_data(open(path)?)
        .and_then(PerCpuArray::try_from)
        .map_err(|error| Error::kernel(format!("can't open {}", path.display()), &error))
}

/// Everything counted on an interface; `None` where nothing ever was.
///
/// # Errors
/// Where the map can't be read.
pub fn counts(interface: &str) -> Result<Option<Counts>, Error> {
    let path = path(interface);
    if !path.exists() {
        return Ok(None);
    }
    let array = array(&path)?;
    let mut sums = Vec::with_capacity(COUNTERS);
    for values in array.iter() {
        let values = values
            .map_err(|error| Error::kernel(format!("can't read {}", path.display()), &error))?;
        let sum = |place: usize| values.iter().map(|value: &Raw| value[place]).sum();
        sums.push(Counter {
            packets: sum(0),
            bytes: sum(1),
        });
    }
    Ok(Some(Counts(sums)))
}

/// The number that the kernel has given to an interface's counters; another one, and they began at zero. `None` where there are none.
///
/// # Errors
/// Where the map can't be opened.
pub fn counters_number(interface: &str) -> Result<Option<u32>, Error> {
    let path = path(interface);
    if !path.exists() {
        return Ok(None);
    }
    let info = open(&path)?.info();
    let info = info.map_err(|error| Error::kernel(path.display().to_string(), &error))?;
    Ok(Some(info.id()))
}

/// Sets a service's counters to zero on every interface, before its number goes to another service.
///
/// # Errors
/// Where a map can't be written.
pub fn clear_service(service: u8) -> Result<(), Error> {
    let cpus = aya::util::nr_cpus().map_err(|(what, error)| Error::io(what, &error))?;
    for name in pins::names(&pins::counters())? {
        let path = pins::counters().join(name);
        let mut array = array(&path)?;
        for reason in Reason::COUNTED {
            let index = counter(service, reason);
            let zeros = PerCpuValues::try_from(vec![[0; 2]; cpus])
                .map_err(|error| Error::io("can't clear counters", &error))?;
            array.set(index, zeros, 0).map_err(|error| {
                Error::kernel(format!("can't clear {}", path.display()), &error)
            })?;
        }
    }
    Ok(())
}

/// Removes an interface's counters.
///
/// # Errors
/// Where the pin can't be removed.
pub fn forget_counters(interface: &str) -> Result<(), Error> {
    Ok(pins::remove(&path(interface))?)
}

/// The interfaces that have counters.
///
/// # Errors
/// Where the folder can't be read.
pub fn counted_interfaces() -> Result<Vec<String>, Error> {
    Ok(pins::names(&pins::counters())?
        .iter()
        .map(|pin| pins::interface_name(pin))
        .collect())
}
