//! What a policy would do with packets: judged here by the code that the kernel runs, or by the kernel's program itself, without attaching or
//! pinning anything. Each packet by itself: what became of others, which row 4a of the verdict table asks of fragments, is not asked.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use ipnet::IpNet;
use sipguard_ebpf::{
    abi::{Answer, Layer, Protocol, Reason, Value},
    header::Family,
    parse::{Packet, Source},
    verdict::{Verdict, judge},
};

use crate::{
    capture::{Begins, Frame},
    config,
    datapath::{self, Checker, Description},
    host::Host,
    lifecycle::{self, Error, Live},
    policy::Policy,
    state::Slots,
    tables::{HostTables, Now, PrefixKey, Tables},
};

/// A config file's policy alone: what the command line added is no part of it.
pub struct Compiled {
    /// What the kernel would look things up in.
    pub tables: Tables,
    /// What the policy says, save its entries. The numbers of its services are not those in force.
    pub description: Description,
}

impl Compiled {
    /// Of a config file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn of_file(host: &Host, file: &Path) -> Result<Self, Error> {
        let policy: Policy = config::load(file)?;
        let mut slots = Slots::default();
        slots.assign(policy.services.iter().map(|service| service.name.as_str()))?;
        let now = host.now();
        let tables = Tables::compile(&policy, &slots, &[], Vec::new(), now)?;
        let description =
            lifecycle::describe(&policy, &slots, &tables, file, String::new(), now.wall);
        Ok(Self {
            tables,
            description,
        })
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// What it is about, where the packet was read as far as its ports.
    pub asked: Option<Asked>,
}

/// What the policy was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    source: Source,
    /// A guarded protocol.
    pub protocol: Protocol,
    port: u16,
}

impl Asked {
    /// The source address.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        let [high, low] = self.source.words;
        match self.source.family {
            // An IPv4 address is the lower half of its word.
            Family::V4 => {
                let [.., a, b, c, d] = low.to_be_bytes();
                Ipv4Addr::new(a, b, c, d).into()
            }
            Family::V6 => Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into(),
        }
    }

    /// The destination port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        u16::from_be(self.port)
    }
}

impl Judged {
    /// The prefix whose entry decided, if one did.
    #[must_use]
    pub fn decided_by(&self) -> Option<IpNet> {
        if !matches!(self.verdict.reason, Reason::Allowed | Reason::Denied) {
            return None;
        }
        let prefix = IpNet::new(self.asked?.source(), self.verdict.length);
        prefix.ok().map(|prefix| prefix.trunc())
    }

    fn new(packet: Option<Packet>, verdict: Verdict) -> Self {
        Self {
            verdict,
            asked: packet.map(|packet| Asked {
                source: packet.source,
                protocol: packet.protocol,
                port: packet.port,
            }),
        }
    }
}

impl std::convert::From<Answer> for Judged {
    fn from(answer: Answer) -> Self {
        let family = match answer.family {
            4 => Some(Family::V4),
            6 => Some(Family::V6),
            _ => None,
        };
        let protocol = Protocol::ALL.get(usize::from(answer.protocol));
        let reason = Reason::COUNTED
            .into_iter()
            .find(|reason| *reason as u8 == answer.reason);
        Self {
            verdict: Verdict {
                reason: reason.unwrap_or(Reason::None),
                service: answer.service,
                length: answer.length,
                layer: if answer.layer == Layer::Hand as u8 {
                    Layer::Hand
                } else {
                    Layer::Live
                },
            },
            asked: family.zip(protocol).map(|(family, &protocol)| Asked {
                source: Source {
                    family,
                    words: answer.source,
                },
                protocol,
                port: answer.port.to_be(),
            }),
        }
    }
}

/// A policy to be asked.
pub struct Rehearsal {
    /// What the policy says, save its entries. The numbers of its services are not those in force.
    pub description: Description,
    by: By,
}

enum By {
    Host(Box<Tables>, Now),
    Kernel(Box<InKernel>),
}

struct InKernel {
    from: From,
    /// One for each kind of link that was asked for.
    checkers: [Option<Checker>; 2],
    scratch: Vec<u8>,
}

enum From {
    Tables(Box<Tables>),
    Generation(u64),
}

impl Rehearsal {
    /// Of a config file alone, judged here.
    pub fn on_host(compiled: Compiled, now: Now) -> Self {
        Self {
            description: compiled.description,
            by: By::Host(Box::new(compiled.tables), now),
        }
    }

    /// Of a config file alone, judged by the kernel's program.
    pub fn in_kernel(compiled: Compiled) -> Self {
        Self {
            description: compiled.description,
            by: By::kernel(From::Tables(Box::new(compiled.tables))),
        }
    }

    /// Of what is in force now, with everything the command line added, judged by the kernel's program. Its counters don't move.
    pub fn of_live(live: &Live) -> Self {
        Self {
            description: live.generation.description.clone(),
            by: By::kernel(From::Generation(live.number)),
        }
    }

    /// What becomes of a frame.
    ///
    /// # Errors
    /// What the kernel refused.
    #[inline]
    pub fn judge(&mut self, frame: &Frame<'_>) -> Result<Judged, datapath::Error> {
        match &mut self.by {
            By::Host(tables, now) => {
                let tables = HostTables {
                    link: frame.link(),
                    ..HostTables::new(tables, now.boot_ns)
                };
                let (packet, verdict) = match frame.begins {
                    // What nearly all captures have; so the compiler knows that the kernel has said nothing.
                    Begins::Ethernet => judge(frame.bytes, &tables),
                    Begins::Ip | Begins::Network(_) => judge(frame, &tables),
                };
                Ok(Judged::new(packet, verdict))
            }
            By::Kernel(kernel) => {
                let InKernel {
                    from,
                    checkers,
                    scratch,
                } = &mut **kernel;
                let link = frame.link();
                let bytes = match frame.begins {
                    Begins::Ethernet | Begins::Ip => frame.bytes,
                    Begins::Network(_) => frame.with_ethernet(scratch),
                };
                let checker = match &mut checkers[link as usize] {
                    Some(checker) => checker,
                    none => none.insert(match from {
                        From::Tables(tables) => {
                            Checker::of(tables, self.description.clone(), link)?
                        }
                        From::Generation(number) => Checker::over(*number, link)?,
                    }),
                };
                checker.judge(bytes).map(Judged::from)
            }
        }
    }

    /// What a config file says of exactly this prefix; of what is in force nothing is known here.
    #[must_use]
    pub fn value(&self, service: u8, layer: Layer, prefix: IpNet) -> Option<Value> {
        let tables = self.tables()?;
        match PrefixKey::new(prefix, service, layer) {
            PrefixKey::V4(key) => tables.entries4.get(&key),
            PrefixKey::V6(key) => tables.entries6.get(&key),
        }
    }

    /// The mask of protocols that a config file guards.
    #[must_use]
    pub fn protocols(&self) -> u32 {
        self.tables().map_or(0, |tables| tables.constants.protocols)
    }

    fn tables(&self) -> Option<&Tables> {
        match &self.by {
            By::Host(tables, _) => Some(tables),
            By::Kernel(kernel) => match &kernel.from {
                From::Tables(tables) => Some(tables),
                From::Generation(_) => None,
            },
        }
    }
}

impl By {
    fn kernel(from: From) -> Self {
        Self::Kernel(Box::new(InKernel {
            from,
            checkers: [None, None],
            scratch: Vec::new(),
        }))
    }
}
