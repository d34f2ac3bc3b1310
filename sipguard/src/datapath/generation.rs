//! One loaded set of programs and policy maps.

use std::{
    collections::BTreeMap,
    io,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

use ipnet::IpNet;
use sipguard_ebpf::{
    abi::{Key, Layer, Lengths, LinkKind, VERSION, Value},
    prefix::{V4, V6},
};

use super::{
    Description, Error, Place, Role, counters,
    load::{self, Plan, Sizes, Whose},
    object::Object,
    pins,
    plain::Plain,
    table::Table,
    tell,
};
use crate::{
    policy::Interface,
    tables::{
        Constants, Family, Region, Tables, Used, is_crowded, prefilter_words, region_words, samples,
    },
};

/// How many entries can be added in place before a new generation is needed. Room costs memory only where it is used, but for
/// 16 bytes a bucket.
const ROOM: usize = 65_536;

/// A generation, pinned or not.
pub struct Generation {
    /// What it is made from.
    pub description: Description,
    entries4: Table<Key<V4>, Value>,
    entries6: Table<Key<V6>, Value>,
    prefilter: Table<u32, u64>,
    lengths: Table<u32, Lengths>,
    revisions: Table<u32, u64>,
}

/// Up to where a generation has followed what is said outside of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revisions {
    /// Up to which change of the command line's own entries; [`Generation::BEHIND`] where it can't.
    pub own: u64,
    /// How many bytes the log of bans had.
    pub bans: u64,
    /// When all that is said live was compared with what is to be said, nanoseconds of the boot clock.
    pub compared: u64,
    /// Which copy of each live source, in the order of [`Description::live`].
    pub sources: Vec<u64>,
}

impl Revisions {
    const OWN: u32 = 0;
    const BANS: u32 = 1;
    const COMPARED: u32 = 2;
    const SOURCES: u32 = 3;
}

/// One entry of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The service's number in the kernel.
    pub service: u8,
    /// Who has said it.
    pub layer: Layer,
    /// The prefix.
    pub prefix: IpNet,
    /// What is said of it.
    pub value: Value,
}

/// An interface that a generation is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The interface as the policy has it.
    pub interface: Interface,
    /// What its frames begin with.
    pub link: LinkKind,
}

