//! What is told of attempts: of the first source that tries something at once, and then every ten minutes of all that began to since, by the
//! busiest one. So a flood of forged scanners is a line, and not a thousand.

use std::{collections::BTreeMap, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    attempts::{self, REGISTERS},
    happened::{Attempt, Happened},
    kept,
    knocks::{Attempted, Knock},
};
use crate::policy::Hide;

/// How long sources are taken together, nanoseconds of the boot clock.
const EVERY: u64 = 10 * 60 * 1_000_000_000;

/// The file of what waits, in sipguard's folder: who knocks is known there to try something, and would never be told of again.
pub const FILE: &str = "tried.json";

/// See the module.
#[derive(Debug, Default)]
pub struct Tried {
    of: BTreeMap<Attempted, Waiting>,
    /// Whether something is to be written.
    changed: bool,
}

/// Those who began to try one thing and were not told of yet.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Waiting {
    /// Before that nothing is told; whoever is started anew tells at once.
    #[serde(skip)]
    due: u64,
    sources: u64,
    packets: u64,
    /// Whether a packet of theirs passed, in monitor mode.
    passed: bool,
    /// The one that knocked most. Put into words when it is told of: until then more may be to be hidden.
    busiest: Option<Knock>,
}

impl Tried {
    /// Goes on with what waited when an agent ended. Nothing, where there is no file.
    ///
    /// # Errors
    /// Where the file can't be read, or not as such.
    pub fn read(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            of: kept::read(folder, FILE)?.unwrap_or_default(),
            changed: false,
        })
    }

    /// Writes it, where something has changed since it was.
    ///
    /// # Errors
    /// Where the disk does not take it; what was there before stays.
    pub fn write(&mut self, folder: &Path) -> io::Result<()> {
        if self.changed {
            kept::write(folder, FILE, &self.of)?;
            self.changed = false;
        }
        Ok(())
    }

    /// A source has begun to try something, with a packet that was dropped, or [passed](Attempt::passed).
    pub fn note(&mut self, knock: &Knock, attempted: Attempted, passed: bool) {
        self.changed = true;
        let waiting = self.of.entry(attempted).or_default();
        waiting.sources += 1;
        waiting.passed |= passed;
        waiting.packets = waiting.packets.saturating_add(knock.told);
        let busiest = waiting.busiest.as_ref();
        if busiest.is_none_or(|busiest| knock.told > busiest.told) {
            waiting.busiest = Some(knock.clone());
        }
    }

    /// Hides what was not told of yet.
    pub fn hide(&mut self, hide: Hide) {
        for waiting in self.of.values_mut() {
            if let Some(busiest) = &mut waiting.busiest {
                self.changed |= busiest.hide(hide);
            }
        }
    }

    /// What is to be told now.
    pub fn due(&mut self, now: u64) -> Vec<Happened> {
        let mut all = Vec::new();
        for (attempted, waiting) in &mut self.of {
            if now < waiting.due {
                continue;
            }
            let Some(busiest) = waiting.busiest.take() else {
                continue;
            };
            let who = Attempt {
                source: busiest.source,
                others: waiting.sources - 1,
                packets: waiting.packets,
                since: busiest.first,
                passed: waiting.passed,
            };
            self.changed = true;
            all.push(happened(who, &busiest, *attempted));
            *waiting = Waiting {
                due: now + EVERY,
                ..Waiting::default()
            };
        }
        all
    }
}

