//! Reading what the kernel tells: a ring for each processor, which it writes and we read, and the grant that it spends.

use std::{
    fs::{self, File},
    io, mem,
    os::unix::fs::MetadataExt as _,
    path::Path,
    thread,
};

use aya::{
    maps::{
        Map, MapData, PerfEventArray,
        perf::{PerfBufferError, PerfEvent},
    },
    util::online_cpus,
};
use rustix::{
    fs::{FlockOperation, flock, major, minor},
    io::Errno,
    param::page_size,
    thread::{CapabilitySet, CapabilitySets, set_capabilities},
};
use sipguard_ebpf::event::{BYTES_MOST, Grant, Record};

use super::{
    Error, pins,
    plain::Plain as _,
    ring::{self, Ring},
    table::Table,
    tell,
};
use crate::kernel;

/// How many events a processor may tell of with one grant, where rings have room for so many: with ten grants a second it is more than 16,384, so
/// that a slow scanner is told of beside a flood from as many sources that comes in on the same processor.
const EVENTS: usize = 2048;
/// What all rings together may have, in bytes.
const ROOM: usize = 8 << 20;
/// What one ring has at least, in bytes.
const LEAST: usize = 64 << 10;

/// What came out of a ring.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'r> {
    /// An event: the kernel's record, and the bytes that follow it.
    Event(Record, &'r [u8]),
    /// So many found no room.
    Lost(u64),
}

/// What is told to us, and to nobody else: the kernel lets a second reader take the first one's place without a word, so that there is a lock.
pub struct Rings {
    /// Of the folder of pins: whoever shares these shares it.
    _lock: File,
    /// The number of the map that the rings are in.
    map: u32,
    grant: Table<u32, Grant>,
    events: PerfEventArray<MapData>,
    /// The same map.
    places: Table<u32, u32>,
    /// By the processor's number.
    open: Vec<(u32, Ring)>,
    /// What was left out before we listened, at the place of each processor's number, until its first event.
    before: Vec<u64>,
    pages: usize,
    /// Puts together what lies at a ring's end and its begin.
    whole: Vec<u8>,
}

