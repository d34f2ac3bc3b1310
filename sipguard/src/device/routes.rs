//! Routes that take packets out of others (segment routing, net/ipv6/seg6_local.c).

use std::{io, net::Ipv6Addr};

use ipnet::Ipv6Net;
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteLwTunnelEncap, RouteMessage,
        RouteSeg6LocalTunnel, Seg6LocalAction,
    },
};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::ask;

/// One such route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacks {
    /// Where it leads to.
    pub to: Ipv6Net,
    /// What it does, by its name in `ip route`.
    pub action: String,
    /// The number of its interface.
    pub index: u32,
    /// Its table's number, where that is not the main one.
    pub table: Option<u32>,
    /// Its metric.
    pub metric: Option<u32>,
}

/// All routes of this network namespace that unpack what comes in.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn unpacking() -> io::Result<Vec<Unpacks>> {
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet6;
    let request = RouteNetlinkMessage::GetRoute(request);
    let answers = ask(NETLINK_ROUTE, request, NLM_F_DUMP)?;
    let routes = answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) => unpacks(route),
        _ => None,
    });
    Ok(routes.collect())
}

fn unpacks(route: &RouteMessage) -> Option<Unpacks> {
    let mut found = Unpacks {
        to: Ipv6Net::new(Ipv6Addr::UNSPECIFIED, 0).ok()?,
        action: String::new(),
        index: 0,
        table: None,
        metric: None,
    };
    let mut table = u32::from(route.header.table);
    // What has several ways says what each of them does.
    let hops = route.attributes.iter().flat_map(|attribute| {
        let hops = match attribute {
            RouteAttribute::MultiPath(hops) => hops.as_slice(),
            _ => &[],
        };
        hops.iter()
            .map(|hop| (hop.interface_index, hop.attributes.as_slice()))
    });
    for (index, attributes) in [(0, route.attributes.as_slice())].into_iter().chain(hops) {
        if let Some(action) = action(attributes) {
            found.action = action.to_string();
            found.index = index;
        }
    }
    if found.action.is_empty() {
        return None;
    }
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet6(to)) => {
                found.to = Ipv6Net::new(*to, route.header.destination_prefix_length).ok()?;
            }
            RouteAttribute::Oif(index) => found.index = *index,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(metric) => found.metric = Some(*metric),
            _ => {}
        }
    }
    found.table = (table != u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(table);
    Some(found)
}

/// What unpacks of what is done; the last one may do anything.
fn action(attributes: &[RouteAttribute]) -> Option<Seg6LocalAction> {
    let done = attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Encap(done) => done.as_slice(),
        _ => &[],
    });
    let mut actions = done.filter_map(|done| match done {
        RouteLwTunnelEncap::Seg6Local(RouteSeg6LocalTunnel::Action(action)) => Some(*action),
        _ => None,
    });
    actions.find(|action| {
        matches!(
            action,
            Seg6LocalAction::EndDx2
                | Seg6LocalAction::EndDx4
                | Seg6LocalAction::EndDx6
                | Seg6LocalAction::EndDt4
                | Seg6LocalAction::EndDt6
                | Seg6LocalAction::EndDt46
                | Seg6LocalAction::EndBpf
                | Seg6LocalAction::Other(_)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(action: Seg6LocalAction) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.destination_prefix_length = 128;
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        let done = RouteLwTunnelEncap::Seg6Local(RouteSeg6LocalTunnel::Action(action));
        route.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet6(Ipv6Addr::LOCALHOST)),
            RouteAttribute::Encap(vec![done]),
            RouteAttribute::Oif(3),
            RouteAttribute::Priority(1024),
        ];
        route
    }

    #[test]
    fn only_what_unpacks_counts() {
        let found = unpacks(&route(Seg6LocalAction::EndDt6)).unwrap();
        assert_eq!(
            (found.to.to_string(), found.index, found.table, found.metric),
            ("::1/128".to_owned(), 3, None, Some(1024))
        );
        assert_eq!(found.action, "End.DT6");
        assert!(unpacks(&route(Seg6LocalAction::EndBpf)).is_some());
        for other in [
            Seg6LocalAction::End,
            Seg6LocalAction::EndX,
            Seg6LocalAction::EndB6Encap,
        ] {
            assert_eq!(unpacks(&route(other)), None, "{other}");
        }
        assert_eq!(unpacks(&RouteMessage::default()), None);
    }

    #[test]
    fn another_table_is_told() {
        let mut route = route(Seg6LocalAction::EndDx4);
        route.attributes.push(RouteAttribute::Table(770));
        assert_eq!(unpacks(&route).unwrap().table, Some(770));
    }
}
