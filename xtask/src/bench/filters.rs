//! What stands before a host's SIP port: sipguard, and what people use in its stead. All drop UDP to the guarded ports from sources that
//! are not on the list.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Result, ensure};

use super::{
    bpf::Program,
    builds::Build,
    guard::{Guard, INTERFACE, Mode},
    lists::{self, Prefix},
};
use crate::{
    machine,
    netns::{Host, SCRATCH},
};

const PORTS: &str = "5060, 5061, 50600, 80";
/// xdp-filter takes one address a call, and no prefixes; its table holds 10,000.
const XDP_FILTER_MOST: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// Lets everything pass.
    Nothing,
    Native,
    Tc,
    /// A program at TC ingress that drops everything without a look: the limit there.
    EmptyTc,
    /// xdp-filter of xdp-tools.
    Xdp,
    NftIngress,
    NftRaw,
    NftInput,
    Ipset,
}

impl Filter {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no filter",
            Self::Native => "sipguard native",
            Self::Tc => "sipguard tc",
            Self::EmptyTc => "empty, at TC ingress",
            Self::Xdp => "xdp-filter",
            Self::NftIngress => "nftables ingress",
            Self::NftRaw => "nftables prerouting raw",
            Self::NftInput => "nftables input",
            Self::Ipset => "iptables raw + ipset",
        }
    }

    /// Whether it is there, and can be had with so many entries in a time that anybody would wait.
    pub(super) fn is_possible(self, entries: usize) -> bool {
        let there = |program| machine::find(program).is_some();
        match self {
            Self::Nothing | Self::Native | Self::Tc | Self::EmptyTc => true,
            Self::Xdp => there("xdp-filter") && entries <= XDP_FILTER_MOST,
            Self::NftIngress | Self::NftRaw | Self::NftInput => there("nft"),
            Self::Ipset => there("ipset") && there("iptables"),
        }
    }

    /// Puts it in force on a host; what is returned is to be removed afterwards, all else ends with the host.
    pub(super) fn install(
        self,
        host: &Host,
        list: &[Prefix],
        build: &Build,
    ) -> Result<Option<Guard>> {
        match self {
            Self::Nothing => {}
            Self::Native => return guard(host, list, build, Mode::Native).map(Some),
            Self::Tc => return guard(host, list, build, Mode::Tc).map(Some),
            Self::EmptyTc => Program::empty_tc()?.attach_tc(host, INTERFACE)?,
            Self::Xdp => xdp_filter(host, list)?,
            Self::NftIngress => {
                let hook = format!("ingress device {INTERFACE} priority 0");
                nft(host, "netdev", &hook, list)?;
            }
            Self::NftRaw => nft(host, "ip", "prerouting priority raw", list)?,
            Self::NftInput => nft(host, "ip", "input priority filter", list)?,
            Self::Ipset => {
                ipset(host, list)?;
                let rule = "-t raw -A PREROUTING -p udp -m multiport --dports 5060,5061,50600,80 \
                            -m set ! --match-set listed src -j DROP";
                succeed(host, Command::new("iptables").args(rule.split_whitespace()))?;
            }
        }
        Ok(None)
    }
}

fn guard(host: &Host, list: &[Prefix], build: &Build, mode: Mode) -> Result<Guard> {
    let guard = Guard::by(&build.binary, &lists::text(list), mode)?;
    guard.apply(host)?;
    Ok(guard)
}

fn xdp_filter(host: &Host, list: &[Prefix]) -> Result<()> {
    let mut lines =
        format!("set -e; xdp-filter load {INTERFACE} --policy deny --features ipv4,udp\n");
    for prefix in list {
        writeln!(lines, "xdp-filter ip {} --mode src", prefix.address)?;
    }
    succeed(host, Command::new("sh").args(["-c", &lines]))
}

/// The list as nft reads it.
pub(super) fn nft_text(family: &str, hook: &str, list: &[Prefix]) -> String {
    let elements: Vec<String> = list.iter().map(ToString::to_string).collect();
    format!(
        "table {family} bench {{
  set listed {{ type ipv4_addr; flags interval; elements = {{ {} }} }}
  chain guard {{
    type filter hook {hook}; policy accept;
    udp dport {{ {PORTS} }} ip saddr != @listed drop
  }}
}}
",
        elements.join(", ")
    )
}

fn nft(host: &Host, family: &str, hook: &str, list: &[Prefix]) -> Result<()> {
    let file = Path::new(SCRATCH).join("bench.nft");
    fs::write(&file, nft_text(family, hook, list))?;
    succeed(host, Command::new("nft").arg("-f").arg(file))
}

/// The list as ipset reads it.
pub(super) fn ipset_text(list: &[Prefix]) -> String {
    let most = list.len().max(65_536);
    let mut text = format!("create listed hash:net maxelem {most}\n");
    for prefix in list {
        // Writing into a string never fails.
        let _ = writeln!(text, "add listed {prefix}");
    }
    text
}

fn ipset(host: &Host, list: &[Prefix]) -> Result<()> {
    let file = Path::new(SCRATCH).join("bench.ipset");
    fs::write(&file, ipset_text(list))?;
    succeed(
        host,
        Command::new("ipset").arg("restore").arg("-file").arg(file),
    )
}

fn succeed(host: &Host, command: &mut Command) -> Result<()> {
    let finished = host.run(command);
    ensure!(
        finished.status.success(),
        "{}: {}",
        finished.what,
        finished.stderr.trim()
    );
    Ok(())
}
