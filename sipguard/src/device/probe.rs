//! Having something arrive where nothing does, to see whether the filter sees it.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    RouteNetlinkMessage,
    neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState},
};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::ask;

/// Has the kernel ask the neighbours that it knows behind an interface (the router, for one) whether they are still there, as it does
/// by itself now and then (ARP, RFC 826; neighbour discovery, RFC 4861 section 7.3): their answers come in by the interface. Returns how many
/// it asks; 0 where nobody is known, as behind a tunnel.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn probe(index: u32) -> io::Result<usize> {
    /// Enough for an answer.
    const MOST: usize = 4;
    let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let known = ask(NETLINK_ROUTE, request, NLM_F_DUMP)?;
    let mut asked = 0;
    for answer in known {
        let RouteNetlinkMessage::NewNeighbour(mut neighbour) = answer else {
            continue;
        };
        let was_there = matches!(
            neighbour.header.state,
            NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay
        );
        if neighbour.header.ifindex != index || !was_there {
            continue;
        }
        neighbour.header.state = NeighbourState::Probe;
        neighbour.attributes.retain(|attribute| {
            matches!(
                attribute,
                NeighbourAttribute::Destination(_) | NeighbourAttribute::LinkLayerAddress(_)
            )
        });
        let request = RouteNetlinkMessage::NewNeighbour(neighbour);
        // One that has gone meanwhile is no matter.
        if ask(NETLINK_ROUTE, request, NLM_F_ACK | NLM_F_REPLACE).is_ok() {
            asked += 1;
        }
        if asked == MOST {
            break;
        }
    }
    Ok(asked)
}
