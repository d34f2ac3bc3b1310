//! Who was allowed in the last thirty days. Whoever is dropped and stands in here, or next to somebody who does, is worth a word: most outages
//! are providers that have moved, and not attacks.
//!
//! It is kept by the agent, from what is in force, in one file that only root reads. What it has no room for it does not know: then nobody is told
//! of a move, and nothing else is wrong. It never decides about a packet.

use std::{
    collections::{BTreeMap, HashMap},
    io, mem,
    path::Path,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sipguard_ebpf::abi::{ALLOW_OWN, Layer, Reason, Value};
use sipguard_lists::task::Kind;

use super::kept;
use crate::{datapath, lifecycle::Live, policy::least_specific_ban, state::State, tables::Now};

/// The file, in the folder of the state.
pub const FILE: &str = "allowed.json";
/// How long somebody is remembered.
pub const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How many entries are remembered; those that were seen last come first.
pub const MOST: usize = 65_536;
/// The form of the file.
const VERSION: u32 = 1;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// By service and prefix, so that neighbours stand together.
    entries: BTreeMap<(u8, IpNet), Seen>,
    /// Which prefix lengths there are or were, of both families: a bit each. Whoever is looked for is looked for in these only, with each event.
    lengths: [Lengths; 2],
    services: Vec<String>,
    sources: Vec<String>,
    /// The number of the last look.
    looks: u16,
}

/// From 1 to 128, the lowest bit being that of 1.
type Lengths = u128;

/// An entry that allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// Index into the sources, of which there may be more during a look than there are entries afterwards.
    source: u32,
    /// The look that saw it last.
    look: u16,
    /// What that look found.
    found: Found,
    /// Until when it was in force as far as is known, seconds since 1970: until its end, which may be still to come, or until that look.
    until: i64,
}

// Of so many there is one each.
const _: () = assert!(size_of::<Seen>() == 16);

/// How long an entry is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Until somebody takes it away.
    Stays,
    /// Until its end.
    Ends,
    /// It is no more, or nobody has looked since the file was read.
    Gone,
}

impl Seen {
    /// Until when it was in force, where that is asked at a moment. What stays was in force until then: a change is looked at soon.
    fn until(self, now: i64) -> i64 {
        match self.found {
            Found::Stays => now,
            Found::Ends | Found::Gone => self.until.min(now),
        }
    }
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    /// The source that had it, or the comment of the command line's entry, or `command line`.
    pub source: &'a str,
    /// The entry.
    pub entry: IpNet,
    seen: Seen,
}

impl Known<'_> {
    /// Until when the entry was in force, where that is asked at a moment; until then, where it may be in force still.
    pub fn until(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_second(self.seen.until(now.as_second())).unwrap_or(now)
    }
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    services: Vec<String>,
    sources: Vec<String>,
    entries: Vec<(u8, IpNet, u16, i64)>,
}

/// The source of what `sipguard allow` said without a comment.
pub const COMMAND_LINE: &str = "command line";

