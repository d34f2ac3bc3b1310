//! Real SIP: SIPp answers and calls, svmap scans.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::machine;
use crate::netns::{Host, Process, SCRATCH, until};

const PORT: u16 = 5060;

#[derive(Clone, Copy)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::Udp, Self::Tcp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// User agents that answer OPTIONS and take calls, until the demo ends.
pub(crate) fn serve(host: &Host, addresses: [IpAddr; 2]) -> Vec<Process> {
    let mut serving = Vec::new();
    for address in addresses {
        for transport in Transport::ALL {
            let mut sipp = sipp(address, transport);
            sipp.arg("-sf")
                .arg(machine::workspace().join("xtask/src/demo/gateway.xml"));
            serving.push(host.spawn(&mut sipp));
        }
    }
    until("every sipp of the gateway listens", || {
        let mut ss = Command::new("ss");
        ss.args(["-H", "-l", "-n", "-t", "-u", "sport", "="])
            .arg(format!(":{PORT}"));
        host.run(&mut ss).stdout.lines().count() == serving.len()
    });
    serving
}

/// What SIPp says about the calls that it made.
pub(crate) struct Calls {
    pub(crate) completed: u64,
    pub(crate) retransmissions: u64,
}

/// Makes calls, and gives up after `seconds`.
pub(crate) fn call(
    host: &Host,
    (from, to): (IpAddr, IpAddr),
    transport: Transport,
    calls: u64,
    seconds: u64,
) -> Result<Calls> {
    let statistics = Path::new(SCRATCH).join(format!("{}-{from}.csv", transport.name()));
    let mut sipp = sipp(from, transport);
    sipp.args(["-sn", "uac", "-r", "25", "-d", "200"])
        .args(["-m", &calls.to_string()])
        .args(["-timeout", &seconds.to_string(), "-timeout_error"])
        .args(["-trace_stat", "-stf"])
        .arg(&statistics)
        .arg(SocketAddr::new(to, PORT).to_string());
    let finished = host.run(&mut sipp);
    Calls::read(&statistics).with_context(|| format!("sipp: {}", finished.stderr.trim()))
}

impl Calls {
    /// Reads the last line: the sums at the end.
    pub(crate) fn read(statistics: &Path) -> Result<Self> {
        let text = fs::read_to_string(statistics).context("no statistics")?;
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default();
        let last = lines.next_back().unwrap_or_default();
        let sum = |name: &str| -> Result<u64> {
            let (_, sum) = header
                .split(';')
                .zip(last.split(';'))
                .find(|(column, _)| *column == name)
                .with_context(|| format!("no {name} in the statistics"))?;
            Ok(sum.parse()?)
        };
        Ok(Self {
            completed: sum("SuccessfulCall(C)")?,
            retransmissions: sum("Retransmissions(C)")?,
        })
    }
}

/// SIPp at an address's port 5060.
pub(crate) fn sipp(address: IpAddr, transport: Transport) -> Command {
    let mut sipp = Command::new("sipp");
    let socket = match transport {
        Transport::Udp => "u1",
        Transport::Tcp => "t1",
    };
    sipp.args(["-t", socket, "-i", &address.to_string()]).args([
        "-p",
        &PORT.to_string(),
        "-nostdin",
    ]);
    sipp
}

/// What svmap, which speaks UDP only, takes the device at `address` for; nothing where it finds none.
pub(crate) fn scan(host: &Host, address: IpAddr) -> Result<Option<String>> {
    let address = address.to_string();
    let family = if address.contains(':') {
        &["-6"][..]
    } else {
        &[]
    };
    let svmap = host.run(Command::new("svmap").args(family).arg(&address));
    // | address:port | user agent |
    if let Some(row) = svmap.stdout.lines().find(|row| row.contains(&address)) {
        return Ok(row.split('|').nth(2).map(|agent| agent.trim().to_owned()));
    }
    if !svmap.stderr.contains("found nothing") {
        bail!("svmap: {}: {}", svmap.status, svmap.stderr.trim());
    }
    Ok(None)
}
