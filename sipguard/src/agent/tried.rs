//! What is told of attempts: of the first source that tries something at once, and then every ten minutes of all that began to since, by the
//! busiest one. So a flood of forged scanners is a line, and not a thousand.

use std::collections::BTreeMap;

use super::{
    happened::{Attempt, Happened},
    knocks::{Attempted, Knock},
};

/// How long sources are taken together, nanoseconds of the boot clock.
const EVERY: u64 = 10 * 60 * 1_000_000_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Tried {
    of: BTreeMap<Attempted, Waiting>,
}

/// Those who began to try one thing and were not told of yet.
#[derive(Debug, Default)]
struct Waiting {
    /// Before that nothing is told.
    due: u64,
    sources: u64,
    packets: u64,
    /// The one that knocked most.
    busiest: Option<(u64, Happened)>,
}

impl Tried {
    /// A source has begun to try something.
    pub fn note(&mut self, knock: &Knock, attempted: Attempted) {
        let waiting = self.of.entry(attempted).or_default();
        waiting.sources += 1;
        waiting.packets = waiting.packets.saturating_add(knock.told);
        let busiest = waiting.busiest.as_ref();
        if busiest.is_none_or(|(packets, _)| knock.told > *packets) {
            waiting.busiest = Some((knock.told, happened(knock, attempted)));
        }
    }

    /// What is to be told now.
    pub fn due(&mut self, now: u64) -> Vec<Happened> {
        let mut all = Vec::new();
        for waiting in self.of.values_mut() {
            if now < waiting.due {
                continue;
            }
            let Some((_, mut happened)) = waiting.busiest.take() else {
                continue;
            };
            if let Happened::ScanTried { who, .. }
            | Happened::BruteForceTried { who, .. }
            | Happened::TollFraudTried { who, .. } = &mut happened
            {
                who.others = waiting.sources - 1;
                who.packets = waiting.packets;
            }
            *waiting = Waiting {
                due: now + EVERY,
                ..Waiting::default()
            };
            all.push(happened);
        }
        all
    }
}

fn happened(knock: &Knock, attempted: Attempted) -> Happened {
    let who = Attempt {
        source: knock.source,
        others: 0,
        packets: knock.told,
        since: knock.first,
    };
    let text = |text: &str| text.to_owned();
    match attempted {
        Attempted::Scan => Happened::ScanTried {
            who,
            user_agent: knock.user_agents.most().map(|agent| text(agent)),
        },
        Attempted::BruteForce => Happened::BruteForceTried {
            who,
            user: knock.users.most().map(|user| text(user)),
        },
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
        tried.note(&knock(1, 3), Attempted::Scan);
        assert_eq!(who(&tried.due(5)), [("198.51.100.1".to_owned(), 0, 3)]);
        assert!(tried.due(5).is_empty());
        for number in 2..1000 {
            tried.note(&knock(number, number.into()), Attempted::Scan);
        }
        assert!(tried.due(5 + EVERY - 1).is_empty());
        // Another thing is told of at once.
        tried.note(&knock(7, 1), Attempted::TollFraud);
        assert_eq!(who(&tried.due(6)).len(), 1);
        let sum = (2..1000).sum();
        assert_eq!(
            who(&tried.due(5 + EVERY)),
            [("198.51.103.231".to_owned(), 997, sum)]
        );
        assert!(tried.due(u64::MAX - EVERY).is_empty());
    }
}
