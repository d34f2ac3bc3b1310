//! Which service guards a port: a page of 256 ports is looked up first, so that most ports need no more than one byte.

use sipguard_ebpf::abi::{NO_SERVICE, PORT_PAGES};

use super::CompileError;
use crate::policy::{Action, Mode, Service};

/// All the pages that there are: for each port one byte a protocol, the service that guards it or `NO_SERVICE`. Page 0 guards nothing.
pub type PortServices = Box<[[[u8; 4]; 256]]>;

/// The kernel program's read-only constants, save those that differ between interfaces. Each is named there as here, in capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constants {
    /// Which page a port's upper byte leads to.
    pub port_page: [u8; 256],
    /// The pages.
    pub port_services: PortServices,
    /// Bit `p`: some service guards protocol `p`.
    pub protocols: u32,
    /// Bit `s`: service `s` drops nothing; the bit of `NO_SERVICE`: nor do verdicts that no service gave.
    pub monitor: u32,
    /// Bit `s`: service `s` lets unlisted sources pass.
    pub default_allow: u32,
    /// 32 less the size of a service's region of the prefilter, in bits as a power of two.
    pub prefilter_shift: u32,
}

impl Constants {
    /// Of services with their slots; `mode` is for verdicts that no service gives.
    pub fn new<'a>(
        mode: Mode,
        services: impl Iterator<Item = (&'a Service, u8)> + Clone,
        prefilter_shift: u32,
    ) -> Result<Self, CompileError> {
        let ports = || {
            services.clone().flat_map(|(service, number)| {
                service.ports.iter().flat_map(move |(&protocol, ports)| {
                    ports.iter().map(move |&port| (number, protocol, port))
                })
            })
        };
        let mut port_page = [0; 256];
        for (_, _, port) in ports() {
            port_page[usize::from(port >> 8)] = 1;
        }
        let mut pages = 0;
        for page in port_page.iter_mut().filter(|page| **page == 1) {
            pages += 1;
            // There are 256 at most, and more than fit below are refused.
            *page = u8::try_from(pages).unwrap_or(u8::MAX);
        }
        if pages > PORT_PAGES {
            return Err(CompileError::Ports(pages));
        }
        let mut port_services: PortServices = vec![[[NO_SERVICE; 4]; 256]; PORT_PAGES + 1].into();
        let mut protocols = 0;
        for (number, protocol, port) in ports() {
            let page = port_page[usize::from(port >> 8)];
            let services = &mut port_services[usize::from(page)][usize::from(port & 0xff)];
            services[protocol as usize] = number;
            protocols |= protocol.bit();
        }
        let mut monitor = bit(NO_SERVICE, mode == Mode::Monitor);
        let mut default_allow = 0;
        for (service, number) in services {
            monitor |= bit(number, service.mode == Mode::Monitor);
            default_allow |= bit(number, service.default == Action::Allow);
        }
        Ok(Self {
            port_page,
            port_services,
            protocols,
            monitor,
            default_allow,
            prefilter_shift,
        })
    }
}

fn bit(service: u8, set: bool) -> u32 {
    u32::from(set) << service
}
