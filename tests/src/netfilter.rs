//! Netfilter as the oracle of `sipguard import`: a gateway whose kernel has a rule set, and a peer that sends it frames from everywhere.
//!
//! What passed is what raw sockets on the gateway received: they are handed every packet that got through the input hook, whatever its port.

use std::{
    collections::BTreeSet, fmt::Write as _, fs, net::IpAddr, os::fd::OwnedFd, process::Command,
};

use rustix::net::{
    AddressFamily, Protocol as SocketProtocol, RecvFlags, SocketFlags, SocketType, netdevice, recv,
    socket_with, sockopt,
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::{
    frame::{GATEWAY_V4, GATEWAY_V6, eth},
    netns::{End, Host, Mac, SCRATCH, Sandbox, Wire, join, until},
};

/// A program that puts rules into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `iptables-restore` over nf_tables.
    Iptables,
    /// `iptables-restore` over the old tables.
    Legacy,
    /// `nft -f`.
    Nft,
}

/// What is put into the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// For `ipset restore`, line by line.
    pub sets: Vec<String>,
    /// For `iptables-restore`.
    pub v4: Vec<String>,
    /// For `ip6tables-restore`.
    pub v6: Vec<String>,
    /// For `nft -f`.
    pub nft: Vec<String>,
}

/// One packet that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Where it says that it comes from.
    pub source: IpAddr,
    /// Whether by TCP (a SYN), or by UDP.
    pub tcp: bool,
    /// Where it goes to.
    pub port: u16,
}

impl Probe {
    /// The frame, without Ethernet addresses of its own.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let frame = eth().ip(&self.source.to_string());
        let frame = if self.tcp {
            frame.tcp(self.port)
        } else {
            frame.udp(self.port)
        };
        frame.bytes()
    }
}

/// A gateway with a firewall, and a peer at the other end of its cable.
pub struct Firewall {
    gateway: Host,
    _peer: Host,
    wire: Wire,
    macs: [Mac; 2],
    received: Vec<OwnedFd>,
    tap: OwnedFd,
    /// The source port of the rule set that is in force: connection tracking must not know its packets from an earlier one.
    from_port: u16,
}

/// An EtherType for experiments.
const MARKER: u16 = 0x88b5;
/// Every probe ends in its number behind this.
const MAGIC: [u8; 4] = *b"prb:";

impl Firewall {
    /// Sets both up, with nothing in the way of packets from anywhere.
    #[must_use]
    pub fn new(sandbox: &Sandbox) -> Self {
        let (gateway, peer) = (sandbox.host(), sandbox.host());
        let macs = join(
            End {
                host: &gateway,
                interface: "eth0",
                addresses: &[&format!("{GATEWAY_V4}/24"), &format!("{GATEWAY_V6}/64")],
            },
            End {
                host: &peer,
                interface: "eth0",
                addresses: &[],
            },
        );
        gateway.enter(|| {
            for name in ["all", "default", "eth0"] {
                let file = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
                fs::write(file, "0").expect("the kernel takes packets from anywhere");
            }
        });
        // The way back to everybody; nobody is there.
        let mac = macs[1].map(|byte| format!("{byte:02x}")).join(":");
        gateway.ip(&format!("neigh add 192.0.2.254 lladdr {mac} dev eth0"));
        gateway.ip(&format!("neigh add 2001:db8::fe lladdr {mac} dev eth0"));
        gateway.ip("route add default via 192.0.2.254");
        gateway.ip("-6 route add default via 2001:db8::fe");
        let received = gateway.enter(|| {
            let mut sockets = Vec::new();
            for family in [AddressFamily::INET, AddressFamily::INET6] {
                for number in [6, 17] {
                    sockets.push(raw(family, number));
                }
            }
            sockets
        });
        let tap = gateway.enter(|| {
            let kind = u32::from(MARKER.to_be());
            let socket = socket_with(
                AddressFamily::PACKET,
                SocketType::RAW,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                SocketProtocol::from_raw(kind.try_into().expect("not zero")).into(),
            )
            .expect("a packet socket");
            netdevice::name_to_index(&socket, "eth0").expect("the interface is there");
            socket
        });
        let wire = peer.wire("eth0");
        Self {
            gateway,
            _peer: peer,
            wire,
            macs,
            received,
            tap,
            from_port: 20_000,
        }
    }

