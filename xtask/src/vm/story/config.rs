//! The gateway's configs.

use crate::vm::network::{ADMIN, INTERFACE, PROVIDER, Party};

/// What the provider is called where nobody knows his addresses.
pub(super) const NAME: &str = "sip.provider.example";

/// What the package guards by default, on the gateway's card.
pub(super) fn good() -> String {
    with_providers(&addresses(&PROVIDER))
}

/// The same with the provider by name, for which the administrator's name server is asked.
pub(super) fn named() -> String {
    let [server, _] = ADMIN.addresses;
    with_providers(&format!("\"{NAME}\"")) + &format!("\n[dns]\nservers = [\"{server}\"]\n")
}

/// The first one without the provider.
pub(super) fn without_providers() -> String {
    with_providers("")
}

/// The first one with a further network: not what is in force, so that there is something to swap.
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

fn with_providers(providers: &str) -> String {
    let admins = addresses(&ADMIN);
    format!(
        "interfaces = [\"{INTERFACE}\"]\n\n[sources]\nproviders = [{providers}]\nadmins = [{admins}]\n\n\
         [services.sip]\nudp = [5060, 5061, 50600]\ntcp = [5060, 5061, 50600]\nallow = [\"providers\", \"admins\"]\n\n\
         [services.web]\nudp = [80]\ntcp = [80]\nallow = [\"admins\", \"providers\"]\n"
    )
}

fn addresses(party: &Party) -> String {
    let quoted = party.addresses.map(|address| format!("\"{address}\""));
    quoted.join(", ")
}
