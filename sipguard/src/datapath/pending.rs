//! An apply that waits to be confirmed.
//!
//! Its generation has, for each interface and place, a second program that only hands frames on (`pending-IF`): before the deadline to the
//! generation's own program there, after it to the previous generation's. The interfaces run these. `choice-IF` is the array with the two
//! programs: the kernel empties such an array when no process and no pin holds it, whatever program uses it, so that it is pinned as long
//! as it is needed. `deadline` says the rest, and makes the folder that of a pending generation.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use aya::programs::{ProgramError, ProgramFd, SchedClassifier, Xdp};
use aya_obj::programs::XdpAttachType;
use sipguard_ebpf::abi::{NEW, OLD};

use super::{
    Error, Place, Role, Target, load,
    pins::{self, prefix},
    programs::interfaces,
    table::Table,
};
use crate::tables::Now;

/// The pin that holds the deadline, and the number of the generation before (0 where there was none: numbers begin at 1).
const DEADLINE: &str = "deadline";

/// A generation that is in force until its deadline, and the one that is from then on, unless it is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The generation that waits to be confirmed.
    pub generation: u64,
    /// The one before; `None` where nothing was filtered.
    pub previous: Option<u64>,
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub deadline: u64,
}

impl Pending {
    /// Makes what a pinned generation needs to wait for so long. Nothing is attached yet. Where it fails, nothing of it stays pinned.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn create(
        generation: u64,
        previous: Option<u64>,
        targets: &[Target],
        lasts: Duration,
        now: Now,
    ) -> Result<Self, Error> {
        let lasts = u64::try_from(lasts.as_nanos()).unwrap_or(u64::MAX);
        let pending = Self {
            generation,
            previous,
            deadline: now.boot_ns.saturating_add(lasts),
        };
        let made = pending.make(targets);
        if made.is_err() {
            // The first error is the one to tell; what can't be removed now is cleared up by the next command.
            let _ = Self::remove(generation);
        }
        made.map(|()| pending)
    }

    fn make(&self, targets: &[Target]) -> Result<(), Error> {
        let folder = pins::generation(self.generation);
        for target in targets {
            for place in Place::ALL {
                self.add(&target.interface.name, place)?;
            }
        }
        let deadline = Table::<u32, u64>::array(DEADLINE, 2)?;
        deadline
            .update(&[0, 1], &[self.deadline, self.previous.unwrap_or_default()])
            .map_err(|error| Error::io("can't write the deadline", &error))?;
        deadline.pin(&folder.join(DEADLINE))
    }

    /// Makes the same for an interface that came while it waits, once both generations have programs for it.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn extend(&self, interface: &str) -> Result<(), Error> {
        let folder = pins::generation(self.generation);
        for place in Place::ALL {
            let pending = pins::program(self.generation, place, Role::Pending, interface);
            pins::remove(&pending)?;
            pins::remove(&folder.join(choice(place, interface)))?;
            self.add(interface, place)?;
        }
        Ok(())
    }

    fn add(&self, interface: &str, place: Place) -> Result<(), Error> {
        let failed = |error: &io::Error| {
            Error::io(
                format!("can't make the pending program for {interface}"),
                error,
            )
        };
        let mut object = load::pending_object(self.deadline)?;
        let choice_map: Table<u32, u32> = load::take(&mut object, "GENERATIONS")?;
        let set = |at, program: &ProgramFd| {
            let program = program.as_fd().as_raw_fd().cast_unsigned();
            choice_map
                .set(&at, &program)
                .map_err(|error| failed(&error))
        };
        set(NEW, &open(self.generation, place, interface)?)?;
        let previous = self.previous.map_or(Ok(Vec::new()), interfaces)?;
        if let Some(old) = self.previous
            && previous.iter().any(|it| it == interface)
        {
            set(OLD, &open(old, place, interface)?)?;
        }
        let path = pins::program(self.generation, place, Role::Pending, interface);
        let pending = load::program(&object, place, "pending")?;
        pending.pin(&path).map_err(|error| failed(&error))?;
        choice_map.pin(&pins::generation(self.generation).join(choice(place, interface)))
    }

    /// What a pinned generation says of itself; `None` where it is not pending.
    pub(super) fn of(generation: u64) -> Result<Option<Self>, Error> {
        let path = pins::generation(generation).join(DEADLINE);
        if !path.exists() {
            return Ok(None);
        }
        let table = Table::<u32, u64>::open(&path)?;
        let read = |place| {
            let value = table.get(&place);
            value.map_err(|error| Error::io(format!("can't read {}", path.display()), &error))
        };
        Ok(Some(Self {
            generation,
            previous: read(1)?.filter(|&previous| previous != 0),
            deadline: read(0)?.unwrap_or_default(),
        }))
    }

    /// Removes the pins that only a pending generation has; the generation stays. No link may need them any more.
    ///
    /// # Errors
    /// Where a pin can't be removed.
    pub fn remove(generation: u64) -> Result<(), Error> {
        let folder = pins::generation(generation);
        for pin in pins::names(&folder)? {
            let mut places = Place::ALL.into_iter();
            let of_pending = |place| {
                pin.starts_with(prefix(place, Role::Pending))
                    || pin.starts_with(choice_prefix(place))
            };
            if pin == DEADLINE || places.any(of_pending) {
                pins::remove(&folder.join(pin))?;
            }
        }
        Ok(())
    }

    /// Whether the time to confirm is over.
    pub fn lapsed(&self, now: Now) -> bool {
        self.left(now).is_none()
    }

    /// How much time is left to confirm; `None` where it is over.
    pub fn left(&self, now: Now) -> Option<Duration> {
        let left = self.deadline.checked_sub(now.boot_ns);
        left.filter(|&left| left > 0).map(Duration::from_nanos)
    }
}

/// What the names of the arrays' pins begin with.
const fn choice_prefix(place: Place) -> &'static str {
    match place {
        Place::Xdp => "choice-",
        Place::Tc => "tc-choice-",
    }
}

fn choice(place: Place, interface: &str) -> String {
    format!("{}{}", choice_prefix(place), pins::pin_name(interface))
}

/// A pinned generation's filter for an interface.
fn open(generation: u64, place: Place, interface: &str) -> Result<ProgramFd, Error> {
    let path = pins::program(generation, place, Role::Filter, interface);
    if !path.exists() {
        // It was made when there were none for this place.
        return Err(Error::OtherVersion {
            path: path.display().to_string(),
        });
    }
    let opened = match place {
        Place::Xdp => Xdp::from_pin(&path, XdpAttachType::Interface)
            .and_then(|program| program.fd()?.try_clone().map_err(ProgramError::from)),
        Place::Tc => SchedClassifier::from_pin(&path)
            .and_then(|program| program.fd()?.try_clone().map_err(ProgramError::from)),
    };
    opened.map_err(|error| Error::kernel(format!("can't open {}", path.display()), &error))
}
