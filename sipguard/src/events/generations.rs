//! What generations call interfaces and services, which are numbers in the kernel's records: events are made of both.

use sipguard_ebpf::event::Record;

use super::event::{Event, Names, service};
use crate::{
    clock::Now,
    datapath::{Description, Generation},
    policy::Hide,
};

/// See the module.
#[derive(Debug, Default)]
pub struct Generations {
    /// Those that were asked for last.
    known: Vec<(u64, Option<Description>)>,
}

/// How many are kept: while an apply waits to be confirmed there are two, and an interface that can't be turned to the newest runs an older one.
const KNOWN: usize = 8;

impl Generations {
    /// The event of this record, with the frame's first bytes that follow it.
    pub fn event(&mut self, record: &Record, first: &[u8], now: Now) -> Event {
        Event::new(record, first, self.names(record), now)
    }

    /// The same, without the frame's bytes: for whoever wants to know what they say alone.
    pub fn said(&mut self, record: &Record, first: &[u8], now: Now) -> Event {
        Event::said(record, first, self.names(record), now)
    }

    /// What of the record nobody is to keep, as its generation says: everything, where that one is gone and can't be asked.
    pub fn hide(&mut self, record: &Record) -> Hide {
        let description = self.description(record.generation);
        description.map_or(Hide::EVERYTHING, |description| description.hide)
    }

    fn names(&mut self, record: &Record) -> Names<'_> {
        names(self.description(record.generation), record)
    }

    fn description(&mut self, number: u64) -> Option<&Description> {
        let place = self.known.iter().position(|(known, _)| *known == number);
        let place = place.unwrap_or_else(|| {
            if self.known.len() == KNOWN {
                self.known.remove(0);
            }
            let generation = Generation::open(number).ok();
            self.known
                .push((number, generation.map(|it| it.description)));
            self.known.len() - 1
        });
        self.known[place].1.as_ref()
    }
}

/// What the record's numbers are called in the generation that it is from. One that is gone already has taken the names with it.
fn names<'d>(description: Option<&'d Description>, record: &Record) -> Names<'d> {
    let interface = description.and_then(|it| it.interfaces.get(usize::from(record.slot)));
    let found = service(record).and_then(|slot| description?.service_at(slot));
    Names {
        interface: interface.map_or("", |interface| &interface.name),
        service: found.map(|found| found.service.name.as_str()),
    }
}