impl Rings {
    /// Begins to listen, with room for so many of each frame's first bytes. Nothing is told before the first grant.
    ///
    /// # Errors
    /// [`Error::Listens`] where another process listens; [`Error::Silent`] where nothing can be told; what the kernel refused.
    pub fn open(bytes: usize) -> Result<Self, Error> {
        let folder = pins::events();
        if !folder.exists() {
            return Err(Error::OtherVersion {
                path: pins::generations().display().to_string(),
            });
        }
        if !tell::is_possible() {
            return Err(Error::Silent);
        }
        let lock = lock(&folder)?;
        let other = || Error::OtherVersion {
            path: folder.display().to_string(),
        };
        let grant = tell::grant_table()?.ok_or_else(other)?;
        let events = tell::events()?.ok_or_else(other)?;
        let map = id(&events)?;
        let places = tell::places()?.ok_or_else(other)?;
        let before = tell::left_out()?.ok_or_else(other)?;
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Error::kernel("can't read what the kernel tells", error)
        };
        let events = Map::from_map_data(events)
            .and_then(PerfEventArray::try_from)
            .map_err(|error| failed(&error))?;
        let bytes = bytes.min(BYTES_MOST);
        let mut rings = Self {
            _lock: lock,
            map,
            grant,
            events,
            places,
            open: Vec::new(),
            before,
            pages: pages(sample(bytes)),
            whole: Vec::new(),
        };
        rings.follow_processors()?;
        Ok(rings)
    }

    /// Makes rings for processors that have none yet: more may come. Where there is no room for such large ones, all are made anew, half as large: what
    /// they may take is counted for all processes of a user together, unless their limits are lifted.
    fn follow_processors(&mut self) -> Result<(), Error> {
        let online = online_cpus().map_err(|(what, error)| Error::io(what, &error))?;
        while let Err(error) = self.make_rings(&online) {
            let is_room = matches!(&error, PerfBufferError::MMapError { io_error }
                if io_error.kind() == io::ErrorKind::PermissionDenied);
            if !is_room || self.pages * page_size() <= LEAST {
                let refused = match &error {
                    PerfBufferError::OpenError { io_error } => paranoid(io_error),
                    _ => None,
                };
                return Err(refused.unwrap_or_else(|| Error::kernel("can't make a ring", &error)));
            }
            self.open.clear();
            self.pages /= 2;
        }
        Ok(())
    }

    fn make_rings(&mut self, online: &[u32]) -> Result<(), PerfBufferError> {
        for processor in online {
            if self.open.iter().any(|(other, _)| other == processor) {
                continue;
            }
            let ring = Ring::open(&mut self.events, &self.places, *processor, self.pages)?;
            self.open.push((*processor, ring));
        }
        Ok(())
    }

    /// Whether what is pinned is still what we listen to: `sipguard down` ends that, and what comes afterwards is another one. Makes rings for
    /// new processors.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn is_current(&mut self) -> Result<bool, Error> {
        self.follow_processors()?;
        match tell::events()? {
            Some(events) => Ok(id(&events)? == self.map),
            None => Ok(false),
        }
    }

    /// What is granted now, or was granted last.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn granted(&self) -> Result<Grant, Error> {
        let granted = self.grant.get(&0);
        let granted = granted.map_err(|error| Error::io("can't read the grant", &error))?;
        Ok(granted.unwrap_or_default())
    }

    /// Lets each processor tell of as much as its ring has room for, if what was told before has been read: how many events that is, is filled in
    /// here.
    ///
    /// # Errors
    /// Where the kernel takes it not.
    pub fn grant(&self, grant: Grant) -> Result<(), Error> {
        let room = self.pages * page_size() / sample(grant.bytes as usize);
        let grant = Grant {
            events: u32::try_from(room.min(EVENTS)).unwrap_or(u32::MAX),
            ..grant
        };
        self.grant
            .update(&[0], &[grant])
            .map_err(|error| Error::io("can't grant events", &error))
    }

    /// Hands on all that was told since.
    pub fn read(&mut self, mut each: impl FnMut(Heard<'_>)) {
        for (processor, ring) in &mut self.open {
            let mut before = self.before.get_mut(*processor as usize);
            ring.for_each(|event| match event {
                PerfEvent::Lost { count } => each(Heard::Lost(count)),
                PerfEvent::Sample { head, tail } => {
                    let sample = if tail.is_empty() {
                        head
                    } else {
                        self.whole.clear();
                        self.whole.extend(head);
                        self.whole.extend(tail);
                        &self.whole
                    };
                    // What is behind the bytes is left over from older samples.
                    if let Some((mut record, bytes)) = Record::split_from(sample)
                        && let Some(first) = bytes.get(..record.bytes as usize)
                    {
                        let before = before.as_deref_mut().map(mem::take).unwrap_or_default();
                        record.left_out = record.left_out.saturating_sub(before);
                        each(Heard::Event(record, first));
                    }
                }
            });
        }
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        // Nobody listens any more. Where that can't be said, what was granted comes to its end by itself.
        let _ = self.granted().and_then(|granted| {
            self.grant(Grant {
                reasons: 0,
                ..granted
            })
        });
    }
}

/// With which value of `kernel.perf_event_paranoid` this kernel lets no service listen, not even one that may (`CAP_PERFMON`) and may no more; nothing
/// where it lets. Asked of the kernel: most go by that right, whatever the value.
pub fn services_are_refused() -> Option<u8> {
    let processor = *online_cpus().ok()?.first()?;
    // What a thread gives up is gone for it alone.
    let tried = thread::spawn(move || {
        let own = CapabilitySets {
            effective: CapabilitySet::PERFMON,
            permitted: CapabilitySet::PERFMON,
            inheritable: CapabilitySet::empty(),
        };
        // Who may not listen himself knows nothing of others.
        set_capabilities(None, own)
            .ok()
            .map(|()| ring::writer(processor))
    });
    match paranoid(&tried.join().ok()??.err()?) {
        Some(Error::Paranoid { value }) => Some(value),
        _ => None,
    }
}

