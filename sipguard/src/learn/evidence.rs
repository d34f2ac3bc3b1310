//! What two addresses said to each other: requests of either side, and what the other one answered. Which of them is this gateway is found out at the end.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
};

use sipguard_lists::name::Name;

use super::packet::Packet;
use crate::capture::Direction;
use crate::sip::{Message, Start, number::Number};

/// Pairs for which something speaks, and as many for which nothing does. Each takes some 5 KiB at most.
pub(super) const PAIRS: usize = 8_192;
/// Call-IDs that answers are looked for by; the oldest go first.
const CALLS: usize = 32_768;
/// Different users, names, numbers and User-Agents that are kept of one side.
const FEW: usize = 4;
/// Different users that are told apart.
const USERS: usize = 32;
/// How much of a text is kept, in bytes: as much as is printed of it.
const TEXT: usize = 64;
/// Where directions are said, each packet has an address of this gateway; none has more than a few.
const MOST_OWN: usize = 1_024;
/// Legs of one call: a proxy sends it on, and to several.
const LEGS: usize = 8;

/// A few different things, and how many more there were.
#[derive(Clone, Debug)]
pub(super) struct Few<T> {
    pub(super) kept: Vec<T>,
    /// Whether there were others.
    pub(super) more: bool,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            more: false,
        }
    }
}

impl<T: PartialEq> Few<T> {
    fn add(&mut self, thing: T, most: usize) {
        if self.kept.contains(&thing) {
            return;
        }
        if self.kept.len() < most {
            self.kept.push(thing);
        } else {
            self.more = true;
        }
    }
}

/// Requests of one kind, and what came of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Requests {
    pub(super) sent: usize,
    /// 2xx; for calls also ringing, and what a person or a machine says who was called.
    pub(super) done: usize,
    /// 401 and 407: a password was asked for, or refused.
    pub(super) challenged: usize,
    /// Any other answer from 400 on.
    pub(super) refused: usize,
}

/// What one of two addresses wanted of the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    pub(super) registers: Requests,
    pub(super) calls: Requests,
    /// OPTIONS, and whatever else is no part of a call.
    pub(super) others: Requests,
    /// Users for whom a REGISTER came, as digests, and those that have registered.
    pub(super) tried: Few<u64>,
    pub(super) registered: Few<u64>,
    /// As whom it registered.
    pub(super) users: Few<String>,
    /// Names in request URIs, with whether there was a port; not of what was sent on for others.
    pub(super) names: Few<(Name, bool)>,
    pub(super) numbers: Few<Number>,
    pub(super) agents: Few<String>,
    /// For whom calls were sent on that the other side answered.
    pub(super) relayed_for: Few<IpAddr>,
}

/// Two addresses, the lower one first; each side is what that one sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Pair {
    pub(super) sides: [Side; 2],
    /// Whether a registration or a call between them came to something.
    is_kept: bool,
}

/// A call or registration, by who sent its first request to whom.
struct Call {
    legs: Vec<(IpAddr, IpAddr)>,
}

/// On whose behalf a request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Its sender's.
    Itself,
    /// Of this one, who had sent it to its sender before.
    For(IpAddr),
}

/// Takes packets, and keeps what they are evidence of.
pub struct Learner {
    pub(super) pairs: HashMap<(IpAddr, IpAddr), Pair>,
    /// In the order in which they came; the oldest for which nothing speaks make room for others.
    waiting: VecDeque<(IpAddr, IpAddr)>,
    calls: HashMap<u64, Call>,
    order: VecDeque<u64>,
    seed: RandomState,
    /// This gateway's addresses, where somebody says it.
    pub(super) own: BTreeSet<IpAddr>,
    /// UDP datagrams and TCP segments.
    pub(super) packets: usize,
    /// Those with a message.
    pub(super) messages: usize,
    /// Pairs that made room for others.
    pub(super) left_out: usize,
    kept: usize,
}

impl Learner {
    /// One that knows nothing but some of this gateway's addresses, or none.
    pub fn new(own: &[IpAddr]) -> Self {
        Self {
            pairs: HashMap::new(),
            waiting: VecDeque::new(),
            calls: HashMap::new(),
            order: VecDeque::new(),
            seed: RandomState::new(),
            own: own.iter().copied().collect(),
            packets: 0,
            messages: 0,
            left_out: 0,
            kept: 0,
        }
    }

