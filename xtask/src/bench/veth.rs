//! How many packets a second a host gets rid of: frames from random sources, put on a veth cable in the kernel, so that nothing but the
//! receiving side counts. Sender and receiver share one processor.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::{
    Effort,
    bpf::Program,
    filters::Filter,
    frames,
    guard::INTERFACE,
    lists::{self, Prefix},
};
use crate::netns::{End, Host, Mac, Sandbox, join};

const FILTERS: [Filter; 8] = [
    Filter::Empty,
    Filter::Native,
    Filter::Tc,
    Filter::Xdp,
    Filter::NftIngress,
    Filter::NftRaw,
    Filter::NftInput,
    Filter::Ipset,
];

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) filter: &'static str,
    pub(super) entries: usize,
    /// Millions of packets a second, the median of several rounds; nothing where the filter is not there.
    pub(super) mpps: Option<f64>,
    pub(super) ratio_to_empty: Option<f64>,
}

pub(super) fn run(sandbox: &Sandbox, effort: &Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &entries in effort.veth_sizes {
        let list = lists::ipv4(entries);
        let mut rates = FILTERS.map(|_| Vec::new());
        for _ in 0..effort.veth_rounds {
            for (filter, rates) in FILTERS.iter().zip(&mut rates) {
                if filter.is_possible(entries) {
                    rates.push(turn(sandbox, *filter, &list, effort.veth_frames)?);
                }
            }
        }
        let medians = rates.map(median);
        let limit = medians[0].unwrap_or(f64::NAN);
        rows.extend(FILTERS.iter().zip(medians).map(|(filter, mpps)| Row {
            filter: filter.name(),
            entries,
            mpps,
            ratio_to_empty: mpps.map(|mpps| mpps / limit),
        }));
    }
    Ok(rows)
}

fn turn(sandbox: &Sandbox, filter: Filter, list: &[Prefix], frames: u32) -> Result<f64> {
    let (sender, receiver) = (sandbox.host(), sandbox.host());
    let macs = join(
        End {
            host: &sender,
            interface: INTERFACE,
            addresses: &["198.51.100.1/24"],
        },
        End {
            host: &receiver,
            interface: INTERFACE,
            addresses: &["198.51.100.2/24"],
        },
    );
    receiver.ip("route add default via 198.51.100.1");
    poll(&receiver)?;
    let guard = filter.install(&receiver, list)?;
    let target = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2));
    let frame = frames::udp(macs, lists::COMPLEMENTS, target, 5060, false, &[]);
    let program = Program::send(number(&sender, INTERFACE)?)?;
    let inject = |frames| {
        sender.enter(|| {
            alone()?;
            program.inject(&frame, frames)
        })
    };
    // Caches and page pools fill.
    inject(frames / 20)?;
    let before = received(&receiver)?;
    let began = Instant::now();
    inject(frames)?;
    let took = began.elapsed();
    let arrived = received(&receiver)? - before;
    ensure!(
        arrived * 10 > u64::from(frames) * 9,
        "{}: only {arrived} of {frames} frames arrived",
        filter.name()
    );
    if let Some(guard) = guard {
        guard.down(&receiver)?;
    }
    Ok(arrived as f64 / took.as_secs_f64() / 1e6)
}

/// Lets nothing else run on this thread's processor while it runs: neither other programs, nor the kernel's thread that takes over
/// from an interrupt and waits for its turn like any other.
fn alone() -> Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: concerns the calling thread, and reads one structure.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) };
    ensure!(
        result == 0,
        "SCHED_FIFO: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}

/// Has a veth take frames as a network card's driver does, with or without a program.
pub(super) fn poll(host: &Host) -> Result<()> {
    ethtool(host, ["gro", "on"])
}

/// Turns a feature of a host's interface on or off.
pub(super) fn ethtool(host: &Host, feature: [&str; 2]) -> Result<()> {
    let mut ethtool = Command::new("ethtool");
    let finished = host.run(ethtool.args(["-K", INTERFACE]).args(feature));
    ensure!(
        finished.status.success(),
        "ethtool: {}",
        finished.stderr.trim()
    );
    Ok(())
}

/// The kernel's number of an interface.
pub(super) fn number(host: &Host, interface: &str) -> Result<u32> {
    let number = link(host, interface)?["ifindex"].as_u64();
    Ok(u32::try_from(number.context("ip shows no number")?)?)
}

/// An interface's Ethernet address.
pub(super) fn mac(host: &Host, interface: &str) -> Result<Mac> {
    let link = link(host, interface)?;
    let text = link["address"].as_str().context("ip shows no address")?;
    let mut mac = Mac::default();
    for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(digits, 16)?;
    }
    Ok(mac)
}

/// Packets that an interface took.
pub(super) fn received(host: &Host) -> Result<u64> {
    let packets = link(host, INTERFACE)?["stats64"]["rx"]["packets"].as_u64();
    packets.context("ip shows no count of packets")
}

fn link(host: &Host, interface: &str) -> Result<serde_json::Value> {
    let shown = host
        .ip(&format!("-json -stats link show {interface}"))
        .stdout;
    let mut links: serde_json::Value = serde_json::from_str(&shown)?;
    Ok(links[0].take())
}

fn median(mut rates: Vec<f64>) -> Option<f64> {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied()
}
