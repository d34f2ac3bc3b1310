//! What a list of prefixes may have that comes from somewhere else.

use std::fmt;

use ipnet::IpNet;
use sipguard_lists::{found::Entry, prefix, task::Widest};

use super::{Broken, Circumstances, own};

/// The prefixes of a list, as they come.
pub(super) struct OfAList<'a> {
    widest: &'a Widest,
}

impl<'a> OfAList<'a> {
    pub(super) fn new(widest: &'a Widest) -> Self {
        Self { widest }
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
        Ok(true)
    }
}

/// How much there is on a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    entries: u64,
    /// IPv4 addresses that its entries cover; what two of them cover counts twice.
    ipv4: u128,
    /// IPv6 addresses that its entries cover.
    ipv6: u128,
}

impl Size {
    /// Adds a prefix.
    pub(in crate::sources) fn add(&mut self, prefix: IpNet) {
        self.entries += 1;
        self.cover(prefix, prefix.prefix_len(), 1);
    }

    /// Adds what another one has.
    pub(in crate::sources) fn add_all(&mut self, other: Self) {
        self.entries += other.entries;
        self.ipv4 = self.ipv4.saturating_add(other.ipv4);
        self.ipv6 = self.ipv6.saturating_add(other.ipv6);
    }

    /// Adds entries as they stand in a file, so many, from the first to the last of these prefixes.
    pub(in crate::sources) fn add_lines(
        &mut self,
        lines: &[u8],
        count: usize,
        first: IpNet,
        last: IpNet,
    ) {
        let is_v6 = |prefix: IpNet| matches!(prefix, IpNet::V6(_));
        if is_v6(first) != is_v6(last) {
            // Where one family ends and the other one begins, which is once in a file.
            let prefixes = lines.split(|&byte| byte == b'\n').filter_map(prefix_of);
            prefixes.for_each(|prefix| self.add(prefix));
            return;
        }
        self.entries += count as u64;
        let mut hosts = count as u64;
        for slash in memchr::memchr_iter(b'/', lines) {
            // In a comment quotes have a backslash in front.
            let (length, behind) = number(&lines[slash + 1..]);
            if let Some(length) = length
                && behind.starts_with(b"\",\"first\":")
                && length <= first.max_prefix_len()
            {
                hosts -= 1;
                self.cover(first, length, 1);
            }
        }
        self.cover(first, first.max_prefix_len(), hosts);
    }

    /// So many prefixes of this length.
    fn cover(&mut self, family: IpNet, length: u8, count: u64) {
        let bits = family.max_prefix_len() - length;
        let each = 1_u128.checked_shl(bits.into()).unwrap_or(u128::MAX);
        let all = match family {
            IpNet::V4(_) => &mut self.ipv4,
            IpNet::V6(_) => &mut self.ipv6,
        };
        *all = all.saturating_add(each.saturating_mul(count.into()));
    }

    /// Whether there is half as much or less, or twice as much or more, of anything. Where there was nothing, there can be no more of it.
    pub(super) fn is_another_than(self, before: Self) -> bool {
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

/// The prefix with which a line begins.
fn prefix_of(line: &[u8]) -> Option<IpNet> {
    let rest = line.strip_prefix(b"{\"prefix\":\"")?;
    let text = rest.split(|&byte| byte == b'"').next()?;
    prefix::parse(str::from_utf8(text).ok()?).ok()
}

/// The number with which a text begins, and what comes behind it.
fn number(text: &[u8]) -> (Option<u8>, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, behind) = text.split_at(digits.min(3));
    let number = str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok());
    (number, behind)
}