impl Allowed {
    /// Reads what was kept. Nothing, where there is no file; a damaged one tells nothing, and is written anew.
    ///
    /// # Errors
    /// Where the file can't be read, or not as such.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let Some(written) = kept::read::<Written>(folder, FILE)? else {
            return Ok(Self::default());
        };
        if written.version != VERSION {
            return Err(io::Error::other("it is another version's"));
        }
        let (services, sources) = (written.services.len(), written.sources.len());
        let entries = written.entries.into_iter().take(MOST);
        let entries = entries.filter(|&(service, _, source, _)| {
            usize::from(service) < services && usize::from(source) < sources
        });
        let mut read = Self {
            entries: entries
                .map(|(service, prefix, source, until)| {
                    // What became of it since, nobody has seen.
                    let seen = Seen {
                        source: source.into(),
                        look: 0,
                        found: Found::Gone,
                        until,
                    };
                    ((service, prefix.trunc()), seen)
                })
                .collect(),
            services: written.services,
            sources: written.sources,
            ..Self::default()
        };
        read.forget_names();
        read.note_lengths();
        Ok(read)
    }

    /// Writes it.
    ///
    /// # Errors
    /// Where the disk does not take it; what was there before stays.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let entries = self.entries.iter();
        let written = Written {
            version: VERSION,
            services: self.services.clone(),
            sources: self.sources.clone(),
            entries: entries
                .filter_map(|(&(service, prefix), seen)| {
                    let source = u16::try_from(seen.source).ok()?;
                    Some((service, prefix, source, seen.until))
                })
                .collect(),
        };
        kept::write(folder, FILE, &written)
    }

    /// Looks at all that is in force. Returns whether somebody came or went, or has another end, since it was looked at last.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    pub fn look(&mut self, live: &Live, state: &State, now: Now) -> Result<bool, datapath::Error> {
        let commented = state.entries.iter().filter_map(|own| {
            let place = (own.prefix, own.service.as_str());
            Some((place, own.comment.as_deref()?))
        });
        let comments: HashMap<_, _> = commented.collect();
        let mut look = Look::begin(self, now.wall);
        let description = &live.generation.description;
        live.generation.for_each(|entry| {
            if entry.value.live(|| now.boot_ns) != Some(Reason::Allowed) {
                return;
            }
            let Some(found) = description.service_at(entry.service) else {
                return;
            };
            let origin = entry.value.origin;
            let source = match entry.layer {
                Layer::Hand if is_own(&entry.value) => {
                    let place = (entry.prefix, found.service.name.as_str());
                    comments.get(&place).copied().unwrap_or(COMMAND_LINE)
                }
                Layer::Hand => match description.origins.get(usize::from(origin)) {
                    Some(origin) => &origin.source,
                    None => return,
                },
                Layer::Live => {
                    let mut sources = description.live.iter();
                    match sources.find(|source| source.origin == origin) {
                        // A country is nobody's provider.
                        Some(source) if !matches!(source.task.kind, Kind::Countries(_)) => {
                            &source.task.source
                        }
                        _ => return,
                    }
                }
            };
            let end = end(&entry.value, now);
            look.see(&found.service.name, entry.prefix, source, end);
        })?;
        let least = state.clock.least(now.boot_ns);
        let others = look.end(least);
        self.forget(least);
        Ok(others)
    }

    /// Forgets what was not in force for long, and what there is no room for. A clock that is ahead, and not sure yet, makes nobody forgotten:
    /// it is certainly as late as `least`.
    fn forget(&mut self, least: Timestamp) {
        let oldest = least.saturating_sub(KEPT).unwrap_or(least).as_second();
        self.entries.retain(|_, seen| seen.until >= oldest);
        if self.entries.len() > MOST {
            // What is in force, and then what was until lately.
            let looks = self.looks;
            let rank = |seen: &Seen| (seen.look == looks, seen.until);
            let mut ranks: Vec<_> = self.entries.values().map(rank).collect();
            ranks.sort_unstable_by(|one, other| other.cmp(one));
            let edge = ranks[MOST - 1];
            let mut room = MOST - ranks.partition_point(|rank| *rank > edge);
            self.entries.retain(|_, seen| {
                let is_at_edge = rank(seen) == edge && room > 0;
                room -= usize::from(is_at_edge);
                is_at_edge || rank(seen) > edge
            });
        }
        self.forget_names();
        self.note_lengths();
    }

    /// Forgets names of sources and services, and comments, that no entry has any more.
    fn forget_names(&mut self) {
        let used = self.entries.values().map(|seen| place(seen.source));
        let numbers: Vec<u32> = keep_used(&mut self.sources, used);
        for seen in self.entries.values_mut() {
            if let Some(number) = numbers.get(place(seen.source)) {
                seen.source = *number;
            }
        }
        let before = self.services.len();
        let used = self
            .entries
            .keys()
            .map(|(service, _)| usize::from(*service));
        let numbers: Vec<u8> = keep_used(&mut self.services, used);
        if self.services.len() < before {
            let entries = mem::take(&mut self.entries).into_iter();
            let entries = entries.filter_map(|((service, prefix), seen)| {
                let number = numbers.get(usize::from(service))?;
                Some(((*number, prefix), seen))
            });
            self.entries = entries.collect();
        }
    }

    fn note_lengths(&mut self) {
        self.lengths = Default::default();
        for (_, prefix) in self.entries.keys() {
            // Nobody who is among everybody is remembered; a damaged file may say so.
            if let Some(bit) = prefix.prefix_len().checked_sub(1) {
                self.lengths[family(*prefix)] |= 1 << bit;
            }
        }
    }

    /// What is known of an address in a service: that it was allowed itself, by the most specific entry that says so.
    pub fn itself(&self, service: &str, address: IpNet) -> Option<Known<'_>> {
        let service = self.service(service)?;
        let beyond = Lengths::BITS - u32::from(address.prefix_len());
        let within = Lengths::MAX.checked_shr(beyond).unwrap_or_default();
        let mut lengths = self.lengths[family(address)] & within;
        let longest_first = std::iter::from_fn(|| {
            let bit = lengths.checked_ilog2()?;
            lengths ^= 1 << bit;
            u8::try_from(bit + 1).ok()
        });
        let mut covering =
            longest_first.filter_map(|length| IpNet::new(address.addr(), length).ok());
        covering.find_map(|net| {
            let net = net.trunc();
            let seen = self.entries.get(&(service, net))?;
            self.known(net, *seen)
        })
    }

    /// Its neighbour, in the same /24 (IPv6: /64), that is or was allowed.
    pub fn neighbour(&self, service: &str, address: IpNet) -> Option<Known<'_>> {
        let service = self.service(service)?;
        let around = match address {
            IpNet::V4(net) => IpNet::V4(Ipv4Net::new_assert(net.addr(), 24)),
            IpNet::V6(net) => IpNet::V6(Ipv6Net::new_assert(net.addr(), 64)),
        }
        .trunc();
        let last = IpNet::from(around.broadcast());
        let mut inside = self.entries.range((service, around)..=(service, last));
        // What is as large as that, or larger, has no neighbours.
        let (&(_, entry), &seen) =
            inside.find(|((_, net), _)| net.prefix_len() > around.prefix_len())?;
        self.known(entry, seen)
    }

    /// As if these were in force at that moment: service, prefix and source.
    #[cfg(test)]
    pub(super) fn of(now: Timestamp, entries: &[(&str, &str, &str)]) -> Self {
        let mut allowed = Self::default();
        tests::see(&mut allowed, now, entries);
        allowed
    }

    fn service(&self, name: &str) -> Option<u8> {
        let place = self.services.iter().position(|known| known == name)?;
        u8::try_from(place).ok()
    }

    fn known(&self, entry: IpNet, seen: Seen) -> Option<Known<'_>> {
        Some(Known {
            source: self.sources.get(place(seen.source))?,
            entry,
            seen,
        })
    }
}