    /// How many messages were read so far.
    pub const fn messages(&self) -> usize {
        self.messages
    }

    /// Takes note of a packet.
    pub fn note(&mut self, packet: &Packet<'_>, direction: Option<Direction>) {
        self.packets += 1;
        let Some(message) = Message::read(packet.payload) else {
            return;
        };
        self.messages += 1;
        let (source, destination) = (packet.source, packet.destination);
        if self.own.len() < MOST_OWN {
            match direction {
                Some(Direction::Out) => _ = self.own.insert(source),
                Some(Direction::In) => _ = self.own.insert(destination),
                None => {}
            }
        }
        let call = message.call_id.map(|call_id| self.seed.hash_one(call_id));
        self.make_room(source, destination);
        match message.start {
            Start::Request { method, .. } => {
                let relayed = call.is_some_and(|call| self.leg(call, source, destination));
                self.request(source, destination, method, &message, relayed);
            }
            Start::Response { status } => {
                let asked = call.and_then(|call| self.asked(call, destination, source));
                if let Some(asked) = asked {
                    self.answer(destination, source, status, &message, asked);
                }
            }
        }
    }

    /// Sees that the pair has a place. Whoever came to nothing makes room, so that a flood of strangers pushes out each other and nobody else.
    fn make_room(&mut self, source: IpAddr, destination: IpAddr) {
        let key = key(source, destination);
        if self.pairs.contains_key(&key) {
            return;
        }
        while self.waiting.len() >= PAIRS {
            let Some(first) = self.waiting.pop_front() else {
                break;
            };
            if self.pairs.get(&first).is_some_and(|pair| !pair.is_kept) {
                self.pairs.remove(&first);
                self.left_out += 1;
            }
        }
        self.waiting.push_back(key);
        self.pairs.insert(key, Pair::default());
    }

    /// Notes that something speaks for a pair: it makes room for nobody any more, as long as there are not too many of these.
    fn keep(&mut self, source: IpAddr, destination: IpAddr) {
        let room = self.kept < PAIRS;
        if let Some(pair) = self.pairs.get_mut(&key(source, destination))
            && !pair.is_kept
            && room
        {
            pair.is_kept = true;
            self.kept += 1;
        }
    }

    /// Notes that a call has this leg; says whether it began elsewhere and is only sent on.
    fn leg(&mut self, call: u64, source: IpAddr, destination: IpAddr) -> bool {
        if !self.calls.contains_key(&call) {
            if self.order.len() >= CALLS
                && let Some(oldest) = self.order.pop_front()
            {
                self.calls.remove(&oldest);
            }
            self.order.push_back(call);
        }
        let call = self
            .calls
            .entry(call)
            .or_insert_with(|| Call { legs: Vec::new() });
        if !call.legs.contains(&(source, destination)) && call.legs.len() < LEGS {
            call.legs.push((source, destination));
        }
        call.relayed_for(source, destination).is_some()
    }

    /// What one was asked by this request. None where nobody asked.
    fn asked(&self, call: u64, source: IpAddr, destination: IpAddr) -> Option<Asked> {
        let call = self.calls.get(&call)?;
        let is_leg = call.legs.contains(&(source, destination));
        is_leg.then(|| match call.relayed_for(source, destination) {
            Some(from) => Asked::For(from),
            None => Asked::Itself,
        })
    }

    fn side(&mut self, source: IpAddr, destination: IpAddr) -> Option<&mut Side> {
        let key = key(source, destination);
        let pair = self.pairs.get_mut(&key)?;
        Some(&mut pair.sides[usize::from(source != key.0)])
    }

