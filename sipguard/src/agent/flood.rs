//! Floods, noticed by the exact counters: what events tell is a sample.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use super::{happened::Happened, kept};

/// The file of what was counted last, and of the flood there is, in the folder of what runs: an agent that is started anew goes on with it.
pub const FILE: &str = "flood.json";

/// So many dropped packets a second are a flood: a scanner sends some ten, a password guesser some hundred.
const BEGINS: u64 = 1_000;
/// Below so many it is over.
const ENDS: u64 = 500;
/// For how long it has to be below that, in nanoseconds.
const QUIET: u64 = 60_000_000_000;

/// What was dropped, or was to be, on each interface since it counts.
pub type Dropped = Vec<(String, u64)>;

/// Looks at the counters every few seconds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Floods {
    before: Option<(u64, Dropped)>,
    flood: Option<Flood>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Flood {
    /// Nanoseconds of the boot clock.
    began: u64,
    /// When it was last as strong as a flood; the same.
    strong: u64,
    /// On each interface.
    packets: Dropped,
}

impl Floods {
    /// As it was written last; nothing, where it was not.
    ///
    /// # Errors
    /// Where the file can't be read, or not as such.
    pub fn read(folder: &Path) -> io::Result<Self> {
        kept::read(folder, FILE).map(Option::unwrap_or_default)
    }

    /// Writes it.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        kept::write(folder, FILE, self)
    }

    /// What was counted until this moment of the boot clock, in nanoseconds. Counters may begin at zero again.
    ///
    /// Returns how many packets were dropped since the look before, and whether a flood has begun or is over.
    pub fn look(&mut self, boot_ns: u64, dropped: Dropped) -> (u64, Option<Happened>) {
        let Some((then, before)) = self.before.replace((boot_ns, dropped.clone())) else {
            return (0, None);
        };
        let count = |of: &Dropped, name: &str| {
            let mut all = of.iter();
            all.find(|(known, _)| known == name)
                .map_or(0, |known| known.1)
        };
        let new: Dropped = dropped
            .into_iter()
            .map(|(name, now)| {
                let new = now.saturating_sub(count(&before, &name));
                (name, new)
            })
            .collect();
        let all = new.iter().map(|(_, packets)| packets).sum();
        (all, self.judge(then, boot_ns, all, new))
    }

    /// Whether so many, on each interface and in all, begin a flood or end it.
    fn judge(&mut self, then: u64, boot_ns: u64, all: u64, new: Dropped) -> Option<Happened> {
        let elapsed = boot_ns.saturating_sub(then).max(1);
        let rate = u128::from(all) * 1_000_000_000 / u128::from(elapsed);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        match &mut self.flood {
            None if rate >= BEGINS => {
                let interface = most(&new);
                self.flood = Some(Flood {
                    began: then,
                    strong: boot_ns,
                    packets: new,
                });
                Some(Happened::FloodBegan {
                    interface,
                    packets_per_second: rate,
                })
            }
            None => None,
            Some(flood) => {
                for (name, packets) in new {
                    let mut known = flood.packets.iter_mut();
                    match known.find(|(known, _)| *known == name) {
                        Some((_, sum)) => *sum += packets,
                        None => flood.packets.push((name, packets)),
                    }
                }
                if rate >= ENDS {
                    flood.strong = boot_ns;
                }
                if boot_ns.saturating_sub(flood.strong) < QUIET {
                    return None;
                }
                let flood = self.flood.take()?;
                Some(Happened::FloodEnded {
                    interface: most(&flood.packets),
                    packets: flood.packets.iter().map(|(_, packets)| packets).sum(),
                    seconds: flood.strong.saturating_sub(flood.began) / 1_000_000_000,
                })
            }
        }
    }
}

/// The interface with most.
fn most(packets: &Dropped) -> String {
    let most = packets.iter().max_by_key(|(_, packets)| packets);
    most.map(|(name, _)| name.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn dropped(eth0: u64, eth1: u64) -> Dropped {
        vec![("eth0".to_owned(), eth0), ("eth1".to_owned(), eth1)]
    }

    #[test]
    fn a_flood_is_told_of_when_it_begins_and_when_it_is_over() {
        let mut floods = Floods::default();
        let mut look =
            |second: u64, eth0, eth1| floods.look(second * SECOND, dropped(eth0, eth1)).1;
        // What was there before the agent says nothing.
        assert_eq!(look(100, 1_000_000, 0), None);
        assert_eq!(look(105, 1_004_000, 900), None, "980 a second");
        let began = Happened::FloodBegan {
            interface: "eth1".to_owned(),
            packets_per_second: 3_000,
        };
        assert_eq!(look(110, 1_009_000, 10_900), Some(began));
        assert_eq!(look(115, 1_009_000, 60_900), None);
        // Not over by pausing.
        assert_eq!(look(160, 1_009_000, 60_900), None);
        assert_eq!(look(165, 1_009_000, 65_900), None);
        assert_eq!(look(220, 1_009_000, 65_900), None);
        let ended = Happened::FloodEnded {
            interface: "eth1".to_owned(),
            packets: 70_001,
            seconds: 60,
        };
        assert_eq!(look(225, 1_009_001, 65_900), Some(ended));
        assert_eq!(look(230, 1_009_001, 65_900), None);
    }

    #[test]
    fn an_agent_that_is_started_anew_goes_on_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut floods = Floods::read(folder.path()).unwrap();
        floods.look(100 * SECOND, dropped(1_000_000, 0));
        let began = floods.look(102 * SECOND, dropped(1_010_000, 0));
        assert!(matches!(began, (10_000, Some(Happened::FloodBegan { .. }))));
        floods.write(folder.path()).unwrap();
        let mut floods = Floods::read(folder.path()).unwrap();
        // What was dropped meanwhile is part of it.
        let counted = floods.look(110 * SECOND, dropped(1_050_000, 0));
        assert_eq!(counted, (40_000, None));
        let ended = Happened::FloodEnded {
            interface: "eth0".to_owned(),
            packets: 50_000,
            seconds: 10,
        };
        assert_eq!(
            floods.look(170 * SECOND, dropped(1_050_000, 0)),
            (0, Some(ended))
        );
    }

    #[test]
    fn counters_that_begin_at_zero_are_no_flood() {
        let mut floods = Floods::default();
        let mut look = |second: u64, dropped| floods.look(second * SECOND, dropped);
        assert_eq!(look(1, dropped(9_000_000, 0)), (0, None));
        assert_eq!(look(6, dropped(10, 0)), (0, None));
        assert_eq!(look(11, dropped(20, 0)), (10, None));
        // One interface is gone, another one there.
        let others = vec![("eth2".to_owned(), 4_000)];
        assert_eq!(look(16, others), (4_000, None), "800 a second");
    }
}
