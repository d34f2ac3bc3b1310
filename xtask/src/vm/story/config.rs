//! The gateway's configs.

use crate::vm::network::{ADMIN, INTERFACE, PROVIDER, Party};

/// What the package guards by default, on the gateway's card.
pub(super) fn good() -> String {
    with_services(
        "[services.sip]\nudp = [5060, 5061, 50600]\ntcp = [5060, 5061, 50600]\nallow = [\"providers\", \"admins\"]\n\n\
         [services.web]\nudp = [80]\ntcp = [80]\nallow = [\"admins\", \"providers\"]\n",
    )
}

/// The same with a further network: not what is in force, so that there is something to swap.
pub(super) fn longer() -> String {
    good().replacen("admins = [", "admins = [\"192.0.2.128/25\", ", 1)
}

/// Names a source that is none.
pub(super) fn bad() -> String {
    good().replacen("allow = [\"providers\"", "allow = [\"nobody\"", 1)
}

/// Guards SSH, too, and lets only the provider log in.
pub(super) fn cutting() -> String {
    good() + "\n[services.ssh]\ntcp = [22]\nallow = [\"providers\"]\n"
}

fn with_services(services: &str) -> String {
    let list = |party: &Party| {
        party
            .addresses
            .map(|address| format!("\"{address}\""))
            .join(", ")
    };
    format!(
        "interfaces = [\"{INTERFACE}\"]\n\n[sources]\nproviders = [{}]\nadmins = [{}]\n\n{services}",
        list(&PROVIDER),
        list(&ADMIN)
    )
}
