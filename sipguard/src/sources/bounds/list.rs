//! What a list of prefixes may have that comes from somewhere else.

use std::fmt;

use ipnet::IpNet;
use sipguard_lists::{found::Entry, task::Widest};

use super::{Broken, Circumstances, own};

/// The prefixes of a list, as they come.
pub(super) struct OfAList<'a> {
    widest: &'a Widest,
    size: Size,
}

impl<'a> OfAList<'a> {
    pub(super) fn new(widest: &'a Widest) -> Self {
        Self {
            widest,
            size: Size::default(),
        }
    }

    pub(super) fn entry(
        &mut self,
        entry: &Entry,
        circumstances: Circumstances<'_>,
    ) -> Result<bool, Broken> {
        let prefix = entry.prefix;
        if self.widest.is_beyond(prefix) {
            return Err(Broken::Wide(prefix));
        }
        if let Some(broken) = own(prefix, circumstances) {
            return Err(broken);
        }
        if entry.end.is_some() {
            return Err(Broken::End(prefix));
        }
        self.size.add(prefix);
        Ok(true)
    }

    /// Whether the list is still about what it was, where there was one.
    pub(super) fn whole(&self, before: Option<Size>) -> Result<(), Broken> {
        match before {
            Some(before) if self.size.is_another_than(before) => Err(Broken::Size {
                before: before.into(),
                now: self.size.into(),
            }),
            _ => Ok(()),
        }
    }
}

/// How much there is on a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    entries: u64,
    /// IPv4 addresses that it covers; what two entries cover counts once.
    ipv4: u128,
    /// IPv6 addresses that it covers. All of them count as one less.
    ipv6: u128,
    /// Whatever comes next and is not in this is not covered yet.
    last: Option<IpNet>,
}

impl Size {
    /// Adds a prefix that is above all that were there.
    pub(in crate::sources) fn add(&mut self, prefix: IpNet) {
        self.entries += 1;
        if self.last.is_some_and(|last| last.contains(&prefix)) {
            return;
        }
        self.last = Some(prefix);
        let bits = prefix.max_prefix_len() - prefix.prefix_len();
        let covered = 1_u128.checked_shl(bits.into()).unwrap_or(u128::MAX);
        let all = match prefix {
            IpNet::V4(_) => &mut self.ipv4,
            IpNet::V6(_) => &mut self.ipv6,
        };
        *all = all.saturating_add(covered);
    }

    /// Whether there is half as much or less, or twice as much or more, of anything. Where there was nothing, there can be no more of it.
    fn is_another_than(self, before: Self) -> bool {
        let is_another =
            |before: u128, now: u128| before > 0 && (now <= before / 2 || now / 2 >= before);
        is_another(before.entries.into(), self.entries.into())
            || is_another(before.ipv4, self.ipv4)
            || is_another(before.ipv6, self.ipv6)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries", self.entries)?;
        if self.ipv4 > 0 {
            write!(f, ", {} IPv4 addresses", self.ipv4)?;
        }
        if self.ipv6 > 0 {
            write!(f, ", {} IPv6 addresses", self.ipv6)?;
        }
        Ok(())
    }
}