/// Which of the two.
fn family(net: IpNet) -> usize {
    usize::from(matches!(net, IpNet::V6(_)))
}

/// Whether it is the command line that allows: the config file's words have no end.
fn is_own(value: &Value) -> bool {
    value.permanent & ALLOW_OWN != 0 || value.allow_until != 0
}

/// When what allows now ends by itself; none where it does not.
fn end(value: &Value, now: Now) -> Option<Timestamp> {
    let left = value.allow_until.checked_sub(now.boot_ns)?;
    if value.live(|| value.allow_until) == Some(Reason::Allowed) {
        return None;
    }
    now.wall.checked_add(Duration::from_nanos(left)).ok()
}

/// One look at what is in force.
struct Look<'a> {
    allowed: &'a mut Allowed,
    others: bool,
    now: i64,
}

impl<'a> Look<'a> {
    fn begin(allowed: &'a mut Allowed, now: Timestamp) -> Self {
        allowed.looks = allowed.looks.wrapping_add(1);
        Self {
            allowed,
            others: false,
            now: now.as_second(),
        }
    }

    fn see(&mut self, service: &str, prefix: IpNet, source: &str, end: Option<Timestamp>) {
        if prefix.prefix_len() < least_specific_ban(prefix) {
            // Nobody's own: everybody, for a certificate's two minutes, or half the world.
            return;
        }
        let Some(service) = number(&mut self.allowed.services, service) else {
            return;
        };
        let Some(source) = number(&mut self.allowed.sources, source) else {
            return;
        };
        let entries = &mut self.allowed.entries;
        // What is in force comes before what was, and some of that has to go.
        let has_room = entries.len() < 2 * MOST;
        let seen = Seen {
            source,
            look: self.allowed.looks,
            found: end.map_or(Found::Stays, |_| Found::Ends),
            until: end.map_or(self.now, Timestamp::as_second),
        };
        match entries.get_mut(&(service, prefix)) {
            Some(before) => {
                // The clocks are not asked at quite the same moment.
                let is_same_end = before.until.abs_diff(seen.until) <= 1;
                self.others |= before.source != source
                    || before.found != seen.found
                    || seen.found == Found::Ends && !is_same_end;
                *before = seen;
            }
            None if has_room => {
                self.others = true;
                entries.insert((service, prefix), seen);
            }
            None => {}
        }
    }

