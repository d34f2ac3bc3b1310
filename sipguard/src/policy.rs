//! The policy: what is to be guarded on which interfaces, and which sources may pass. Validated data; where it came from and
//! what becomes of it are others' business.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sipguard_ebpf::abi::{Protocol, SERVICES};
use sipguard_lists::{
    notify::Notify,
    task::{self, Dns, Task, Tasks},
};

/// The most services a policy may have.
pub const MAX_SERVICES: usize = SERVICES;
/// The most ports that may be guarded in all. A port counts once, whatever protocols and services guard it.
pub const MAX_PORTS: usize = 64;
/// The most sources a policy may have: entries name theirs by a 16-bit number.
pub const MAX_SOURCES: usize = 1 << 16;

/// The shortest prefix that another program may ban: what is wider is a person's decision.
pub const fn least_specific_ban(prefix: IpNet) -> u8 {
    match prefix {
        IpNet::V4(_) => 16,
        IpNet::V6(_) => 32,
    }
}

/// Everything the config file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Where to attach.
    pub interfaces: Vec<Interface>,
    /// What becomes of frames that no service judges, such as broken ones; services have their own.
    pub mode: Mode,
    /// At most [`MAX_SERVICES`], with different names.
    pub services: Vec<Service>,
    /// What entries name as the place they come from.
    pub origins: Vec<Origin>,
    /// In no particular order; the same prefix may be there several times.
    pub entries: Vec<Entry>,
    /// Sources whose entries are found by asking others, as far as a service names them.
    pub live: Vec<LiveSource>,
    /// Whom to ask for names.
    pub dns: Dns,
    /// Who wants notices, if anybody does.
    pub notify: Option<Notify>,
    /// What is not kept of those who knock.
    pub hide: Hide,
}

/// What is not kept of those who knock, and told nobody: a number or a user may be somebody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hide {
    /// Numbers that they dial, and users that are telephone numbers.
    #[serde(default)]
    pub number: bool,
    /// Users that they name.
    #[serde(default)]
    pub user: bool,
}

impl Hide {
    /// All that can be hidden.
    pub const EVERYTHING: Self = Self {
        number: true,
        user: true,
    };

    /// What either of them hides.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            number: self.number || other.number,
            user: self.user || other.user,
        }
    }
}

impl Policy {
    /// What is to be asked for, and how.
    pub fn tasks(&self) -> Tasks {
        tasks(&self.services, &self.live, &self.dns, self.notify.as_ref())
    }
}

/// What is to be asked for with these services and sources, and who wants notices.
pub fn tasks<'p>(
    services: impl IntoIterator<Item = &'p Service>,
    live: &[LiveSource],
    dns: &Dns,
    notify: Option<&Notify>,
) -> Tasks {
    let ports = services.into_iter().flat_map(|it| it.ports.values());
    Tasks {
        version: task::VERSION,
        dns: dns.clone(),
        guarded_ports: ports.flatten().copied().collect(),
        sources: live.iter().map(|live| live.task.clone()).collect(),
        notify: notify.cloned(),
    }
}

/// A source whose entries are found by asking others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSource {
    /// What is asked.
    pub task: Task,
    /// Index into the policy's origins.
    pub origin: u16,
    /// What is done with its entries, and in which services; each once.
    pub uses: Vec<Use>,
    /// How long its entries may stay the same before somebody is told, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<u32>,
}

/// What is done with a source's entries in one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// Index into the policy's services.
    pub service: u8,
    /// What is done.
    pub action: Action,
}

/// What an empty config file says: SIP and the web page are guarded, nobody is let in, and nothing is attached.
impl Default for Policy {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            mode: Mode::Enforce,
            services: vec![
                Service::on_udp_and_tcp("sip", &[5060, 5061, 50600]),
                Service::on_udp_and_tcp("web", &[80]),
            ],
            origins: Vec::new(),
            entries: Vec::new(),
            live: Vec::new(),
            dns: Dns::default(),
            notify: None,
            hide: Hide::default(),
        }
    }
}

/// A network interface that is guarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The kernel's name for it.
    pub name: String,
    /// How to attach there.
    pub mode: AttachMode,
}

/// How a program is attached to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// In the driver where it can, else at TC ingress.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// At TC ingress, behind the driver. Versions that used generic XDP there called it `generic`.
    #[serde(alias = "generic")]
    Tc,
}

impl AttachMode {
    /// The word the config file has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Tc => "tc",
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whether verdicts are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// They are only counted; everything passes.
    Monitor,
}

impl Mode {
    /// The word the config file has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Monitor => "monitor",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What an entry, or a service's default, does with a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Its frames pass.
    Allow,
    /// Its frames are dropped.
    Deny,
}

