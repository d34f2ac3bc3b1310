//! `ipset save`: `create NAME TYPE …` and `add NAME ELEMENT …`.

use std::{cmp::Reverse, collections::HashMap};

use super::{
    addresses::{self, Addresses, Range},
    notes::Unread,
    ruleset::{Condition, Field, Key, Members, Set, SetId, SetOf, Test},
};

/// A set as it is read.
struct Reading {
    name: String,
    /// What stands between its commas, such as `ip`, `port`, `net`.
    parts: Vec<String>,
    ranges: Vec<(Range, bool)>,
    rows: Vec<Vec<Field>>,
    ports: Vec<(u128, u128)>,
    /// Of a list of sets, with where they stand.
    sets: Vec<(String, usize)>,
    timed: usize,
    unreadable: bool,
}

/// The sets, in the order in which they were made; so many others are known already.
pub(super) fn read(text: &str, before: usize, unread: &mut Unread) -> Vec<Set> {
    let mut sets: Vec<Reading> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("create" | "-N" | "--create"), Some(name), Some(kind)) if kind.contains(':') => {
                let (_, parts) = kind.split_once(':').unwrap_or_default();
                places.insert(name.to_owned(), sets.len());
                sets.push(Reading {
                    name: name.to_owned(),
                    parts: parts.split(',').map(str::to_owned).collect(),
                    ranges: Vec::new(),
                    rows: Vec::new(),
                    ports: Vec::new(),
                    sets: Vec::new(),
                    timed: 0,
                    unreadable: false,
                });
            }
            (Some("add"), Some(name), Some(element)) => {
                let place = *places.entry(name.to_owned()).or_insert_with(|| {
                    sets.push(Reading {
                        name: name.to_owned(),
                        parts: vec!["net".to_owned()],
                        ranges: Vec::new(),
                        rows: Vec::new(),
                        ports: Vec::new(),
                        sets: Vec::new(),
                        timed: 0,
                        unreadable: false,
                    });
                    sets.len() - 1
                });
                let set = &mut sets[place];
                if let Err(why) = set.add(element, words, number) {
                    set.unreadable |= set.parts != ["net"] && set.parts != ["ip"];
                    unread.add(number, line, why);
                }
            }
            (Some("add" | "create"), ..) => {
                unread.add(number, line, "this line is not complete");
            }
            // The rest of a file that rules follow in is theirs.
            _ => {}
        }
    }
    finish(sets, before, unread)
}

impl Reading {
    fn add<'w>(
        &mut self,
        element: &str,
        rest: impl Iterator<Item = &'w str>,
        line: usize,
    ) -> Result<(), String> {
        let mut rest = rest.peekable();
        let mut excepted = false;
        while let Some(word) = rest.next() {
            match word {
                "nomatch" => excepted = true,
                "timeout" => self.timed += usize::from(rest.next() != Some("0")),
                _ => {}
            }
        }
        match self.parts.as_slice() {
            [part] if part == "ip" || part == "net" => {
                let range = addresses::parse(element).or_else(|error| {
                    // `hash:ip` with a netmask prints addresses with host bits.
                    element
                        .parse()
                        .map(|prefix: ipnet::IpNet| Range::of(prefix.trunc()))
                        .map_err(|_| error)
                })?;
                self.ranges.push((range, excepted));
            }
            [part] if part == "port" => {
                let (_, first, last) = ports(element)?;
                self.ports.push((first, last));
            }
            [part] if part == "set" => self.sets.push((element.to_owned(), line)),
            _ if excepted => {
                self.unreadable = true;
                return Err("an exception in a set of several things".to_owned());
            }
            parts => {
                let mut row = Vec::new();
                let mut words = element.split(',');
                for part in parts {
                    let word = words.next().unwrap_or_default();
                    match part.as_str() {
                        "ip" | "net" => row.push(Field::Addresses(addresses::parse(word)?)),
                        "port" => {
                            let (protocol, first, last) = ports(word)?;
                            row.push(Field::Numbers(protocol, protocol));
                            row.push(Field::Numbers(first, last));
                        }
                        "iface" => row.push(Field::Name(word.to_owned())),
                        other => return Err(format!("a set of {other}")),
                    }
                }
                self.rows.push(row);
            }
        }
        Ok(())
    }
}

