//! What to mind of a policy before it is in force: whom it cuts off, which of this host's own connections it may hit, and whether its lists
//! are what they are meant to be.

mod doubts;

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
    net::IpAddr,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    process,
};

use ipnet::IpNet;
use serde::Serialize;
use sipguard_ebpf::abi::{self, Layer, Protocol, Reason, Value};

pub(crate) use self::doubts::nobody_allowed;
pub use self::doubts::{Doubt, doubts};
use crate::{
    kernel,
    policy::{Action, Mode, Policy, Ports, Service},
};

/// Who is logged in: the far end of the SSH session that this process belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Login {
    /// Where it comes from.
    pub address: IpAddr,
    /// This host's port that it came to.
    pub port: u16,
}

impl Login {
    /// The current SSH session's, if there is one. sudo takes it out of the environment, but the shell that it was called from
    /// still has it.
    pub fn current() -> Option<Self> {
        /// Deeper nesting of shells than anybody has.
        const FAR: usize = 64;

        let own = |name: &str| env::var_os(name);
        if let Some(login) = Self::find(own) {
            return Some(login);
        }
        let mut pid = parent(process::id())?;
        for _ in 0..FAR {
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let theirs = |name: &str| {
                let prefix = format!("{name}=").into_bytes();
                let mut variables = environment.split(|&byte| byte == 0);
                let value = variables.find_map(|variable| variable.strip_prefix(&*prefix))?;
                Some(OsString::from_vec(value.to_vec()))
            };
            if let Some(login) = Self::find(theirs) {
                return Some(login);
            }
            pid = parent(pid)?;
        }
        None
    }

    /// ssh(1): `SSH_CONNECTION` has the client's address and port and the server's, the older `SSH_CLIENT` the client's and the
    /// server's port.
    fn find(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        ["SSH_CONNECTION", "SSH_CLIENT"]
            .into_iter()
            .find_map(|name| {
                let value = variable(name)?;
                let mut words = str::from_utf8(value.as_bytes()).ok()?.split_whitespace();
                let address: IpAddr = words.next()?.parse().ok()?;
                Some(Self {
                    // As the filter sees it on the wire.
                    address: address.to_canonical(),
                    port: words.next_back()?.parse().ok()?,
                })
            })
    }
}

/// 0 has none.
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))?
        .trim()
        .parse()
        .ok()?;
    (parent != 0).then_some(parent)
}

/// What is said of a prefix in a layer of a service.
type Said<'s, E> = dyn Fn(u8, Layer, IpNet) -> Result<Option<Value>, E> + 's;

/// What one side of a change does with packets from an address.
pub struct Side<'s, E> {
    /// Its services, with their numbers in the kernel.
    pub services: Vec<(&'s Service, u8)>,
    /// What is said of a prefix in a layer of a service.
    pub value: Box<Said<'s, E>>,
    /// The boot clock in nanoseconds.
    pub boot_ns: u64,
}

impl<E> Side<'_, E> {
    /// Whether a packet from there gets through to a port. What is not guarded does.
    fn passes(&self, address: IpAddr, protocol: Protocol, port: u16) -> Result<bool, E> {
        let guards = |service: &Service| {
            let ports = service.ports.get(&protocol);
            ports.is_some_and(|ports| ports.contains(&port))
        };
        let guarding = self.services.iter().find(|(service, _)| guards(service));
        let Some((service, number)) = guarding else {
            return Ok(true);
        };
        if service.mode == Mode::Monitor {
            return Ok(true);
        }
        let reason = self
            .reason(address, *number)?
            .unwrap_or(match service.default {
                Action::Allow => Reason::Open,
                Action::Deny => Reason::Unlisted,
            });
        Ok(reason.action() == abi::Action::Pass)
    }

    /// What the entry in force says that comes first: the most specific one by hand, the most specific live one, or `any` by hand.
    fn reason(&self, address: IpAddr, service: u8) -> Result<Option<Reason>, E> {
        let host = IpNet::from(address);
        let said = |layer, length| -> Result<Option<Reason>, E> {
            let Ok(prefix) = IpNet::new(address, length) else {
                return Ok(None);
            };
            let value = (self.value)(service, layer, prefix.trunc())?;
            Ok(value.and_then(|value| value.live(|| self.boot_ns)))
        };
        for layer in [Layer::Hand, Layer::Live] {
            for length in (1..=host.max_prefix_len()).rev() {
                if let Some(reason) = said(layer, length)? {
                    return Ok(Some(reason));
                }
            }
        }
        said(Layer::Hand, 0)
    }
}

/// The guarded ports, by service, to which an address gets before and not afterwards. Nothing is in the way where there is no `before`.
///
/// # Errors
/// Those of the sides.
pub fn cut_off<E>(
    address: IpAddr,
    before: Option<&Side<'_, E>>,
    after: &Side<'_, E>,
) -> Result<Vec<(String, Ports)>, E> {
    let mut lost = Vec::new();
    for (service, _) in &after.services {
        let mut ports = Ports::new();
        for (&protocol, numbers) in &service.ports {
            for &port in numbers {
                let passed =
                    before.map_or(Ok(true), |before| before.passes(address, protocol, port))?;
                if passed && !after.passes(address, protocol, port)? {
                    ports.entry(protocol).or_default().insert(port);
                }
            }
        }
        if !ports.is_empty() {
            lost.push((service.name.clone(), ports));
        }
    }
    Ok(lost)
}

/// Guarded ports that the kernel may give to this host's own outgoing connections, whose answers would then be dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ephemeral {
    /// The ports.
    pub ports: BTreeSet<u16>,
    /// What `net.ipv4.ip_local_reserved_ports` is to be to prevent it.
    pub reserve: String,
}

/// The guarded ports that are inside `net.ipv4.ip_local_port_range` and not in `net.ipv4.ip_local_reserved_ports`
/// (Documentation/networking/ip-sysctl.rst; both hold for IPv6, too), if there are any.
pub fn ephemeral(policy: &Policy) -> Option<Ephemeral> {
    let range = kernel::setting("net/ipv4/ip_local_port_range")?;
    let reserved = kernel::setting("net/ipv4/ip_local_reserved_ports")?;
    unreserved(policy, &range, &reserved)
}

fn unreserved(policy: &Policy, range: &str, reserved: &str) -> Option<Ephemeral> {
    let mut bounds = range.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (bounds.next(), bounds.next()) else {
        return None;
    };
    let is_reserved = |port: u16| {
        reserved.split(',').any(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            matches!((first.parse(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
        })
    };
    let enforcing = |service: &&Service| service.mode == Mode::Enforce;
    let ports: BTreeSet<u16> = policy
        .services
        .iter()
        .filter(enforcing)
        .flat_map(|service| service.ports.values().flatten().copied())
        .filter(|&port| (first..=last).contains(&port) && !is_reserved(port))
        .collect();
    let mut reserve = reserved.to_owned();
    for port in &ports {
        if !reserve.is_empty() {
            reserve.push(',');
        }
        reserve.push_str(&port.to_string());
    }
    (!ports.is_empty()).then_some(Ephemeral { ports, reserve })
}

#[cfg(test)]
mod tests;
