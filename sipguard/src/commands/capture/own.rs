//! Which packets this gateway has sent itself, where the capture does not say it.
//!
//! In a capture of a gateway's interface one end of each packet is the gateway. Where packets to guarded ports go both ways between two addresses,
//! the gateway is the one that others send to as well: a peer is sent to by the gateway alone.

use std::{collections::HashMap, net::IpAddr};

/// How many addresses are noted that packets to guarded ports go to,
const DESTINATIONS: usize = 4096;
/// and of each how many that send to it.
const SENDERS: usize = 8;

/// Where packets to guarded ports go, and from where.
#[derive(Default)]
pub(super) struct Conversations {
    places: HashMap<IpAddr, usize>,
    destinations: Vec<Destination>,
    /// Most packets go where the one before went.
    last: usize,
}

struct Destination {
    address: IpAddr,
    senders: Vec<IpAddr>,
}

/// An address that was taken for the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) address: IpAddr,
    /// So many others send to guarded ports of it.
    pub(super) senders: usize,
    /// Or more.
    pub(super) is_more: bool,
}

/// What the conversations tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) own: Vec<Own>,
    /// Two that send to guarded ports of each other, of which nothing tells which one is the gateway.
    pub(super) unclear: Option<(IpAddr, IpAddr)>,
}

impl Conversations {
    /// Takes note of a packet to a guarded port.
    #[inline]
    pub(super) fn note(&mut self, source: IpAddr, destination: IpAddr) {
        let last = self.destinations.get(self.last);
        if last.is_none_or(|last| last.address != destination) {
            let Some(place) = self.place(destination) else {
                return;
            };
            self.last = place;
        }
        let senders = &mut self.destinations[self.last].senders;
        if senders.len() < SENDERS && !senders.contains(&source) {
            senders.push(source);
        }
    }

    fn place(&mut self, destination: IpAddr) -> Option<usize> {
        if let Some(&place) = self.places.get(&destination) {
            return Some(place);
        }
        if self.destinations.len() == DESTINATIONS {
            // Whoever is sent to by one other alone is a peer, or not worth more.
            self.destinations
                .retain(|destination| destination.senders.len() > 1);
            self.places = self
                .destinations
                .iter()
                .enumerate()
                .map(|(place, destination)| (destination.address, place))
                .collect();
            if self.destinations.len() > DESTINATIONS / 2 {
                return None;
            }
        }
        let place = self.destinations.len();
        self.places.insert(destination, place);
        self.destinations.push(Destination {
            address: destination,
            senders: Vec::new(),
        });
        Some(place)
    }

    /// Which addresses are the gateway's own.
    pub(super) fn told(&self) -> Told {
        let mut order: Vec<_> = self.destinations.iter().collect();
        order.sort_by_key(|it| (SENDERS - it.senders.len(), it.address));
        let is_full = |it: &Destination| it.senders.len() == SENDERS;
        let mut told = Told::default();
        for destination in order {
            let address = destination.address;
            let senders = destination.others(&told.own);
            // Of those that many send to not all senders are known, so that it may be one of them: then it has to be like them.
            let is_beside_a_full_one = !is_full(destination)
                && self
                    .destinations
                    .iter()
                    .any(|it| is_full(it) && it.address.is_ipv4() == address.is_ipv4());
            if senders.is_empty() || is_beside_a_full_one || !self.sends(address) {
                continue;
            }
            // Someone that it sends to itself, and that is no less sent to.
            let rival = self.destinations.iter().find(|it| {
                if it.address == address || !it.senders.contains(&address) {
                    return false;
                }
                let is_own = told.own.iter().any(|own| own.address == it.address);
                !is_own && it.others(&told.own).len() >= senders.len()
            });
            match rival.map(|rival| rival.address) {
                None => told.own.push(Own {
                    address,
                    senders: senders.len(),
                    is_more: is_full(destination),
                }),
                Some(rival) if senders.contains(&rival) && told.unclear.is_none() => {
                    told.unclear = Some((address, rival));
                }
                Some(_) => {}
            }
        }
        told
    }

    /// Whether it sends to somebody else.
    fn sends(&self, address: IpAddr) -> bool {
        self.destinations
            .iter()
            .any(|it| it.address != address && it.senders.contains(&address))
    }
}

impl Destination {
    /// Who sends to it and is not this gateway.
    fn others(&self, own: &[Own]) -> Vec<IpAddr> {
        let is_other = |sender: &IpAddr| {
            *sender != self.address && own.iter().all(|own| own.address != *sender)
        };
        self.senders.iter().copied().filter(is_other).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn told(packets: &[(&str, &str)]) -> Told {
        let mut conversations = Conversations::default();
        for &(source, destination) in packets {
            conversations.note(address(source), address(destination));
        }
        conversations.told()
    }

    fn own(told: &Told) -> Vec<String> {
        told.own.iter().map(|own| own.address.to_string()).collect()
    }

    #[test]
    fn the_one_that_several_send_to_is_the_gateway() {
        let told = told(&[
            ("203.0.113.7", "192.0.2.1"),
            ("192.0.2.1", "203.0.113.7"),
            ("198.51.100.200", "192.0.2.1"),
            ("192.0.2.1", "203.0.113.8"),
            ("2001:db8::7", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::7"),
            ("2001:db8::8", "2001:db8::1"),
        ]);
        assert_eq!(own(&told), ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(told.unclear, None);
    }

    #[test]
    fn of_two_nobody_can_tell() {
        let told = told(&[("203.0.113.7", "192.0.2.1"), ("192.0.2.1", "203.0.113.7")]);
        assert_eq!(own(&told), [""; 0]);
        assert_eq!(
            told.unclear,
            Some((address("192.0.2.1"), address("203.0.113.7")))
        );
    }

    /// As a router sees it, or somebody who sends what he likes.
    #[test]
    fn who_sends_to_one_that_more_send_to_is_a_peer() {
        let told = told(&[
            ("198.51.100.7", "203.0.113.5"),
            ("203.0.113.5", "192.0.2.1"),
            ("198.51.100.7", "192.0.2.1"),
        ]);
        assert_eq!(told, Told::default());
    }

    #[test]
    fn who_sends_nothing_is_nobody_in_particular() {
        // That it sends to itself is what somebody else makes it look like.
        let told = told(&[
            ("203.0.113.7", "192.0.2.1"),
            ("203.0.113.8", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
        ]);
        assert_eq!(told, Told::default());
    }

    #[test]
    fn answering_many_scanners_hides_nothing() {
        let mut conversations = Conversations::default();
        let gateway = address("192.0.2.1");
        for number in 0..50_000_u32 {
            let scanner = IpAddr::V4((0xc600_0000 + number).into());
            conversations.note(scanner, gateway);
            conversations.note(gateway, scanner);
        }
        let told = conversations.told();
        assert_eq!(own(&told), ["192.0.2.1"]);
        assert!(told.own[0].is_more);
        assert!(conversations.destinations.len() <= DESTINATIONS);
    }
}
