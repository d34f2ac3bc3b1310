//! What moves by itself, put together: bans of other programs, and the entries of live sources.

mod lengths;

use ipnet::IpNet;
use jiff::Timestamp;
use sipguard_ebpf::abi::{ALLOW_CONFIG, DENY_CONFIG, DENY_OWN, Value};
use sipguard_lists::task::Kind;

pub use self::lengths::{Used, spread};
use super::{Now, own::until_on_the_boot_clock};
use crate::{
    policy::{Action, LiveSource},
    state::{Ban, Bans},
};

/// What one of them says of a prefix, or of prefixes that are spread over several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The prefix.
    pub prefix: IpNet,
    /// When it ends by itself, nanoseconds of the boot clock; [`Self::NEVER`].
    until: u64,
    by: By,
}

/// Who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Another program, of all services.
    Ban,
    /// The source of this number.
    Source(u16),
}

impl Word {
    const NEVER: u64 = u64::MAX;

    /// A ban; none where it has ended.
    pub fn of_ban(ban: &Ban, now: Now) -> Option<Self> {
        Some(Self {
            prefix: ban.prefix,
            until: until(ban.until, now)?,
            by: By::Ban,
        })
    }

    /// A ban, by what it has become in the kernel; none where a live source says so, or nobody.
    pub fn of_banned(prefix: IpNet, value: Value) -> Option<Self> {
        let until = match value {
            Value { permanent, .. } if permanent & DENY_OWN != 0 => Self::NEVER,
            Value {
                origin: NO_ORIGIN,
                deny_until: until @ 1..,
                ..
            } => until,
            _ => return None,
        };
        Some(Self {
            prefix,
            until,
            by: By::Ban,
        })
    }

    /// An entry of a source, which is a number among the policy's live ones; none where it has ended.
    pub fn of_source(source: u16, prefix: IpNet, end: Option<Timestamp>, now: Now) -> Option<Self> {
        Some(Self {
            prefix,
            until: until(end, now)?,
            by: By::Source(source),
        })
    }
}

/// What bans say.
pub fn banned(bans: &Bans, now: Now) -> Vec<Word> {
    let words = bans.iter().filter_map(|ban| Word::of_ban(ban, now));
    words.collect()
}

fn until(end: Option<Timestamp>, now: Now) -> Option<u64> {
    match end {
        None => Some(Word::NEVER),
        Some(end) => until_on_the_boot_clock(end, now),
    }
}

/// The origin of what no source says.
const NO_ORIGIN: u16 = u16::MAX;

/// The value of what is said of one prefix in a service, whose number is its place in the policy. On one prefix an address of a name comes
/// before all else: it is told by somebody who was asked for it, and a ban may be of a forged one. Otherwise deny comes before allow.
pub fn value_of<'w>(
    words: impl IntoIterator<Item = &'w Word>,
    service: u8,
    sources: &[LiveSource],
) -> Option<Value> {
    let mut named: Option<(Action, u16)> = None;
    let mut value = Value::default();
    let mut origin = [None; 2];
    for word in words {
        let By::Source(source) = word.by else {
            match word.until {
                Word::NEVER => value.permanent |= DENY_OWN,
                until => value.deny_until = value.deny_until.max(until),
            }
            continue;
        };
        let Some(source) = sources.get(usize::from(source)) else {
            continue;
        };
        let uses = source.uses.iter().filter(|it| it.service == service);
        for action in uses.map(|it| it.action) {
            if let Kind::Names(_) = source.task.kind {
                let said = (action, source.origin);
                named = Some(named.map_or(said, |known| match (known.0, action) {
                    (Action::Allow, Action::Deny) => said,
                    _ => known,
                }));
                continue;
            }
            match (action, word.until) {
                (Action::Allow, Word::NEVER) => value.permanent |= ALLOW_CONFIG,
                (Action::Allow, until) => value.allow_until = value.allow_until.max(until),
                (Action::Deny, Word::NEVER) => value.permanent |= DENY_CONFIG,
                (Action::Deny, until) => value.deny_until = value.deny_until.max(until),
            }
            let first = &mut origin[usize::from(action == Action::Allow)];
            *first = first.or(Some(source.origin));
        }
    }
    if let Some((action, origin)) = named {
        let permanent = match action {
            Action::Allow => ALLOW_CONFIG,
            Action::Deny => DENY_CONFIG,
        };
        return Some(Value {
            permanent,
            origin,
            ..Value::default()
        });
    }
    if value.permanent & (DENY_CONFIG | DENY_OWN) != 0 {
        value.permanent &= !ALLOW_CONFIG;
        value.allow_until = 0;
    }
    value.origin = origin[0].or(origin[1]).unwrap_or(NO_ORIGIN);
    let says_nothing = value.permanent == 0 && value.deny_until | value.allow_until == 0;
    (!says_nothing).then_some(value)
}

/// Hands over the values of all that is said, by prefix: in each service, whose numbers in the kernel these are, with the lengths that are to be
/// in use there.
pub fn values(
    mut words: Vec<Word>,
    sources: &[LiveSource],
    services: &[(u8, Used)],
    mut each: impl FnMut(IpNet, u8, Value),
) {
    let mut spread_words = Vec::new();
    for (index, &(number, used)) in (0u8..).zip(services) {
        let words = if words
            .iter()
            .all(|word| used.place(word.prefix) == word.prefix.prefix_len())
        {
            // Those of a source are sorted, and then this is quick.
            words.sort_by_key(|word| word.prefix);
            &words
        } else {
            let spread = words.iter().flat_map(|word| {
                let keys = spread(word.prefix, used.place(word.prefix));
                keys.map(|prefix| Word { prefix, ..*word })
            });
            spread_words.clear();
            spread_words.extend(spread);
            spread_words.sort_by_key(|word| word.prefix);
            &spread_words
        };
        for said in words.chunk_by(|one, other| one.prefix == other.prefix) {
            if let Some(value) = value_of(said, index, sources) {
                each(said[0].prefix, number, value);
            }
        }
    }
}
