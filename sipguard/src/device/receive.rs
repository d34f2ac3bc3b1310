//! How an interface receives, as far as that can be set: the length of its rings and the number of its queues (the `ethtool` family of generic
//! netlink, Linux 5.7), and whether threads of their own do it (threaded NAPI, 5.12).

use std::{fs, path::Path};

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, Nla as _, NlasIterator, Parseable as _,
    ParseableParametrized,
};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::{Device, features::family, netlink::ask};

/// See the module. `None` is what an interface has no setting for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receive {
    /// For how many packets there is room in a queue.
    pub ring: Option<Setting>,
    /// How many queues there are.
    pub queues: Option<Setting>,
    /// Who takes packets from them; `None` also in a network namespace whose `/sys` is another one's.
    pub threads: Option<Threads>,
}

/// What is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What it is.
    pub now: u32,
    /// What it can be.
    pub most: u32,
}

/// Who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// Whoever is interrupted, and `ksoftirqd`.
    None,
    /// Threads that wait for their turn as programs do.
    InTurn,
    /// Threads that wait for no program.
    First,
}

impl Receive {
    /// Asks the kernel.
    #[must_use]
    pub fn of(device: &Device) -> Self {
        let setting = |most: u32, now: u32| (most > 0).then_some(Setting { now, most });
        let rings = settings(RINGS, device.index).unwrap_or_default();
        let queues = settings(QUEUES, device.index).unwrap_or_default();
        Self {
            ring: setting(rings.rx_most, rings.rx),
            // Cards have queues for both directions, or for each.
            queues: setting(
                queues.both_most.max(queues.rx_most),
                queues.both + queues.rx,
            ),
            threads: threads(device),
        }
    }
}

fn threads(device: &Device) -> Option<Threads> {
    /// include/uapi/linux/sched.h.
    const POLICIES: [&str; 2] = ["1", "2"];
    let folder = Path::new("/sys/class/net").join(&device.name);
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let is_its = read("ifindex")?.trim().parse() == Ok(device.index);
    match read("threaded").filter(|_| is_its)?.trim() {
        "0" => return Some(Threads::None),
        "1" => {}
        _ => return None,
    }
    let name = format!("(napi/{}-", device.name);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let first = processes
        .filter_map(|process| fs::read_to_string(process.path().join("stat")).ok())
        .filter(|stat| {
            stat.split_once(' ')
                .is_some_and(|(_, it)| it.starts_with(&name))
        })
        // Behind the name, which may have anything in it: the policy is the 41st field (proc_pid_stat(5)).
        .filter_map(|stat| {
            let (_, fields) = stat.rsplit_once(')')?;
            let policy = fields.split_whitespace().nth(38)?;
            Some(POLICIES.contains(&policy))
        })
        .all(|is_first| is_first);
    Some(if first {
        Threads::First
    } else {
        Threads::InTurn
    })
}

/// `ETHTOOL_MSG_RINGS_GET` and `ETHTOOL_MSG_CHANNELS_GET`, include/uapi/linux/ethtool_netlink.h.
const RINGS: u8 = 15;
const QUEUES: u8 = 17;

fn settings(what: u8, index: u32) -> Option<Settings> {
    let family = family(Settings::family_name()).ok()??;
    let mut request = GenlMessage::from_payload(Settings {
        what,
        index,
        ..Settings::default()
    });
    request.set_resolved_family_id(family);
    // A driver that has no such thing refuses.
    let answers = ask(NETLINK_GENERIC, request, NLM_F_ACK).ok()?;
    answers.into_iter().map(|answer| answer.payload).next()
}

/// A request and the answer to it.
#[derive(Clone, Debug, Default)]
struct Settings {
    what: u8,
    index: u32,
    rx_most: u32,
    rx: u32,
    /// Of queues alone: those for both directions.
    both_most: u32,
    both: u32,
}

impl Settings {
    /// `ETHTOOL_A_RINGS_HEADER` and `ETHTOOL_A_CHANNELS_HEADER`, and in it `ETHTOOL_A_HEADER_DEV_INDEX`.
    const HEADER: u16 = 1;
    const INDEX: u16 = 1;
    const NESTED: u16 = 1 << 15;

    fn header(&self) -> DefaultNla {
        let index = DefaultNla::new(Self::INDEX, self.index.to_ne_bytes().into());
        let mut inside = vec![0; index.buffer_len()];
        index.emit(&mut inside);
        DefaultNla::new(Self::HEADER | Self::NESTED, inside)
    }
}

impl GenlFamily for Settings {
    fn family_name() -> &'static str {
        "ethtool"
    }

    fn command(&self) -> u8 {
        self.what
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Settings {
    fn buffer_len(&self) -> usize {
        self.header().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.header().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Settings {
    fn parse_with_param(bytes: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        let mut found = Self {
            what: header.cmd,
            ..Self::default()
        };
        for attribute in NlasIterator::new(bytes) {
            let attribute = DefaultNla::parse(&attribute?)?;
            let mut value = vec![0; attribute.value_len()];
            attribute.emit_value(&mut value);
            let number = value.try_into().map_or(0, u32::from_ne_bytes);
            // The answers to the two have numbers of their own (`ETHTOOL_MSG_RINGS_GET_REPLY`, `ETHTOOL_MSG_CHANNELS_GET_REPLY`), and attributes
            // that agree but for these.
            match (header.cmd, attribute.kind()) {
                (_, 2) => found.rx_most = number,
                (_, 6) => found.rx = number,
                (RINGS_ARE, _) => {}
                (_, 5) => found.both_most = number,
                (_, 9) => found.both = number,
                _ => {}
            }
        }
        Ok(found)
    }
}

/// `ETHTOOL_MSG_RINGS_GET_REPLY`.
const RINGS_ARE: u8 = 16;
