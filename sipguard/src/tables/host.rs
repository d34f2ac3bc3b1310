//! Tables looked up in memory, so that tests and fuzzers ask the same questions of a policy as the kernel program does.

use sipguard_ebpf::{
    abi::{Guard, Key, Lengths, LinkKind, Protocol, Value},
    prefix::{V4, V6},
    verdict,
};

use super::Tables;

/// Tables with a clock of one's own and an interface of one's choice.
#[derive(Clone, Copy, Debug)]
pub struct HostTables<'t> {
    /// What is looked up.
    pub tables: &'t Tables,
    /// What frames begin with.
    pub link: LinkKind,
    /// The boot clock in nanoseconds; it stands still.
    pub boot_ns: u64,
}

impl<'t> HostTables<'t> {
    /// On an Ethernet interface, at the given time of the boot clock.
    pub const fn new(tables: &'t Tables, boot_ns: u64) -> Self {
        Self {
            tables,
            link: LinkKind::Ethernet,
            boot_ns,
        }
    }
}

impl verdict::Entries<V4> for HostTables<'_> {
    fn entry(&self, key: &Key<V4>) -> Option<Value> {
        self.tables.entries4.get(key)
    }
}

impl verdict::Entries<V6> for HostTables<'_> {
    fn entry(&self, key: &Key<V6>) -> Option<Value> {
        self.tables.entries6.get(key)
    }
}

impl verdict::Tables for HostTables<'_> {
    fn link(&self) -> LinkKind {
        self.link
    }

    fn protocols(&self) -> u32 {
        self.tables.constants.protocols
    }

    fn guard(&self, protocol: Protocol, port: u16) -> Option<Guard> {
        let ports = &self.tables.constants.guards[protocol as usize];
        Guard::from_byte(ports[usize::from(port)])
    }

    fn prefilter_shift(&self) -> u32 {
        self.tables.constants.prefilter_shift
    }

    fn prefilter(&self, bit: u64) -> bool {
        let word = self.tables.prefilter.get((bit >> 6) as usize);
        word.is_some_and(|word| word >> (bit & 63) & 1 == 1)
    }

    fn lengths(&self, service: u8) -> Option<&Lengths> {
        self.tables.lengths.get(usize::from(service))
    }

    fn now(&self) -> u64 {
        self.boot_ns
    }
}