    /// What was not seen is in force no longer: it ended, or was taken away a moment ago. Returns whether anything changed. What has gone before
    /// was not in force later than now, if it is certain that it is not later: a clock that goes back says nothing of it.
    fn end(self, least: Timestamp) -> bool {
        let Self {
            allowed,
            mut others,
            now,
        } = self;
        let is_certain = least.as_second() >= now;
        let looks = allowed.looks;
        let gone = allowed.entries.values_mut();
        for seen in gone.filter(|seen| seen.look != looks) {
            let until = match seen.found {
                Found::Gone if !is_certain => continue,
                _ => seen.until(now),
            };
            others |= seen.until != until;
            (seen.found, seen.until) = (Found::Gone, until);
        }
        others
    }
}

/// An index.
fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The number of a name, which gets one where it has none; none where there are too many.
fn number<N: TryFrom<usize>>(names: &mut Vec<String>, name: &str) -> Option<N> {
    if let Some(place) = names.iter().position(|known| known == name) {
        return N::try_from(place).ok();
    }
    let number = N::try_from(names.len()).ok()?;
    names.push(name.to_owned());
    Some(number)
}

/// Keeps of these names those that are used, by number. Returns the number that each has from then on.
fn keep_used<N: TryFrom<usize>>(
    names: &mut Vec<String>,
    used: impl Iterator<Item = usize>,
) -> Vec<N> {
    let mut is_used = vec![false; names.len()];
    for number in used {
        if let Some(is_used) = is_used.get_mut(number) {
            *is_used = true;
        }
    }
    let mut stays = is_used.iter();
    names.retain(|_| stays.next().copied().unwrap_or_default());
    names.shrink_to_fit();
    // A number is never larger than the one before, so what is used has one.
    let numbers = is_used.iter().scan(0, |next, is_used| {
        let number = N::try_from(*next).ok()?;
        *next += usize::from(*is_used);
        Some(number)
    });
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sipguard_ebpf::abi::{ALLOW_CONFIG, DENY_CONFIG};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + second).unwrap()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    /// What was seen at a moment.
    pub(super) fn see(
        allowed: &mut Allowed,
        now: Timestamp,
        entries: &[(&str, &str, &str)],
    ) -> bool {
        let entries = entries.iter();
        let entries: Vec<_> = entries
            .map(|&(service, prefix, source)| (service, prefix, source, None))
            .collect();
        see_ending(allowed, now, &entries)
    }

    /// The same of entries that may have an end.
    fn see_ending(
        allowed: &mut Allowed,
        now: Timestamp,
        entries: &[(&str, &str, &str, Option<Timestamp>)],
    ) -> bool {
        let mut look = Look::begin(allowed, now);
        for &(service, prefix, source, end) in entries {
            look.see(service, net(prefix), source, end);
        }
        let others = look.end(now);
        allowed.forget(now);
        others
    }

    fn allowed() -> Allowed {
        let mut allowed = Allowed::default();
        let entries = [
            ("sip", "203.0.113.0/24", "trunk"),
            ("sip", "198.51.100.7/32", "other"),
            ("sip", "198.51.96.0/20", "wide"),
            ("sip", "2001:db8:1:2::7/128", "trunk"),
            ("sip", "2001:db8:9::/48", "wide"),
            ("web", "192.0.2.10/32", "admins"),
        ];
        assert!(see(&mut allowed, at(0), &entries));
        assert!(!see(&mut allowed, at(60), &entries), "nothing new");
        allowed
    }

    #[test]
    fn an_address_is_known_by_the_most_specific_entry() {
        let allowed = allowed();
        let itself = |service, address| {
            let known = allowed.itself(service, net(address));
            known.map(|known| (known.source, known.entry.to_string()))
        };
        let known = |source, entry: &str| Some((source, entry.to_owned()));
        assert_eq!(
            itself("sip", "203.0.113.9/32"),
            known("trunk", "203.0.113.0/24")
        );
        assert_eq!(
            itself("sip", "198.51.100.7/32"),
            known("other", "198.51.100.7/32")
        );
        assert_eq!(
            itself("sip", "198.51.100.8/32"),
            known("wide", "198.51.96.0/20")
        );
        assert_eq!(itself("web", "198.51.100.7/32"), None, "in another service");
        assert_eq!(itself("sip", "192.0.2.10/32"), None);
        assert_eq!(itself("no", "203.0.113.9/32"), None);
    }

    fn until(allowed: &Allowed, address: &str, now: Timestamp) -> Timestamp {
        allowed.itself("sip", net(address)).unwrap().until(now)
    }

    #[test]
    fn what_has_an_end_was_allowed_until_then_whenever_it_is_looked_at() {
        let address = "198.51.100.7/32";
        let mut allowed = Allowed::default();
        let ending = |end| [("sip", address, "command line", Some(at(end)))];
        assert!(see_ending(&mut allowed, at(0), &ending(40)));
        let until_at = |allowed: &Allowed, second| until(allowed, address, at(second));
        assert_eq!(until_at(&allowed, 30), at(30), "it is in force");
        // Nobody has looked since.
        assert_eq!(until_at(&allowed, 41), at(40));
        assert_eq!(until_at(&allowed, 3000), at(40));
        assert!(!see(&mut allowed, at(3600), &[]), "that was known");
        assert_eq!(until_at(&allowed, 3601), at(40));

        // It is said anew, and gets another end.
        assert!(see_ending(&mut allowed, at(4000), &ending(9000)));
        assert!(!see_ending(&mut allowed, at(4060), &ending(9001)));
        assert!(see_ending(&mut allowed, at(4120), &ending(9999)));
        // Somebody takes it away before.
        assert!(see(&mut allowed, at(5000), &[]));
        assert_eq!(until_at(&allowed, 20_000), at(5000));
    }

    #[test]
    fn what_has_no_end_was_allowed_until_it_is_missed() {
        let mut allowed = allowed();
        let address = "203.0.113.9/32";
        // It has gone since it was looked at; when, will be seen.
        assert_eq!(until(&allowed, address, at(3599)), at(3599));
        assert!(see(&mut allowed, at(3600), &[]));
        assert!(!see(&mut allowed, at(7200), &[]), "nothing new");
        assert_eq!(until(&allowed, address, at(8000)), at(3600));
        // A clock that goes back says nothing that is still to come, and changes nothing.
        assert_eq!(until(&allowed, address, at(100)), at(100));
        let look = Look::begin(&mut allowed, at(100));
        assert!(!look.end(at(-400)));
        assert_eq!(until(&allowed, address, at(8000)), at(3600));
    }

    #[test]
    fn what_was_to_end_much_later_is_forgotten_thirty_days_after_it_ended() {
        let (day, address) = (86_400, "198.51.100.7/32");
        let ending = [("sip", address, "trunk", Some(at(400 * day)))];
        let mut allowed = Allowed::default();
        see_ending(&mut allowed, at(0), &ending);
        let folder = tempfile::tempdir().unwrap();
        allowed.write(folder.path()).unwrap();
        // The agent may have been away when it was taken back.
        for mut allowed in [Allowed::read(folder.path()).unwrap(), allowed] {
            assert_eq!(until(&allowed, address, at(day)), at(day));
            assert!(see(&mut allowed, at(2 * day), &[]));
            see(&mut allowed, at(32 * day), &[]);
            assert_eq!(until(&allowed, address, at(32 * day)), at(2 * day));
            see(&mut allowed, at(32 * day + 1), &[]);
            assert!(allowed.itself("sip", net(address)).is_none());
        }
    }

    #[test]
    fn what_allows_ends_where_the_kernel_says_so_and_nothing_else_allows() {
        let now = Now {
            boot_ns: 5_000_000_000,
            wall: at(0),
        };
        let value = |allow_until, deny_until, permanent| Value {
            allow_until,
            deny_until,
            permanent,
            ..Value::default()
        };
        for (value, ends) in [
            (value(45_000_000_000, 0, 0), Some(at(40))),
            (value(45_000_000_000, 0, DENY_CONFIG), Some(at(40))),
            (value(45_000_000_000, 4_000_000_000, 0), Some(at(40))),
            (value(45_000_000_000, 0, ALLOW_CONFIG), None),
            (value(4_000_000_000, 0, ALLOW_OWN), None),
            (value(0, 0, ALLOW_OWN), None),
        ] {
            assert_eq!(value.live(|| now.boot_ns), Some(Reason::Allowed));
            assert_eq!(end(&value, now), ends, "{value:?}");
        }
    }

    #[test]
    fn what_is_in_force_has_room_before_what_was_until_now() {
        let many: Vec<String> = (0..u32::try_from(MOST).unwrap())
            .map(|number| format!("{}/32", std::net::Ipv4Addr::from_bits(number << 4)))
            .collect();
        let entries: Vec<_> = many.iter().map(|it| ("sip", &**it, "feed")).collect();
        let mut allowed = Allowed::default();
        see(&mut allowed, at(0), &entries);
        // All of them go, and one comes.
        see(&mut allowed, at(60), &[("sip", "203.0.113.9/32", "trunk")]);
        assert_eq!(allowed.entries.len(), MOST);
        assert!(allowed.itself("sip", net("203.0.113.9/32")).is_some());
    }

    #[test]
    fn whoever_was_among_everybody_is_not_known() {
        let mut allowed = Allowed::default();
        let entries = [
            ("web", "0.0.0.0/0", "command line"),
            ("web", "::/0", "command line"),
            ("web", "10.0.0.0/15", "wide"),
            ("web", "2001:db8::/31", "wide"),
        ];
        assert!(!see(&mut allowed, at(0), &entries));
        for address in ["192.0.2.7/32", "10.0.0.1/32", "2001:db8::1/128"] {
            assert_eq!(allowed.itself("web", net(address)), None);
        }
    }

    #[test]
    fn neighbours_are_in_one_24_or_64() {
        let allowed = allowed();
        let neighbour = |service, address| {
            let known = allowed.neighbour(service, net(address));
            known.map(|known| known.entry.to_string())
        };
        let next = Some("198.51.100.7/32".to_owned());
        assert_eq!(neighbour("sip", "198.51.100.0/32"), next);
        assert_eq!(neighbour("sip", "198.51.100.255/32"), next);
        assert_eq!(neighbour("sip", "198.51.101.7/32"), None);
        assert_eq!(neighbour("sip", "198.51.99.255/32"), None);
        assert_eq!(neighbour("web", "198.51.100.9/32"), None);
        assert_eq!(
            neighbour("web", "192.0.2.1/32"),
            Some("192.0.2.10/32".to_owned())
        );
        assert_eq!(
            neighbour("sip", "203.0.113.1/32"),
            None,
            "all of it was allowed"
        );
        let next = Some("2001:db8:1:2::7/128".to_owned());
        assert_eq!(neighbour("sip", "2001:db8:1:2:ffff::1/128"), next);
        assert_eq!(neighbour("sip", "2001:db8:1:3::7/128"), None);
        assert_eq!(neighbour("sip", "2001:db8:9::1/128"), None);
    }

    #[test]
    fn thirty_days_are_remembered_and_no_more_than_there_is_room_for() {
        let mut allowed = allowed();
        let day = 86_400;
        see(&mut allowed, at(60), &[]);
        see(
            &mut allowed,
            at(30 * day),
            &[("sip", "192.0.2.1/32", "new")],
        );
        assert!(allowed.itself("sip", net("203.0.113.9/32")).is_some());
        see(&mut allowed, at(60 + 30 * day + 1), &[]);
        assert!(allowed.itself("sip", net("203.0.113.9/32")).is_none());
        assert!(allowed.itself("sip", net("192.0.2.1/32")).is_some());

        // More than there is room for: what is in force now stays.
        let many: Vec<String> = (0..u32::try_from(MOST).unwrap())
            .map(|number| format!("{}/32", std::net::Ipv4Addr::from_bits(number << 4)))
            .collect();
        let entries: Vec<_> = many.iter().map(|it| ("sip", &**it, "feed")).collect();
        see(&mut allowed, at(31 * day), &entries);
        assert_eq!(allowed.entries.len(), MOST);
        assert!(allowed.itself("sip", net("192.0.2.1/32")).is_none());
        assert!(allowed.itself("sip", net("0.0.0.16/32")).is_some());
    }

    #[test]
    fn names_that_nobody_has_any_more_are_forgotten_and_those_that_stay_are_not_mixed_up() {
        let mut allowed = allowed();
        let day = 86_400;
        let web = ("web", "192.0.2.10/32", "the lawyer of Jones");
        see(&mut allowed, at(20 * day), &[web]);
        assert_eq!(allowed.sources, ["trunk", "other", "wide", web.2]);
        // A month after the others, and nobody is left in the first service.
        let renamed = ("web", "192.0.2.10/32", "admins");
        see(&mut allowed, at(40 * day), &[renamed]);
        see(&mut allowed, at(51 * day), &[]);
        assert_eq!(
            (&*allowed.sources, &*allowed.services),
            (&["admins".to_owned()][..], &["web".to_owned()][..])
        );
        let known = allowed.itself("web", net("192.0.2.10/32")).unwrap();
        assert_eq!(known.source, "admins");
        let folder = tempfile::tempdir().unwrap();
        allowed.write(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(!text.contains("Jones") && !text.contains("trunk"), "{text}");
        let read = Allowed::read(folder.path()).unwrap();
        assert_eq!(
            read.itself("web", net("192.0.2.10/32")).unwrap().source,
            "admins"
        );
        assert_eq!(allowed.itself("sip", net("203.0.113.9/32")), None);
        // A service that comes anew gets a number as any other.
        see(
            &mut allowed,
            at(52 * day),
            &[("sip", "203.0.113.0/24", "trunk"), renamed],
        );
        let known = allowed.itself("sip", net("203.0.113.9/32")).unwrap();
        assert_eq!(known.source, "trunk");
    }

    #[test]
    fn names_that_were_there_before_leave_room_for_new_ones() {
        // More comments than there are numbers for in the file, if none was ever forgotten.
        let comments = 0..=u32::from(u16::MAX);
        let mut allowed = Allowed {
            sources: comments.map(|number| format!("comment {number}")).collect(),
            ..Allowed::default()
        };
        see(&mut allowed, at(0), &[("sip", "203.0.113.9/32", "trunk")]);
        let known = allowed.itself("sip", net("203.0.113.9/32")).unwrap();
        assert_eq!(known.source, "trunk");
        assert_eq!(allowed.sources, ["trunk"]);
        // As many services as there are numbers for.
        allowed.services = (0..=u8::MAX)
            .map(|number| format!("service {number}"))
            .collect();
        see(&mut allowed, at(60), &[("sip", "203.0.113.9/32", "trunk")]);
        see(&mut allowed, at(120), &[("sip", "203.0.113.9/32", "trunk")]);
        assert!(allowed.itself("sip", net("203.0.113.9/32")).is_some());
    }

    #[test]
    fn it_is_read_as_it_was_written_by_root_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        assert_eq!(Allowed::read(folder.path()).unwrap(), Allowed::default());
        let written = allowed();
        written.write(folder.path()).unwrap();
        let read = Allowed::read(folder.path()).unwrap();
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&file).unwrap();
        // Other versions read it, too.
        assert!(
            text.contains(r#"[0,"203.0.113.0/24",0,1780000060]"#),
            "{text}"
        );
        read.write(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        assert_eq!(until(&read, "203.0.113.9/32", at(100)), at(60));
        for damaged in [
            &text[..text.len() / 2],
            "",
            "[]",
            &text.replace("\"version\":1", "\"version\":2"),
        ] {
            fs::write(&file, damaged).unwrap();
            assert!(Allowed::read(folder.path()).is_err(), "{damaged}");
        }
        // Numbers that lead nowhere are left out.
        fs::write(&file, text.replace(",\"admins\"]", "]")).unwrap();
        let read = Allowed::read(folder.path()).unwrap();
        assert_eq!(read.entries.len(), written.entries.len() - 1);
    }
}