/// That the kernel lets nobody listen who has not all rights, if it is that: a setting of Debian's kernels, which others allow to be as high and
/// don't go by.
fn paranoid(error: &io::Error) -> Option<Error> {
    refused_by(error, &kernel::setting("kernel/perf_event_paranoid")?)
}

fn refused_by(error: &io::Error, setting: &str) -> Option<Error> {
    let value = setting.parse().ok()?;
    (error.raw_os_error() == Some(libc::EACCES) && value > 2).then_some(Error::Paranoid { value })
}

/// How much room an event with so many of a frame's bytes takes in a ring.
fn sample(bytes: usize) -> usize {
    /// The kernel's header and length, what may stand in front of a packet, and what makes it a multiple of eight.
    const AROUND: usize = 12 + 18 + 7;
    size_of::<Record>() + bytes + AROUND
}

/// How large a ring is, a power of two.
fn pages(sample: usize) -> usize {
    let processors = aya::util::nr_cpus().unwrap_or(1);
    let wanted = (EVENTS * sample).next_power_of_two();
    let most = (ROOM / processors).max(LEAST);
    // Of two powers of two the smaller one.
    let size = wanted.min((most / 2 + 1).next_power_of_two());
    (size / page_size()).next_power_of_two()
}

fn id(map: &MapData) -> Result<u32, Error> {
    map.info()
        .map(|info| info.id())
        .map_err(|error| Error::kernel("can't ask a map for its number", &error))
}

/// Keeps others from listening as long as it is open.
fn lock(folder: &Path) -> Result<File, Error> {
    let failed = |error: &io::Error| Error::io(format!("can't lock {}", folder.display()), error);
    let opened = File::open(folder).map_err(|error| failed(&error))?;
    match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(opened),
        Err(Errno::WOULDBLOCK) => Err(Error::Listens {
            who: holder(&opened).unwrap_or_else(|| "another process".to_owned()),
        }),
        Err(errno) => Err(failed(&errno.into())),
    }
}

/// Who has a file locked, as the kernel tells: `1: FLOCK  ADVISORY  WRITE 1234 00:1c:17 0 EOF`.
fn holder(file: &File) -> Option<String> {
    let known = file.metadata().ok()?;
    let (device, inode) = (known.dev(), known.ino());
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let process = locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, process, locked, ..] = words[..] else {
            return None;
        };
        (locked == file).then(|| process.to_owned())
    })?;
    let command = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let mut words: Vec<_> = command
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    words.truncate(3);
    let command = words.join(" ");
    Some(format!(
        "process {process} ({})",
        sipguard_lists::said::Said(command.trim())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_debian_forbids_is_named() {
        let forbidden = io::Error::from_raw_os_error(libc::EACCES);
        let error = refused_by(&forbidden, "3").map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("sysctl kernel.perf_event_paranoid=2")));
        assert!(refused_by(&forbidden, "2").is_none());
        assert!(refused_by(&io::Error::from_raw_os_error(libc::EMFILE), "3").is_none());
    }

    #[test]
    fn a_ring_has_room_for_a_grant() {
        for bytes in [0, 128, BYTES_MOST] {
            let pages = pages(sample(bytes));
            assert!(pages.is_power_of_two());
            assert!(pages * page_size() >= LEAST);
        }
        // With the usual bytes it is what every process has a right to (`kernel.perf_event_mlock_kb`).
        assert_eq!((EVENTS * sample(128)).next_power_of_two(), 512 << 10);
    }
}