impl Action {
    /// The word the config file and the command line have for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Guarded ports by protocol. Protocols without any are not in it.
pub type Ports = BTreeMap<Protocol, BTreeSet<u16>>;

/// A named set of guarded ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// See [`is_service_name`].
    pub name: String,
    /// The ports that lead to this service; no two services have one in common.
    #[serde(with = "named_ports")]
    pub ports: Ports,
    /// What becomes of unlisted sources.
    pub default: Action,
    /// Whether this service's verdicts are carried out.
    pub mode: Mode,
}

impl Service {
    fn on_udp_and_tcp(name: &str, ports: &[u16]) -> Self {
        let ports: BTreeSet<_> = ports.iter().copied().collect();
        Self {
            name: name.to_owned(),
            ports: Ports::from([(Protocol::Udp, ports.clone()), (Protocol::Tcp, ports)]),
            default: Action::Deny,
            mode: Mode::Enforce,
        }
    }
}

/// Stands for every service where one is asked for.
pub const ALL: &str = "all";

/// Whether a service may have this name: 1 to 15 of a-z, 0-9, `_` and `-`, but not [`ALL`].
pub fn is_service_name(name: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=15).contains(&name.len()) && name.bytes().all(allowed) && name != ALL
}

/// The word the config file and the command line have for a protocol.
pub const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Udp => "udp",
        Protocol::Tcp => "tcp",
        Protocol::Sctp => "sctp",
        Protocol::UdpLite => "udplite",
    }
}

/// The protocol that [`protocol_name`] calls so.
pub fn protocol_named(name: &str) -> Option<Protocol> {
    Protocol::ALL
        .into_iter()
        .find(|&protocol| protocol_name(protocol) == name)
}

/// Ports with the protocols' names instead of their numbers, which nobody can read.
mod named_ports {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::{Ports, protocol_name, protocol_named};

    pub(super) fn serialize<S: Serializer>(
        ports: &Ports,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            ports
                .iter()
                .map(|(&protocol, ports)| (protocol_name(protocol), ports)),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Ports, D::Error> {
        BTreeMap::<String, BTreeSet<u16>>::deserialize(deserializer)?
            .into_iter()
            .map(|(name, ports)| match protocol_named(&name) {
                Some(protocol) => Ok((protocol, ports)),
                None => Err(D::Error::custom(format!("no protocol is called {name:?}"))),
            })
            .collect()
    }
}

/// Where an entry of the config file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The source's name.
    pub source: String,
    /// The list file, where the source is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// How many prefixes are written there. Generations of before did not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<usize>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "config: {}", self.source)?;
        match &self.file {
            Some(file) => write!(f, " ({})", file.display()),
            None => Ok(()),
        }
    }
}

/// One prefix of one source in one service. There may be a million of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its host bits are zero.
    pub prefix: IpNet,
    /// Index into the policy's services.
    pub service: u8,
    /// What is done with frames from there.
    pub action: Action,
    /// Index into the policy's origins.
    pub origin: u16,
}

const _: () = assert!(size_of::<Entry>() <= 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names() {
        for name in ["sip", "web-2", "a", "x_y", "123456789012345"] {
            assert!(is_service_name(name), "{name}");
        }
        for name in [
            "",
            "all",
            "SIP",
            "sip trunk",
            "1234567890123456",
            "söp",
            "a.b",
        ] {
            assert!(!is_service_name(name), "{name}");
        }
    }

    #[test]
    fn origins_read_as_list_prints_them() {
        let mut origin = Origin {
            source: "blocked".to_owned(),
            file: None,
            prefixes: None,
        };
        assert_eq!(origin.to_string(), "config: blocked");
        origin.file = Some(PathBuf::from("/etc/sipguard/blocked.txt"));
        assert_eq!(
            origin.to_string(),
            "config: blocked (/etc/sipguard/blocked.txt)"
        );
    }

    #[test]
    fn services_survive_json() {
        let json = serde_json::to_string(&Policy::default().services).unwrap();
        assert_eq!(
            json,
            r#"[{"name":"sip","ports":{"udp":[5060,5061,50600],"tcp":[5060,5061,50600]},"default":"deny","mode":"enforce"},{"name":"web","ports":{"udp":[80],"tcp":[80]},"default":"deny","mode":"enforce"}]"#
        );
        let services: Vec<Service> = serde_json::from_str(&json).unwrap();
        assert_eq!(services, Policy::default().services);
        let error = serde_json::from_str::<Vec<Service>>(&json.replace("udp", "quic")).unwrap_err();
        assert!(error.to_string().contains("no protocol is called \"quic\""));
    }

    #[test]
    fn words_are_the_ones_of_the_config_file() {
        assert_eq!(
            serde_json::to_string(&AttachMode::Native).unwrap(),
            "\"native\""
        );
        for protocol in Protocol::ALL {
            assert_eq!(protocol_named(protocol_name(protocol)), Some(protocol));
        }
        assert_eq!(protocol_named("icmp"), None);
        assert_eq!(
            [
                Action::Allow.to_string(),
                Mode::Monitor.to_string(),
                AttachMode::Auto.to_string()
            ],
            ["allow", "monitor", "auto"]
        );
    }
}