    /// The gateway.
    #[must_use]
    pub fn gateway(&self) -> &Host {
        &self.gateway
    }

    /// Puts a rule set into the kernel instead of what is there; returns what the program that shows it prints, or why it was refused.
    ///
    /// # Errors
    /// What the kernel or the program has against it.
    pub fn load(&mut self, program: Program, rules: &RuleSet) -> Result<String, String> {
        self.from_port = if self.from_port > 60_000 {
            20_000
        } else {
            self.from_port + 1
        };
        let file = |name: &str, lines: &[String]| {
            let text = lines.join("\n") + "\n";
            fs::write(format!("{SCRATCH}/{name}"), text).expect("there is room");
        };
        file("sets", &rules.sets);
        file("v4", &rules.v4);
        file("v6", &rules.v6);
        file("nft", &rules.nft);
        let kind = match program {
            Program::Legacy => "legacy",
            _ => "nft",
        };
        let mut script = format!("cd {SCRATCH}\nnft flush ruleset\n");
        if program == Program::Legacy {
            // There is no command that empties all of its tables.
            let mut empty = String::new();
            for (table, chains) in [
                ("raw", "PREROUTING"),
                ("mangle", "PREROUTING INPUT"),
                ("nat", "PREROUTING"),
                ("filter", "INPUT FORWARD"),
            ] {
                let _ = writeln!(empty, "*{table}");
                for chain in chains.split(' ') {
                    let _ = writeln!(empty, ":{chain} ACCEPT [0:0]");
                }
                empty += "COMMIT\n";
            }
            file("empty", &[empty]);
            script += "iptables-legacy-restore empty\nip6tables-legacy-restore empty\n";
        }
        if !rules.sets.is_empty() {
            // The kernel lets go of sets a moment after it forgot the rules.
            script += "for again in $(seq 100); do ipset flush; ipset destroy 2>/dev/null && break; sleep 0.01; done\nipset restore < sets\n";
        }
        if program == Program::Nft {
            script += "nft -f nft\nnft list ruleset\n";
        } else {
            for (name, lines, prefix) in [("v4", &rules.v4, ""), ("v6", &rules.v6, "6")] {
                if !lines.is_empty() {
                    let _ = writeln!(script, "ip{prefix}tables-{kind}-restore < {name}");
                }
            }
            if !rules.sets.is_empty() {
                script += "ipset save\n";
            }
            for (lines, prefix) in [(&rules.v4, ""), (&rules.v6, "6")] {
                if !lines.is_empty() {
                    let _ = writeln!(script, "ip{prefix}tables-{kind}-save");
                }
            }
        }
        let told = self.gateway.run(Command::new("sh").args(["-ec", &script]));
        if told.status.success() {
            Ok(told.stdout)
        } else {
            Err(told.stderr)
        }
    }

    /// Sends all of them; tells of each whether it got through.
    #[must_use]
    pub fn ask(&self, probes: &[Probe]) -> Vec<bool> {
        // Frames are dealt with in the order in which they were sent where one processor sent them all.
        let everywhere = sched_getaffinity(None).expect("this thread runs somewhere");
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        sched_setaffinity(None, &here).expect("this thread can stay where it is");
        let passed = self.send(probes);
        sched_setaffinity(None, &everywhere).expect("it could run there before");
        passed
    }