/// A protocol's number (TCP where none is named) and ports.
fn ports(text: &str) -> Result<(u128, u128, u128), String> {
    let (protocol, ports) = text.split_once(':').unwrap_or(("tcp", text));
    let protocol = match protocol {
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        "udplite" => 136,
        // Protocols without ports are asked about by nobody.
        "icmp" => 1,
        "icmpv6" => 58,
        other => other
            .parse::<u8>()
            .map_err(|_| format!("the protocol {other}"))?
            .into(),
    };
    if protocol == 1 || protocol == 58 {
        return Ok((protocol, 0, 0));
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| {
        text.parse::<u16>()
            .map(u128::from)
            .map_err(|_| format!("the port {text}"))
    };
    Ok((protocol, number(first)?, number(last)?))
}

fn finish(sets: Vec<Reading>, before: usize, unread: &mut Unread) -> Vec<Set> {
    let mut made: Vec<Set> = Vec::new();
    let mut lists = Vec::new();
    for mut set in sets {
        // Of elements that lie in each other the narrowest one counts.
        set.ranges
            .sort_by_key(|(range, _)| Reverse(range.last - range.first));
        let mut addresses = Addresses::default();
        for (range, excepted) in set.ranges {
            if excepted {
                addresses.remove(range);
            } else {
                addresses.insert(range);
            }
        }
        let members = match set.parts.as_slice() {
            [part] if part == "ip" || part == "net" => Members::Addresses(addresses),
            [part] if part == "port" => Members::Numbers(set.ports.into_iter().collect()),
            [part] if part == "set" => {
                lists.push((made.len(), set.sets));
                Members::Addresses(addresses)
            }
            [part] if part == "mac" => {
                set.unreadable = true;
                Members::Addresses(addresses)
            }
            _ => Members::Rows(set.rows),
        };
        made.push(Set {
            name: set.name,
            members,
            timed: set.timed,
            unreadable: set.unreadable,
            lists: Vec::new(),
        });
    }
    for (place, names) in lists {
        let mut all = Addresses::default();
        for (name, line) in names {
            let found = made.iter_mut().find(|set| set.name == name);
            if let Some((Members::Addresses(addresses), lists)) =
                found.map(|set| (&set.members, &mut set.lists))
            {
                all.add(addresses);
                lists.push(before + place);
            } else {
                made[place].unreadable = true;
                unread.add(
                    line,
                    &name,
                    "a set inside a set, which is not one of addresses",
                );
            }
        }
        made[place].members = Members::Addresses(all);
    }
    made
}

/// What `--match-set NAME DIRECTIONS` asks; nothing where that can't be told.
pub(super) fn condition(
    set: &Set,
    number: SetId,
    directions: &str,
    negated: bool,
) -> Option<Condition> {
    let directions: Vec<&str> = directions.split(',').collect();
    let address = |direction: &str| match direction {
        "src" => Key::Source,
        _ => Key::Destination,
    };
    let keys = match &set.members {
        Members::Addresses(_) => vec![address(directions.first()?)],
        Members::Numbers(_) => vec![match *directions.first()? {
            "src" => Key::SourcePort,
            _ => Key::DestinationPort,
        }],
        Members::Names(_) => return None,
        Members::Rows(rows) => {
            let mut keys = Vec::new();
            let mut directions = directions.iter();
            let mut fields = rows.first().map_or(&[][..], Vec::as_slice).iter();
            while let Some(field) = fields.next() {
                let direction = directions.next()?;
                match field {
                    Field::Addresses(_) => keys.push(address(direction)),
                    Field::Numbers(..) => {
                        // The protocol, and with it the port.
                        fields.next();
                        keys.push(Key::Protocol);
                        keys.push(match *direction {
                            "src" => Key::SourcePort,
                            _ => Key::DestinationPort,
                        });
                    }
                    Field::Name(_) => keys.push(match *direction {
                        "src" => Key::Interface,
                        _ => Key::OutInterface,
                    }),
                    Field::Any => return None,
                }
            }
            keys
        }
    };
    Some(Condition {
        test: Test::In {
            keys,
            set: SetOf::Named(number),
            negated,
        },
        text: None,
    })
}
