//! This host's own addresses.

use std::{collections::BTreeSet, io, net::IpAddr};

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::ask;

/// All addresses of this network namespace's interfaces.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn addresses() -> io::Result<BTreeSet<IpAddr>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = ask(NETLINK_ROUTE, request, NLM_F_DUMP)?;
    let attributes = answers.into_iter().flat_map(|answer| match answer {
        RouteNetlinkMessage::NewAddress(message) => message.attributes,
        _ => Vec::new(),
    });
    // On a link between two hosts `Address` is the other end's (`IFA_ADDRESS`, include/uapi/linux/if_addr.h); IPv6 has no other.
    let (mut local, mut any) = (BTreeSet::new(), BTreeSet::new());
    for attribute in attributes {
        match attribute {
            AddressAttribute::Local(address) => local.insert(address),
            AddressAttribute::Address(address @ IpAddr::V6(_)) => any.insert(address),
            _ => false,
        };
    }
    local.append(&mut any);
    Ok(local)
}
