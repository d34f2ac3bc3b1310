//! What the fetcher keeps in memory while nothing is due, behind real servers: a gateway's names and feeds together, as nobody has fewer tasks than
//! a test of one kind.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr},
};

use sipguard_lists::task::{Dns, Kind, Names, Task, Tasks};
use sipguard_tests::{
    certificates::certify,
    dnsmasq::dnsmasq,
    fetcher::{Fetcher, SERVER, SOURCE, gateway_and_server, list, memory},
    netns::sandbox,
    nginx::nginx,
};
use tempfile::TempDir;

/// Two of them are services, of two of the others each.
const NAMES: [&str; 10] = [
    "sip1.provider.example",
    "sip2.provider.example",
    "sip3.provider.example",
    "sip4.provider.example",
    "sbc.other.example",
    "edge.other.example",
    "office.customer.example",
    "admin.customer.example",
    "_sip._udp.provider.example",
    "_sips._tcp.other.example",
];
/// Lists, with how many entries each has.
const FEEDS: [(&str, u32); 2] = [("scanners", 50_000), ("fraud", 5_000)];

#[test]
fn ten_names_and_two_feeds_take_no_more_than_15_mib() {
    sandbox(|sandbox| {
        let (gateway, server) = gateway_and_server(sandbox);
        let files = TempDir::new().expect("a temporary folder");
        certify(files.path(), SERVER);
        for (feed, entries) in FEEDS {
            let mut text = String::new();
            for place in 0..entries {
                let address = Ipv4Addr::from(0x0b00_0000 + place * 7_919 % entries * 37);
                writeln!(text, "{address}").expect("memory");
            }
            fs::write(files.path().join(format!("{feed}.txt")), text).expect("a folder of ours");
        }
        let folder = files.path().display();
        let _web = nginx(
            &server,
            files.path(),
            &format!("root {folder}; default_type text/plain;"),
        );
        let hosts = NAMES.iter().filter(|name| !name.starts_with('_'));
        let hosts = hosts.enumerate().map(|(place, name)| {
            format!("host-record={name},203.0.113.{place},2001:db8::{place:x},3000")
        });
        let services = [
            "srv-host=_sip._udp.provider.example,sip1.provider.example,5060",
            "srv-host=_sip._udp.provider.example,sip2.provider.example,5060",
            "srv-host=_sips._tcp.other.example,sbc.other.example,5061",
            "srv-host=_sips._tcp.other.example,edge.other.example,5061",
        ];
        let records: Vec<String> = hosts.chain(services.map(str::to_owned)).collect();
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        let _names = dnsmasq(&server, SERVER, &records);

        let mut sources = vec![Task {
            source: SOURCE.to_owned(),
            kind: Kind::Names(Names {
                names: NAMES.map(|name| name.parse().expect("a name")).into(),
                hold: Names::HOLD,
                private: false,
            }),
        }];
        sources.extend(FEEDS.map(|(feed, _)| Task {
            source: feed.to_owned(),
            kind: Kind::Url(list(feed, files.path())),
        }));
        let tasks = Tasks {
            dns: Dns {
                servers: vec![SERVER.parse::<IpAddr>().expect("an address")],
                ..Dns::default()
            },
            guarded_ports: [5060].into(),
            sources,
            ..Tasks::none()
        };
        let fetcher = Fetcher::new();
        fetcher.order(&tasks);
        let service = fetcher.service(&gateway);
        // The services' hosts are among the others.
        service.wait_for_error("live: 16 entries");
        for (feed, entries) in FEEDS {
            service.wait_for_error(&format!("{feed}: {entries} entries"));
        }
        let (idle, peak) = (memory(&service, "VmRSS"), memory(&service, "VmHWM"));
        println!("{idle} kB, {peak} kB at most");
        assert!(idle <= 15 << 10, "{idle} kB");
        let finished = service.stop();
        assert_eq!(
            finished.stderr.lines().count(),
            3,
            "nothing went wrong: {}",
            finished.stderr
        );
    });
}