    fn send(&self, probes: &[Probe]) -> Vec<bool> {
        let mut passed = BTreeSet::new();
        for (batch, some) in probes.chunks(200).enumerate() {
            for (number, probe) in some.iter().enumerate() {
                let number = u32::try_from(batch * 200 + number).expect("few probes");
                let payload = [MAGIC, number.to_be_bytes()].concat();
                let frame = eth()
                    .macs(self.macs[0], self.macs[1])
                    .ip(&probe.source.to_string());
                let frame = if probe.tcp {
                    frame.tcp(probe.port)
                } else {
                    frame.udp(probe.port)
                };
                let frame = frame.from_port(self.from_port).payload(&payload);
                self.wire.send(&frame.bytes());
            }
            self.settle();
            for socket in &self.received {
                let mut packet = [0; 2048];
                while let Ok((bytes, _)) = recv(socket, &mut packet[..], RecvFlags::DONTWAIT) {
                    // The number is the last thing in it.
                    if let Some(at) = bytes.checked_sub(8)
                        && packet[at..at + 4] == MAGIC
                    {
                        let number = packet[at + 4..at + 8].try_into().expect("four bytes");
                        passed.insert(u32::from_be_bytes(number));
                    }
                }
            }
        }
        (0..)
            .take(probes.len())
            .map(|number| passed.contains(&number))
            .collect()
    }

    /// Waits until everything that was sent has gone its way.
    fn settle(&self) {
        let marker = eth()
            .macs(self.macs[0], self.macs[1])
            .raw(MARKER, 0, &[0; 46]);
        self.wire.send(&marker.bytes());
        until("the last frame has arrived", || {
            let mut frame = [0; 64];
            recv(&self.tap, &mut frame[..], RecvFlags::DONTWAIT).is_ok()
        });
    }
}

/// A socket that is handed every packet of a protocol that got through the input hook.
fn raw(family: AddressFamily, number: u32) -> OwnedFd {
    let socket = socket_with(
        family,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        SocketProtocol::from_raw(number.try_into().expect("not zero")).into(),
    )
    .expect("a raw socket");
    sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20).expect("these tests need root");
    socket
}

/// Sources that say something about rules which name these words: the ends of every prefix and range in them, those beside the ends, and
/// some from elsewhere. None that Linux takes no packet from.
#[must_use]
pub fn edges<'w>(words: impl IntoIterator<Item = &'w str>) -> Vec<IpAddr> {
    let mut numbers: BTreeSet<(bool, u128)> = BTreeSet::new();
    let elsewhere = ["8.8.8.8", "100.99.98.97", "2a00:1450::8", "fd77::77"];
    let parsed = words
        .into_iter()
        .flat_map(|word| {
            word.split([',', '-', '{', '}', ';', '"', ':'])
                .chain([word])
                .collect::<Vec<_>>()
        })
        .chain(elsewhere)
        .filter_map(|word| {
            let word = word.trim_matches(|c: char| "{},;\"".contains(c));
            word.parse::<ipnet::IpNet>()
                .ok()
                .or_else(|| word.parse::<IpAddr>().ok().map(ipnet::IpNet::from))
        });
    for prefix in parsed {
        let number = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let v6 = matches!(prefix, ipnet::IpNet::V6(_));
        let (first, last) = (number(prefix.network()), number(prefix.broadcast()));
        for edge in [
            Some(first),
            Some(last),
            first.checked_sub(1),
            last.checked_add(1),
        ] {
            numbers.extend(edge.map(|edge| (v6, edge)));
        }
    }
    numbers
        .into_iter()
        .filter_map(|(v6, number)| {
            Some(if v6 {
                IpAddr::V6(number.into())
            } else {
                IpAddr::V4(u32::try_from(number).ok()?.into())
            })
        })
        .filter(|address| match address {
            IpAddr::V4(address) => {
                let [first, ..] = address.octets();
                !(first == 0 || first == 127 || first >= 224) && *address != GATEWAY_V4
            }
            IpAddr::V6(address) => {
                address.segments()[0] < 0xfe80
                    && address.to_ipv4_mapped().is_none()
                    && address.to_bits() > 1
                    && *address != GATEWAY_V6
            }
        })
        .collect()
}
