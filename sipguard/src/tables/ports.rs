//! What guards which port.

use sipguard_ebpf::abi::{self, Guard, Guards, NO_SERVICE};

use crate::policy::{Action, Mode, Service};

/// The kernel program's read-only constants, save those that differ between interfaces. Each is named there as here, in capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constants {
    /// What guards each port.
    pub guards: Box<Guards>,
    /// Bit `p`: some service guards protocol `p`.
    pub protocols: u32,
    /// Bit `s`: service `s` drops nothing; the bit of `NO_SERVICE`: nor do verdicts that no service gave.
    pub monitor: u32,
    /// 32 less the size of half of a service's region of the prefilter, in bits as a power of two.
    pub prefilter_shift: u32,
}

impl Constants {
    /// Of services with their slots; `mode` is for verdicts that no service gives.
    pub fn new<'a>(
        mode: Mode,
        services: impl Iterator<Item = (&'a Service, u8)>,
        prefilter_shift: u32,
    ) -> Self {
        let mut constants = Self {
            // SAFETY: these are bytes, and zero is one. Made where they stay: the stack is no place for so many.
            guards: unsafe { Box::new_zeroed().assume_init() },
            protocols: 0,
            monitor: bit(NO_SERVICE, mode == Mode::Monitor),
            prefilter_shift,
        };
        for (service, number) in services {
            let is_monitored = service.mode == Mode::Monitor;
            constants.monitor |= bit(number, is_monitored);
            let default = match service.default {
                Action::Allow => abi::Action::Pass,
                Action::Deny => abi::Action::Drop,
            };
            let guard = Guard::new(number, default, is_monitored);
            for (&protocol, ports) in &service.ports {
                for &port in ports {
                    let place = usize::from(port.to_be());
                    constants.guards[protocol as usize][place] = guard.byte();
                    constants.protocols |= protocol.bit();
                }
            }
        }
        constants
    }
}

fn bit(service: u8, set: bool) -> u32 {
    u32::from(set) << service
}
