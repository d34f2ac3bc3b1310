//! Prefix lengths of the live layer. Each that is in use costs a look-up, so at most twelve of a family are, and a prefix of a length in between
//! is spread over those of the next longer one.
//!
//! Which lengths are in use stands in the kernel: as long as there is room, what comes in place adds its own, and then they stay as they are.
//! So what is spread over which prefixes can be told at any time.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sipguard_ebpf::abi::LayerLengths;

use super::Word;

/// How many lengths of a family may be in use.
const MOST: u32 = 12;
/// A prefix that would be spread over more is none that comes in place.
const WIDEST_IN_PLACE: u8 = 12;
/// What spreading may add to the words that there are; where it would be more, more lengths are in use.
const ROOM: u64 = 65_536;

/// The lengths that are in use in a layer of a service: bit `n` for the length `n + 1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    v4: u128,
    v6: u128,
}

impl Used {
    /// As they stand in the kernel.
    pub fn of(lengths: &LayerLengths) -> Self {
        // There, the first bit stands for the longest.
        let v6 = u128::from(lengths.v6[0]) | u128::from(lengths.v6[1]) << 64;
        Self {
            v4: u128::from(lengths.v4[0].reverse_bits()),
            v6: v6.reverse_bits(),
        }
    }

    /// The ones that suit these words best.
    pub fn best<'w>(words: impl IntoIterator<Item = &'w Word>) -> Self {
        let (mut v4, mut v6) = ([0; 128], [0; 128]);
        for Word { prefix, .. } in words {
            let counts = match prefix {
                IpNet::V4(_) => &mut v4,
                IpNet::V6(_) => &mut v6,
            };
            // What has no length is none that lives.
            if let Some(count) = counts.get_mut(usize::from(prefix.prefix_len()).wrapping_sub(1)) {
                *count += 1;
            }
        }
        Self {
            v4: best(&v4[..32]),
            v6: best(&v6),
        }
    }

    /// As [`LayerLengths`] has them.
    pub fn lengths(self) -> LayerLengths {
        let v6 = self.v6.reverse_bits();
        #[expect(clippy::cast_possible_truncation, reason = "the halves")]
        LayerLengths {
            v4: [(self.v4 as u64).reverse_bits()],
            v6: [v6 as u64, (v6 >> 64) as u64],
        }
    }

    /// The length of the prefixes that a prefix is spread over; its own where that is in use, or there is room for it.
    pub fn place(self, prefix: IpNet) -> u8 {
        let (used, bits) = match prefix {
            IpNet::V4(_) => (self.v4, 32),
            IpNet::V6(_) => (self.v6, 128),
        };
        place(used, bits, prefix.prefix_len())
    }

    /// With those that these words add.
    #[must_use]
    pub fn with<'w>(mut self, words: impl IntoIterator<Item = &'w Word>) -> Self {
        for Word { prefix, .. } in words {
            let length = prefix.prefix_len();
            if length > 0 && self.place(*prefix) == length {
                match prefix {
                    IpNet::V4(_) => self.v4 |= 1 << (length - 1),
                    IpNet::V6(_) => self.v6 |= 1 << (length - 1),
                }
            }
        }
        self
    }

    /// Whether a prefix may come in place: it is not spread over too many.
    pub fn takes(self, prefix: IpNet) -> bool {
        self.place(prefix) - prefix.prefix_len() <= WIDEST_IN_PLACE
    }

    /// The prefixes of these lengths that cover this one, the most specific first.
    pub fn covering(self, prefix: IpNet) -> impl Iterator<Item = IpNet> {
        let used = match prefix {
            IpNet::V4(_) => self.v4,
            IpNet::V6(_) => self.v6,
        };
        let lengths = (1..=prefix.prefix_len()).rev();
        let lengths = lengths.filter(move |length| used >> (length - 1) & 1 == 1);
        lengths.filter_map(move |length| Some(IpNet::new(prefix.addr(), length).ok()?.trunc()))
    }

    /// The prefixes whose words are spread over this one, and itself.
    pub fn spread_over(self, prefix: IpNet) -> impl Iterator<Item = IpNet> {
        let wanted = prefix.prefix_len();
        std::iter::successors(Some(prefix), IpNet::supernet)
            .take_while(move |above| above.prefix_len() > 0)
            .filter(move |above| self.place(*above) == wanted)
    }
}

