//! Three hosts, and the internet that routes between them.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context as _, Result};

use crate::netns::{End, Host, Sandbox, join_by_queues, until};

/// What every host calls its only interface; on the gateway, sipguard guards it.
const INTERFACE: &str = "eth0";

pub(crate) struct Network {
    pub(crate) internet: Host,
    pub(crate) gateway: Site,
    pub(crate) provider: Site,
    pub(crate) scanner: Site,
}

/// A host with networks of its own.
pub(crate) struct Site {
    pub(crate) host: Host,
    /// Where its cable ends on the internet's side.
    pub(crate) uplink: &'static str,
    /// IPv4 and IPv6.
    pub(crate) addresses: [IpAddr; 2],
    router: [IpAddr; 2],
}

impl Network {
    pub(crate) fn new(sandbox: &Sandbox) -> Result<Self> {
        Self::by_queues(sandbox, 1)
    }

    /// With a gateway whose interface has so many queues.
    pub(crate) fn by_queues(sandbox: &Sandbox, queues: usize) -> Result<Self> {
        let internet = sandbox.host();
        internet.enter(|| -> Result<()> {
            for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                fs::write(format!("/proc/sys/net/{setting}"), "1").context(setting)?;
            }
            Ok(())
        })?;
        let site =
            |uplink, v4, v6, queues| Site::new(sandbox.host(), &internet, uplink, v4, v6, queues);
        Ok(Self {
            gateway: site("gateway", [192, 0, 2], 1, queues),
            provider: site("provider", [203, 0, 113], 2, 1),
            scanner: site("scanner", [198, 51, 100], 3, 1),
            internet,
        })
    }

    /// Has the gateway and its router forget each other's Ethernet addresses, and waits until they are known again.
    pub(crate) fn rediscover(&self) -> String {
        let gateway = &self.gateway;
        let sides = [
            (&gateway.host, INTERFACE, gateway.router),
            (&self.internet, gateway.uplink, gateway.addresses),
        ];
        for (host, interface, neighbours) in sides {
            for neighbour in neighbours {
                host.ip(&format!("neighbour del {neighbour} dev {interface}"));
            }
        }
        for (host, interface, neighbours) in sides {
            for neighbour in neighbours {
                let known = format!("neighbour show to {neighbour} dev {interface} nud reachable");
                until(&format!("{neighbour} is found again"), || {
                    !host.ip(&known).stdout.is_empty()
                });
            }
        }
        "forgotten, and found again".to_owned()
    }
}

impl Site {
    fn new(
        host: Host,
        internet: &Host,
        uplink: &'static str,
        v4: [u8; 3],
        v6: u16,
        queues: usize,
    ) -> Self {
        let [a, b, c] = v4;
        let numbered = |host: u8| -> [IpAddr; 2] {
            [
                Ipv4Addr::new(a, b, c, host).into(),
                Ipv6Addr::new(0x2001, 0xdb8, v6, 0, 0, 0, 0, host.into()).into(),
            ]
        };
        let (router, addresses) = (numbered(1), numbered(2));
        let with_lengths = |[v4, v6]: [IpAddr; 2]| [format!("{v4}/24"), format!("{v6}/64")];
        let (near, far) = (with_lengths(addresses), with_lengths(router));
        join_by_queues(
            End {
                host: &host,
                interface: INTERFACE,
                addresses: &near.each_ref().map(String::as_str),
            },
            End {
                host: internet,
                interface: uplink,
                addresses: &far.each_ref().map(String::as_str),
            },
            queues,
        );
        for (everywhere, router) in ["0.0.0.0/0", "::/0"].into_iter().zip(router) {
            host.ip(&format!("route add {everywhere} via {router}"));
        }
        Self {
            host,
            uplink,
            addresses,
            router,
        }
    }

    /// From an address of this site to one of `other`, over IPv4 and over IPv6.
    pub(crate) fn to(&self, other: &Self) -> [(IpAddr, IpAddr); 2] {
        let ([a4, a6], [b4, b6]) = (self.addresses, other.addresses);
        [(a4, b4), (a6, b6)]
    }
}

pub(crate) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
