//! Addresses as other tools write them, and sets of them in both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::intervals::Intervals;
use crate::prefix;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// All its addresses.
    pub(super) fn all(self) -> Intervals {
        Intervals::one(0, self.last())
    }

    /// Its highest address.
    pub(super) const fn last(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }

    /// How many bits its addresses have.
    pub(super) const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The address with this number, which is at most [`Self::last`].
    pub(super) fn address(self, number: u128) -> IpAddr {
        match self {
            // The number is at most 2³²−1.
            Self::V4 => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            Self::V6 => Ipv6Addr::from_bits(number).into(),
        }
    }

    /// The prefix that begins with this number. Its host bits are zero.
    pub(super) fn prefix(self, number: u128, length: u8) -> IpNet {
        match self.address(number) {
            IpAddr::V4(address) => Ipv4Net::new_assert(address, length).into(),
            IpAddr::V6(address) => Ipv6Net::new_assert(address, length).into(),
        }
    }

    pub(super) fn of(address: IpAddr) -> (Self, u128) {
        match address {
            IpAddr::V4(address) => (Self::V4, address.to_bits().into()),
            IpAddr::V6(address) => (Self::V6, address.to_bits()),
        }
    }
}

/// One family's addresses from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) family: Family,
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Range {
    pub(super) fn of(prefix: IpNet) -> Self {
        let (family, first) = Family::of(prefix.network());
        let (_, last) = Family::of(prefix.broadcast());
        Self {
            family,
            first,
            last,
        }
    }
}

/// An address, a prefix (by length or netmask), or a range (`a-b`).
pub(super) fn parse(text: &str) -> Result<Range, String> {
    if let Some((first, last)) = text.split_once('-') {
        let end = |text: &str| {
            let text = text.trim();
            prefix::parse(text)
                .map_err(|error| error.to_string())
                .map(|prefix| Family::of(prefix.addr()))
        };
        let ((family, first), (other, last)) = (end(first)?, end(last)?);
        if family != other || first > last {
            return Err(format!("{text} is no range of addresses"));
        }
        return Ok(Range {
            family,
            first,
            last,
        });
    }
    if let Some((address, mask)) = text.split_once('/')
        && mask.contains(['.', ':'])
    {
        let wrong = || format!("{text} is no prefix");
        let address = address.parse().map_err(|_| wrong())?;
        let mask = mask.parse().map_err(|_| wrong())?;
        let prefix = IpNet::with_netmask(address, mask).map_err(|_| wrong())?;
        return Ok(Range::of(prefix.trunc()));
    }
    prefix::parse(text)
        .map(Range::of)
        .map_err(|error| error.to_string())
}

/// Addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) v4: Intervals,
    pub(super) v6: Intervals,
}

impl Addresses {
    pub(super) fn of(&self, family: Family) -> &Intervals {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    pub(super) fn of_mut(&mut self, family: Family) -> &mut Intervals {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    pub(super) fn insert(&mut self, range: Range) {
        self.of_mut(range.family).insert(range.first, range.last);
    }

    pub(super) fn remove(&mut self, range: Range) {
        self.of_mut(range.family).remove(range.first, range.last);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.v4.add(other.v4.clone());
        self.v6.add(other.v6.clone());
    }
}