fn happened(who: Attempt, knock: &Knock, attempted: Attempted) -> Happened {
    let text = |text: &str| text.to_owned();
    match attempted {
        Attempted::Scan => Happened::ScanTried {
            who,
            user_agent: knock.user_agents.most().map(|agent| text(agent)),
        },
        Attempted::BruteForce => {
            let is_one = |attempt: &attempts::Attempt<'_>| matches!(attempt, attempts::Attempt::BruteForce { in_a_minute, .. } if *in_a_minute >= REGISTERS);
            let user = knock.users.most();
            Happened::BruteForceTried {
                who,
                // Who guesses many names none.
                user: user
                    .filter(|_| attempts::of(knock).iter().any(is_one))
                    .map(|user| text(user)),
            }
        }
        Attempted::TollFraud => {
            let mut numbers = knock.numbers.iter().map(|seen| &seen.what);
            let number = numbers.find(|number| number.high_risk);
            let number = number.or(knock.numbers.most());
            let known = |number: Option<&str>| number.map(text);
            Happened::TollFraudTried {
                who,
                number: number.and_then(|it| known(it.number.as_deref())),
                country: number.and_then(|it| known(it.country.as_deref())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use jiff::Timestamp;

    use super::*;
    use crate::{agent::knocks::Knocks, events::Event};

    fn knock(number: u32, told: u64) -> Knock {
        let source = IpAddr::from(Ipv4Addr::from_bits(0xc633_6400 + number));
        let mut knock = Knock::new(source, Timestamp::UNIX_EPOCH);
        knock.told = told;
        knock
    }

    fn who(happened: &[Happened]) -> Vec<(String, u64, u64)> {
        let who = happened.iter().map(|happened| match happened {
            Happened::ScanTried { who, .. } | Happened::TollFraudTried { who, .. } => {
                (who.source.to_string(), who.others, who.packets)
            }
            other => panic!("{other:?}"),
        });
        who.collect()
    }

    #[test]
    fn a_flood_of_scanners_is_told_of_once_in_ten_minutes() {
        let mut tried = Tried::default();
        assert!(tried.due(5).is_empty());
        tried.note(&knock(1, 3), Attempted::Scan, false);
        assert_eq!(who(&tried.due(5)), [("198.51.100.1".to_owned(), 0, 3)]);
        assert!(tried.due(5).is_empty());
        for number in 2..1000 {
            tried.note(
                &knock(number, number.into()),
                Attempted::Scan,
                number == 500,
            );
        }
        assert!(tried.due(5 + EVERY - 1).is_empty());
        // Another thing is told of at once.
        tried.note(&knock(7, 1), Attempted::TollFraud, false);
        assert_eq!(who(&tried.due(6)).len(), 1);
        let sum = (2..1000).sum();
        assert_eq!(
            who(&tried.due(5 + EVERY)),
            [("198.51.103.231".to_owned(), 997, sum)]
        );
        assert!(tried.due(u64::MAX - EVERY).is_empty());
    }

    /// A packet with this method, of one source.
    fn event(method: &str, second: u32) -> Event {
        serde_json::from_value(serde_json::json!({
            "time": format!("2026-11-04T12:00:{second:02}Z"), "interface": "eth0", "service": "sip",
            "reason": "unlisted", "action": "drop", "enforced": true,
            "source": "198.51.100.7", "source_port": 5071,
            "destination": "192.0.2.1", "port": 5060, "protocol": "udp",
            "length": 400, "left_out": 0,
            "sip": {
                "method": method, "status": null, "user": "900972595123456", "from": "100",
                "user_agent": null, "call_id": null, "number": "972595123456",
                "country": "IL", "high_risk": false,
            },
        }))
        .expect("an event")
    }

    #[test]
    fn what_waits_is_hidden_too() {
        let mut knocks = Knocks::default();
        knocks.note(&event("INVITE", 0), Hide::default());
        for second in 0..REGISTERS {
            knocks.note(&event("REGISTER", second), Hide::default());
        }
        let knock = knocks.iter().next().expect("it has knocked");
        for attempted in [Attempted::TollFraud, Attempted::BruteForce] {
            for (hide, is_hidden) in [(Hide::default(), false), (Hide::EVERYTHING, true)] {
                let mut tried = Tried::default();
                tried.note(knock, attempted, false);
                tried.hide(hide);
                let happened = tried.due(0).pop().expect("it is due");
                let said = match &happened {
                    Happened::TollFraudTried { number, .. } => number,
                    Happened::BruteForceTried { user, .. } => user,
                    other => panic!("{other:?}"),
                };
                assert_eq!(said.is_none(), is_hidden, "{happened:?}");
            }
        }
    }

    /// Many users are nobody's password.
    #[test]
    fn whose_password_it_is_stands_there_where_it_is_one_users() {
        let mut knocks = Knocks::default();
        knocks.note(&event("REGISTER", 0), Hide::default());
        let mut tried = Tried::default();
        let knock = knocks.iter().next().expect("it has knocked");
        tried.note(knock, Attempted::BruteForce, true);
        let told = tried.due(0).pop().expect("it is due");
        assert!(
            told.sentence()
                .ends_with("not dropped, for that is monitor mode)"),
            "{told:?}"
        );
    }

    #[test]
    fn what_waited_is_told_of_by_the_next_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut tried = Tried::read(folder.path()).expect("there is none");
        tried.note(&knock(1, 3), Attempted::Scan, false);
        assert_eq!(tried.due(5).len(), 1);
        tried.note(&knock(2, 4), Attempted::Scan, false);
        assert!(tried.due(6).is_empty());
        tried.write(folder.path()).expect("it can be written");
        let mut next = Tried::read(folder.path()).expect("it is there");
        assert_eq!(who(&next.due(6)), [("198.51.100.2".to_owned(), 0, 4)]);
        next.write(folder.path()).expect("it can be written");
        let mut last = Tried::read(folder.path()).expect("it is there");
        assert!(last.due(6).is_empty());
        std::fs::write(folder.path().join(FILE), "{").expect("it can be written");
        assert!(Tried::read(folder.path()).is_err());
    }
}