impl Generation {
    /// Loads and pins generation `number` with programs for every target. Nothing is attached yet. Where it fails, nothing stays pinned.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn create(
        number: u64,
        tables: &Tables,
        description: Description,
        targets: &[Target],
        revisions: Revisions,
    ) -> Result<Self, Error> {
        let folder = pins::generation(number);
        pins::remove_folder(&folder)?;
        pins::make_folder(&folder)?;
        let load = || {
            // The object that makes the maps gives the first program, too: loading it takes longer than all that is done with it.
            let whose = targets.first().map_or_else(
                || Whose::nobody(LinkKind::Ethernet),
                |target| whose(number, &description, target),
            );
            let shared = targets.first().map(shared_pins).transpose()?;
            let shared = shared.unwrap_or_default();
            let (made, mut object) =
                Self::make(tables, description, whose, revisions.sources.len(), shared)?;
            made.pin(&folder)?;
            // The kernel verifies programs without a look at what is in their maps.
            let pin_all = || {
                for (at, target) in targets.iter().enumerate() {
                    if at > 0 {
                        object = made.object(number, &tables.constants, target)?;
                    }
                    pin_programs(&mut object, number, target)?;
                }
                Ok(())
            };
            let (filled, pinned) = side_by_side(|| made.fill(tables, revisions), pin_all);
            filled.and(pinned).map(|()| made)
        };
        let made = load();
        if made.is_err() {
            // The first error is the one to tell; what can't be removed now is cleared up by the next command.
            let _ = pins::remove_folder(&folder);
        }
        made
    }

    /// Loads a generation that lives as long as this process, with the object whose programs look into its maps. None of them is
    /// loaded yet.
    pub(super) fn load(
        tables: &Tables,
        description: Description,
        whose: Whose,
    ) -> Result<(Self, Object), Error> {
        let (made, object) = Self::make(tables, description, whose, 0, Vec::new())?;
        made.fill(tables, Revisions::default())?;
        Ok((made, object))
    }

    /// Makes the maps, which have nothing in them yet.
    fn make(
        tables: &Tables,
        description: Description,
        whose: Whose,
        sources: usize,
        pins: Vec<(&'static str, PathBuf)>,
    ) -> Result<(Self, Object), Error> {
        let size = |used: usize| u32::try_from(used + ROOM).unwrap_or(u32::MAX);
        let sizes = Sizes {
            entries4: size(tables.entries4.said.len()),
            entries6: size(tables.entries6.said.len()),
            prefilter: u32::try_from(tables.prefilter.len()).unwrap_or(u32::MAX),
        };
        let mut object = load::object(&Plan {
            constants: &tables.constants,
            sizes,
            whose,
            pins,
        })?;
        let made = Self {
            description,
            entries4: load::take(&mut object, "ENTRIES4")?,
            entries6: load::take(&mut object, "ENTRIES6")?,
            prefilter: load::take(&mut object, "PREFILTER")?,
            lengths: load::take(&mut object, "LENGTHS")?,
            revisions: Table::array(
                "revision",
                Revisions::SOURCES + u32::try_from(sources).unwrap_or_default(),
            )?,
        };
        Ok((made, object))
    }

    fn fill(&self, tables: &Tables, revisions: Revisions) -> Result<(), Error> {
        let mut all = vec![revisions.own, revisions.bans, revisions.compared];
        all.extend(revisions.sources);
        let fill = || {
            self.prefilter.fill(&tables.prefilter)?;
            self.lengths.fill(&tables.lengths)?;
            self.entries4.update_all(&tables.entries4.said)?;
            self.entries6.update_all(&tables.entries6.said)?;
            self.revisions.fill(&all)
        };
        fill().map_err(|error: io::Error| Error::io("can't fill the maps", &error))
    }

    fn pin(&self, folder: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(&self.description)
            .map_err(|error| Error::kernel("can't write the description", &error))?;
        let description =
            Table::<u32, u8>::array("description", u32::try_from(text.len()).unwrap_or(u32::MAX))?;
        description
            .fill(&text)
            .map_err(|error| Error::io("can't write the description", &error))?;
        description.pin(&folder.join("description"))?;
        self.entries4.pin(&folder.join("entries4"))?;
        self.entries6.pin(&folder.join("entries6"))?;
        self.prefilter.pin(&folder.join("prefilter"))?;
        self.lengths.pin(&folder.join("lengths"))?;
        self.revisions.pin(&folder.join("revision"))
    }

    /// An object whose programs look into this generation's maps, pinned as `number`.
    fn object(&self, number: u64, constants: &Constants, target: &Target) -> Result<Object, Error> {
        let mut pins = load::policy_pins(&pins::generation(number));
        pins.extend(shared_pins(target)?);
        load::object(&Plan {
            constants,
            sizes: self.sizes()?,
            whose: whose(number, &self.description, target),
            pins,
        })
    }

    /// Makes the programs for an interface that came after the generation, pinned as `number`: one that was not there, or was another
    /// device of this name.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn add(&self, number: u64, target: &Target) -> Result<(), Error> {
        let name = &target.interface.name;
        let constants = self.description.constants();
        let mut object = self.object(number, &constants, target)?;
        for place in Place::ALL {
            pins::remove(&pins::program(number, place, Role::Filter, name))?;
            pins::remove(&pins::tellers(number, place, name))?;
        }
        pin_programs(&mut object, number, target)
    }

    pub(super) fn sizes(&self) -> Result<Sizes, Error> {
        Ok(Sizes {
            entries4: self.entries4.capacity()?,
            entries6: self.entries6.capacity()?,
            prefilter: self.prefilter.capacity()?,
        })
    }

    /// Opens a pinned generation.
    ///
    /// # Errors
    /// Where it is not there, incomplete, or of another version.
    pub fn open(number: u64) -> Result<Self, Error> {
        let folder = pins::generation(number);
        let path = folder.join("description");
        let table = Table::<u32, u8>::open(&path)?;
        let mut text = vec![0; table.capacity()? as usize];
        table
            .for_each(|place, byte| {
                if let Some(at) = text.get_mut(place as usize) {
                    *at = byte;
                }
            })
            .map_err(|error| Error::io(format!("can't read {}", path.display()), &error))?;
        let other_version = || Error::OtherVersion {
            path: folder.display().to_string(),
        };
        let description: Description =
            serde_json::from_slice(&text).map_err(|_| other_version())?;
        if description.abi != VERSION {
            return Err(other_version());
        }
        Ok(Self {
            description,
            entries4: Table::open(&folder.join("entries4"))?,
            entries6: Table::open(&folder.join("entries6"))?,
            prefilter: Table::open(&folder.join("prefilter"))?,
            lengths: Table::open(&folder.join("lengths"))?,
            revisions: Table::open(&folder.join("revision"))?,
        })
    }

    /// Removes the pins of a generation. One that a link still runs goes on filtering until the link is turned elsewhere.
    ///
    /// # Errors
    /// Where the pins can't be removed.
    pub fn remove(number: u64) -> Result<(), Error> {
        Ok(pins::remove_folder(&pins::generation(number))?)
    }

    /// The numbers of all pinned generations, the oldest first.
    ///
    /// # Errors
    /// Where the folder can't be read.
    pub fn all() -> Result<Vec<u64>, Error> {
        let mut numbers: Vec<u64> = pins::names(&pins::generations())?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The revision of a generation that has no room for all of the command line's own entries.
    pub const BEHIND: u64 = u64::MAX;

    /// Up to where the maps have followed.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn revisions(&self) -> Result<Revisions, Error> {
        let read = |place| -> Result<u64, Error> {
            let revision = self
                .revisions
                .get(&place)
                .map_err(|error| Error::io("can't read the revision", &error))?;
            Ok(revision.unwrap_or_default())
        };
        Ok(Revisions {
            own: read(Revisions::OWN)?,
            bans: read(Revisions::BANS)?,
            compared: read(Revisions::COMPARED)?,
            sources: (Revisions::SOURCES..)
                .take(self.description.live.len())
                .map(read)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Notes that the maps have followed the command line's own entries up to this change.
    ///
    /// # Errors
    /// Where the map can't be written.
    pub fn set_revision(&self, own: u64) -> Result<(), Error> {
        self.note_revision(Revisions::OWN, own)
    }

    /// Notes that the maps have followed the log of bans up to this length.
    ///
    /// # Errors
    /// Where the map can't be written.
    pub fn set_revision_of_bans(&self, bans: u64) -> Result<(), Error> {
        self.note_revision(Revisions::BANS, bans)
    }

    /// Notes when all that is said live was compared with what is to be said.
    ///
    /// # Errors
    /// Where the map can't be written.
    pub fn set_compared(&self, boot_ns: u64) -> Result<(), Error> {
        self.note_revision(Revisions::COMPARED, boot_ns)
    }

    /// Notes that the maps have followed this copy of a live source.
    ///
    /// # Errors
    /// Where the map can't be written.
    pub fn set_revision_of_source(&self, source: u16, copy: u64) -> Result<(), Error> {
        self.note_revision(Revisions::SOURCES + u32::from(source), copy)
    }

    fn note_revision(&self, place: u32, revision: u64) -> Result<(), Error> {
        self.revisions
            .update(&[place], &[revision])
            .map_err(|error| Error::io("can't write the revision", &error))
    }

    /// What is said of exactly this prefix in a layer.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn value(&self, service: u8, layer: Layer, prefix: IpNet) -> Result<Option<Value>, Error> {
        match prefix {
            IpNet::V4(prefix) => self.entries4.get(&V4::key(prefix, service, layer)),
            IpNet::V6(prefix) => self.entries6.get(&V6::key(prefix, service, layer)),
        }
        .map_err(|error| Error::io("can't look up an entry", &error))
    }

    /// The prefix lengths that are in use in a layer of a service.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn used(&self, service: u8, layer: Layer) -> Result<Used, Error> {
        let lengths = self.lengths.get(&u32::from(service));
        let lengths = lengths.map_err(|error| Error::io("can't read the lengths", &error))?;
        Ok(Used::of(lengths.unwrap_or_default().of(layer)))
    }

    /// Changes what is said of one prefix, at once: with one map update, before which everything is in place that leads to it. `None`
    /// removes the entry; what led to it may stay.
    ///
    /// # Errors
    /// [`Error::Full`] where there is no room for another entry; nothing has changed then that matters.
    pub fn set(
        &self,
        service: u8,
        layer: Layer,
        prefix: IpNet,
        value: Option<Value>,
    ) -> Result<(), Error> {
        match prefix {
            IpNet::V4(prefix) => self.put(&self.entries4, V4::key(prefix, service, layer), value),
            IpNet::V6(prefix) => self.put(&self.entries6, V6::key(prefix, service, layer), value),
        }
        .map_err(|error| match error.raw_os_error() {
            Some(libc::E2BIG) => Error::Full,
            _ => Error::io("can't change an entry", &error),
        })
    }

    fn put<A: Family>(
        &self,
        entries: &Table<Key<A>, Value>,
        key: Key<A>,
        value: Option<Value>,
    ) -> io::Result<()>
    where
        Key<A>: Plain,
    {
        let Some(value) = value else {
            return entries.remove(&key);
        };
        let mut words = BTreeMap::new();
        for (word, bits) in prefilter_words(&key, self.description.prefilter_shift) {
            *words.entry(word).or_insert(0) |= bits;
        }
        for (word, bits) in &mut words {
            *bits |= self.prefilter.get(word)?.unwrap_or_default();
        }
        let (words, bits): (Vec<u32>, Vec<u64>) = words.into_iter().unzip();
        self.prefilter.update(&words, &bits)?;

        let slot = u32::from(key.service());
        let mut lengths = self.lengths.get(&slot)?.unwrap_or_default();
        A::mark_length(&mut lengths, &key);
        self.lengths.update(&[slot], &[lengths])?;

        entries.update(&[key], &[value])
    }

    /// Makes anew what leads to the entries of a service, so that nothing is left of entries that are gone. It takes looking at every
    /// entry; packets are judged right meanwhile. Nobody else may change entries.
    ///
    /// # Errors
    /// Where a map can't be read or written.
    pub fn tidy(&self, service: u8) -> Result<(), Error> {
        fn add<A: Family>(region: &mut Region, service: u8, key: &Key<A>) {
            if key.service() == service {
                region.add(key);
            }
        }
        let shift = self.description.prefilter_shift;
        let mut region = Region::new(shift);
        let first = u32::from(service) * region_words(shift);
        let words: Vec<u32> = (first..first + region_words(shift)).collect();
        self.entries4
            .for_each(|key, _| add(&mut region, service, &key))
            .and_then(|()| {
                self.entries6
                    .for_each(|key, _| add(&mut region, service, &key))
            })
            .and_then(|()| self.prefilter.update(&words, &region.words))
            .and_then(|()| {
                let slot = u32::from(service);
                // What is spread goes by these, whether there is any of each now or not.
                if let Some(before) = self.lengths.get(&slot)? {
                    region.lengths.layers[Layer::Live as usize] = *before.of(Layer::Live);
                }
                self.lengths.update(&[slot], &[region.lengths])
            })
            .map_err(|error| Error::io("can't clear up behind an entry", &error))
    }

    /// Whether some service's part of the prefilter is to be made anew, see [`is_crowded`]. Reads a part of each.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn is_crowded(&self) -> Result<bool, Error> {
        let shift = self.description.prefilter_shift;
        for found in &self.description.services {
            for words in samples(found.slot, shift) {
                let words = words.map(|word| Ok(self.prefilter.get(&word)?.unwrap_or_default()));
                let words = words
                    .collect::<io::Result<Vec<_>>>()
                    .map_err(|error| Error::io("can't read the prefilter", &error))?;
                if is_crowded(&words, shift) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Hands every entry to `each`, in no order.
    ///
    /// # Errors
    /// Where a map can't be read.
    pub fn for_each(&self, mut each: impl FnMut(Entry)) -> Result<(), Error> {
        fn entry<A: Family>(key: &Key<A>, value: Value) -> Entry {
            Entry {
                service: key.service(),
                layer: key.layer(),
                prefix: A::net(key).into(),
                value,
            }
        }
        self.entries4
            .for_each(|key, value| each(entry(&key, value)))
            .and_then(|()| {
                self.entries6
                    .for_each(|key, value| each(entry(&key, value)))
            })
            .map_err(|error| Error::io("can't read the entries", &error))
    }
}

/// What an interface's programs are to be, of this generation.
fn whose(number: u64, description: &Description, target: &Target) -> Whose {
    let mut interfaces = description.interfaces.iter();
    let slot = interfaces.position(|interface| interface.name == target.interface.name);
    Whose {
        number,
        slot: u32::try_from(slot.unwrap_or_default()).unwrap_or_default(),
        link: target.link,
    }
}

/// What outlives generations: where the programs for an interface count, and what they tell with.
fn shared_pins(target: &Target) -> Result<Vec<(&'static str, PathBuf)>, Error> {
    let path = counters::path(&target.interface.name);
    counters::check(&path)?;
    let mut pins = tell::pins()?;
    pins.push(("COUNTERS", path));
    Ok(pins)
}

/// Loads and pins what an interface may run. The kernel verifies one program on one processor, and it is all that takes time here.
fn pin_programs(object: &mut Object, number: u64, target: &Target) -> Result<(), Error> {
    let interface = &target.interface.name;
    let failed =
        |error: &io::Error| Error::io(format!("can't pin a program for {interface}"), error);
    let xdp = (Place::Xdp, load::tellers(object, Place::Xdp)?);
    let tc = (Place::Tc, load::tellers(object, Place::Tc)?);
    let object = &*object;
    let pin = |(place, tellers): (Place, Table<u32, u32>)| {
        let filter = load::program(object, place, "filter")?;
        if tell::is_possible() {
            let tell = load::program(object, place, "tell")?;
            let set = tellers.set(&0, &tell.descriptor());
            set.map_err(|error| failed(&error))?;
            // The kernel empties such an array when no process and no pin holds it.
            tellers.pin(&pins::tellers(number, place, interface))?;
        }
        let path = pins::program(number, place, Role::Filter, interface);
        filter.pin(&path).map_err(|error| failed(&error))
    };
    let (xdp, tc) = side_by_side(|| pin(xdp), || pin(tc));
    xdp.and(tc)
}

/// Does both at once.
fn side_by_side<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (
            one.join().unwrap_or_else(|panic| resume_unwind(panic)),
            other,
        )
    })
}