    fn request(
        &mut self,
        source: IpAddr,
        destination: IpAddr,
        method: &[u8],
        message: &Message<'_>,
        relayed: bool,
    ) {
        let Start::Request { uri, .. } = message.start else {
            return;
        };
        let user = message.to.user.map(|user| self.seed.hash_one(user));
        let Some(side) = self.side(source, destination) else {
            return;
        };
        let name = uri.host.and_then(|host| str::from_utf8(host).ok());
        let name = name.and_then(|host| host.parse::<Name>().ok());
        match method {
            b"REGISTER" => {
                side.registers.sent += 1;
                if let Some(user) = user {
                    side.tried.add(user, USERS);
                }
                if let Some(user) = message.to.user {
                    side.users.add(text(user), FEW);
                }
            }
            b"INVITE" => {
                side.calls.sent += 1;
                if let Some(number) = uri.user.and_then(Number::dialled) {
                    side.numbers.add(number, FEW);
                }
            }
            b"ACK" | b"CANCEL" | b"BYE" | b"PRACK" | b"UPDATE" | b"INFO" => return,
            _ => side.others.sent += 1,
        }
        if let (Some(name), false) = (name, relayed) {
            side.names.add((name, uri.has_port), FEW);
        }
        if let Some(agent) = message.user_agent {
            side.agents.add(text(agent), FEW);
        }
    }

    /// What `source` wanted was answered by `destination`.
    fn answer(
        &mut self,
        source: IpAddr,
        destination: IpAddr,
        status: u16,
        message: &Message<'_>,
        asked: Asked,
    ) {
        let user = message.to.user.map(|user| self.seed.hash_one(user));
        let Some(side) = self.side(source, destination) else {
            return;
        };
        let (requests, is_done) = match message.method {
            Some(b"REGISTER") => (&mut side.registers, matches!(status, 200..300)),
            // Ringing, declined, busy, nobody there, or given up: the call has come to whom it was for.
            Some(b"INVITE") => {
                let is_done = matches!(status, 180..300 | 480 | 486 | 487 | 600 | 603);
                (&mut side.calls, is_done)
            }
            Some(b"ACK" | b"CANCEL" | b"BYE" | b"PRACK" | b"UPDATE" | b"INFO") | None => return,
            Some(_) => (&mut side.others, matches!(status, 200..300)),
        };
        match status {
            _ if is_done && asked == Asked::Itself => requests.done += 1,
            _ if is_done => {}
            401 | 407 => requests.challenged += 1,
            400.. => requests.refused += 1,
            _ => {}
        }
        if !is_done {
            return;
        }
        if let Asked::For(from) = asked {
            side.relayed_for.add(from, FEW);
        } else if let (Some(b"REGISTER"), Some(user)) = (message.method, user) {
            side.registered.add(user, USERS);
        }
        if matches!(message.method, Some(b"REGISTER" | b"INVITE")) {
            self.keep(source, destination);
        }
    }
}

impl Requests {
    fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        self.done += other.done;
        self.challenged += other.challenged;
        self.refused += other.refused;
    }
}

impl<T: PartialEq + Clone> Few<T> {
    fn merge(&mut self, other: &Self, most: usize) {
        self.more |= other.more;
        for thing in &other.kept {
            self.add(thing.clone(), most);
        }
    }
}

impl Side {
    /// Adds what the same one wanted of another address of this gateway.
    pub(super) fn merge(&mut self, other: Self) {
        if self.registers.sent + self.calls.sent + self.others.sent == 0 {
            *self = other;
            return;
        }
        self.registers.merge(other.registers);
        self.calls.merge(other.calls);
        self.others.merge(other.others);
        self.tried.merge(&other.tried, USERS);
        self.registered.merge(&other.registered, USERS);
        self.users.merge(&other.users, FEW);
        self.names.merge(&other.names, FEW);
        self.numbers.merge(&other.numbers, FEW);
        self.agents.merge(&other.agents, FEW);
        self.relayed_for.merge(&other.relayed_for, FEW);
    }
}

impl Call {
    /// Who sent this call to `source` before it sent it on.
    fn relayed_for(&self, source: IpAddr, destination: IpAddr) -> Option<IpAddr> {
        let &(first, second) = self.legs.first()?;
        (second == source && first != destination).then_some(first)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT)]).into_owned()
}

fn key(one: IpAddr, other: IpAddr) -> (IpAddr, IpAddr) {
    if one <= other {
        (one, other)
    } else {
        (other, one)
    }
}