fn place(used: u128, bits: u8, length: u8) -> u8 {
    if length == 0 || length >= bits {
        return length;
    }
    let bit = 1 << (length - 1);
    let longest = 1 << (bits - 1);
    // The longest has its place always, so that everything can be spread.
    if used & bit != 0 || (used | bit | longest).count_ones() <= MOST {
        return length;
    }
    let longer = used & !(bit | (bit - 1));
    if longer == 0 {
        return bits;
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 127")]
    let next = longer.trailing_zeros() as u8 + 1;
    next
}

/// The prefixes of this length in a prefix.
pub fn spread(prefix: IpNet, length: u8) -> impl Iterator<Item = IpNet> {
    let count = 1u128.checked_shl(u32::from(length - prefix.prefix_len()));
    let nth = move |place: u128| match prefix {
        IpNet::V4(net) => {
            #[expect(clippy::cast_possible_truncation, reason = "there are not more")]
            let place = (place << (32 - length)) as u32;
            Ipv4Net::new_assert((net.addr().to_bits() | place).into(), length).into()
        }
        IpNet::V6(net) => {
            let place = place.checked_shl(u32::from(128 - length)).unwrap_or(0);
            Ipv6Net::new_assert((net.addr().to_bits() | place).into(), length).into()
        }
    };
    (0..count.unwrap_or(u128::MAX)).map(nth)
}

/// The lengths with which the fewest prefixes stand for these, of which there are so many of each length.
fn best(counts: &[u64]) -> u128 {
    let present: Vec<usize> = (0..counts.len()).filter(|&it| counts[it] > 0).collect();
    let all = present.iter().fold(0, |all, &length| all | 1u128 << length);
    let longest = counts.len() - 1;
    if (all | 1 << longest).count_ones() <= MOST {
        return all;
    }
    let mut lengths = present;
    if lengths.last() != Some(&longest) {
        lengths.push(longest);
    }
    // cost[n][i]: of the lengths up to the i-th, with n of them in use and the i-th among them.
    let spread_to = |from: usize, to: usize| -> u64 {
        // What stands between two that are in use.
        lengths[from..to].iter().fold(0u64, |sum, &length| {
            let over = u32::try_from(lengths[to] - length).unwrap_or(u32::MAX);
            let each = if over < 63 { 1u64 << over } else { u64::MAX };
            sum.saturating_add(counts[length].saturating_mul(each))
        })
    };
    let mut cost: Vec<(u64, u128)> = (0..lengths.len())
        .map(|to| {
            (
                spread_to(0, to).saturating_add(counts[lengths[to]]),
                1 << lengths[to],
            )
        })
        .collect();
    for _ in 1..MOST {
        cost = (0..lengths.len())
            .map(|to| {
                let with_one_more = (0..to).map(|from| {
                    let (before, used) = cost[from];
                    let between = spread_to(from + 1, to).saturating_add(counts[lengths[to]]);
                    (before.saturating_add(between), used | 1 << lengths[to])
                });
                with_one_more.chain([cost[to]]).min().unwrap_or(cost[to])
            })
            .collect();
    }
    let words: u64 = counts.iter().sum();
    match cost.last() {
        Some(&(cost, used)) if cost <= words.saturating_mul(2).saturating_add(ROOM) => used,
        _ => all | 1 << longest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_kernel_s_form_comes_back() {
        for (v4, v6) in [
            (0, 0),
            (1, 1),
            (1 << 31, 1 << 127),
            (0x8180_0100, 1 << 63 | 1 << 64),
        ] {
            let used = Used { v4, v6 };
            assert_eq!(Used::of(&used.lengths()), used);
        }
        let used = Used {
            v4: 1 << 31 | 1 << 23,
            v6: 0,
        };
        assert_eq!(used.lengths().v4, [1 << 32 | 1 << 40]);
    }

    #[test]
    fn a_length_has_its_place_while_there_is_room() {
        let mut used = Used::default();
        for length in 8..=18 {
            let prefix = net(&format!("10.0.0.0/{length}"));
            assert_eq!(used.place(prefix), length);
            used.v4 |= 1 << (length - 1);
        }
        // Eleven are in use, and the last place is that of single addresses.
        assert_eq!(used.place(net("10.0.0.0/20")), 32);
        assert_eq!(used.place(net("10.0.0.0/7")), 8);
        assert_eq!(used.place(net("10.0.0.1/32")), 32);
        assert!(used.takes(net("10.0.0.0/20")) && !used.takes(net("10.0.0.0/19")));
        let all: Vec<_> = used.spread_over(net("10.0.0.0/8")).collect();
        assert_eq!(
            all[..3],
            [net("10.0.0.0/8"), net("10.0.0.0/7"), net("8.0.0.0/6")]
        );
    }

    #[test]
    fn what_is_spread_is_what_it_was() {
        let all: Vec<_> = spread(net("203.0.113.0/24"), 26).collect();
        assert_eq!(
            all,
            [
                "203.0.113.0/26",
                "203.0.113.64/26",
                "203.0.113.128/26",
                "203.0.113.192/26"
            ]
            .map(net)
        );
        let all: Vec<_> = spread(net("2001:db8::/32"), 33).collect();
        assert_eq!(all, ["2001:db8::/33", "2001:db8:8000::/33"].map(net));
        assert!(spread(net("203.0.113.7/32"), 32).eq([net("203.0.113.7/32")]));
    }

    #[test]
    fn the_best_lengths_are_those_that_spread_the_least() {
        let mut counts = [0; 32];
        for length in 12..=24 {
            counts[length - 1] = 100;
        }
        // 13 lengths and that of single addresses: two of them go, the ones that cost the least.
        let used = best(&counts);
        assert_eq!(used.count_ones(), MOST);
        assert_ne!(used & 1 << 31, 0);
        counts[12] = 1;
        counts[14] = 1;
        let used = best(&counts);
        assert_eq!(used & (1 << 12 | 1 << 14), 0, "{used:b}");
        // Where it would be too many, more are in use.
        let mut far = [0; 128];
        for length in (28..128).step_by(7) {
            far[length] = 100_000;
        }
        assert_eq!(best(&far).count_ones(), 16);
    }
}
