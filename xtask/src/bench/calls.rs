//! What calls notice of a flood: SIPp calls from an allowlisted provider, with media beside them, while a scanner's packets from sources that
//! are not listed arrive at the gateway's SIP port. The gateway has one processor for what it receives and for its SIP server.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    Effort,
    builds::Build,
    cable,
    filters::Filter,
    guard::INTERFACE,
    lists::Prefix,
    place::{self, Places},
    wire::Wire,
};
use crate::{
    demo::{media::Media, network::Network, sip},
    netns::{SCRATCH, Sandbox},
};

const GATEWAYS: [(Filter, Receiving); 5] = [
    (Filter::Nothing, Receiving::InTurn),
    (Filter::NftIngress, Receiving::InTurn),
    (Filter::Native, Receiving::InTurn),
    (Filter::Native, Receiving::First),
    (Filter::Native, Receiving::Apart),
];
const CALLS_PER_SECOND: u32 = 50;
/// How long the provider waits for an answer.
const ANSWER_MS: &str = "4000";

/// How the gateway's kernel receives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiving {
    /// In a thread that waits for its turn as programs do.
    InTurn,
    /// In one that waits for no program.
    First,
    /// The same with a queue for each processor, as network cards have them, and the provider's packets in another one than the flood.
    Apart,
}

impl Receiving {
    const fn name(self) -> &'static str {
        match self {
            Self::InTurn => "",
            Self::First => ", received first",
            Self::Apart => ", received first, in a queue of its own",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) filter: String,
    /// Packets a second that were wanted; nothing where as many as go were.
    pub(super) wanted: Option<u32>,
    /// Packets a second that were sent to the gateway.
    pub(super) flood: u64,
    /// Packets a second that its interface took from its queue, calls and media among them; the rest found the queue full.
    pub(super) taken: u64,
    pub(super) calls: u32,
    /// Calls with an answer, and an answer to their end, each within 4 s.
    pub(super) completed: u64,
    /// Milliseconds from the first INVITE to its answer, of the calls that were answered; a lost packet costs 500.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// Of the packets to the gateway only: the flood is not in the way of the others.
    pub(super) media_sent: u64,
    pub(super) media_lost: u64,
}

pub(super) fn run(sandbox: &Sandbox, effort: &Effort, build: &Build) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let Some(places) = Places::find()? else {
        eprintln!("calls under flood: need two processors");
        return Ok(rows);
    };
    for &flood in effort.floods {
        for (filter, receiving) in GATEWAYS {
            if filter.is_possible(1) {
                let gateway = (filter, build, receiving);
                rows.push(turn(sandbox, places, gateway, flood, effort.calls)?);
            }
        }
    }
    Ok(rows)
}

fn turn(
    sandbox: &Sandbox,
    places: Places,
    (filter, build, receiving): (Filter, &Build, Receiving),
    flood: Option<u32>,
    calls: u32,
) -> Result<Row> {
    let network = match receiving {
        Receiving::InTurn | Receiving::First => Network::new(sandbox)?,
        // The flood comes by the queue of the processor that sends it, and what the router forwards by the first one.
        Receiving::Apart => Network::by_queues(sandbox, places.world + 1)?,
    };
    let (gateway, provider) = (&network.gateway, &network.provider);
    // Answers to the flood go nowhere.
    network.internet.ip("route add blackhole default");
    cable::poll(&gateway.host)?;
    for thread in place::receive_on(places.gateway, &gateway.host)? {
        if receiving != Receiving::InTurn {
            place::first(Some(thread))?;
        }
    }
    let allowed = provider.addresses.map(|address| Prefix {
        address,
        length: if address.is_ipv4() { 32 } else { 128 },
    });
    // nftables' set is one of IPv4 addresses, and so are the calls.
    let guard = filter.install(&gateway.host, &allowed[..1], build)?;
    let _serving = place::on(places.gateway, || {
        Ok(sip::serve(&gateway.host, gateway.addresses))
    })?;
    let macs = [
        cable::mac(&network.internet, gateway.uplink)?,
        cable::mac(&gateway.host, INTERFACE)?,
    ];
    let [target, _] = gateway.addresses;
    let out = cable::number(&network.internet, gateway.uplink)?;
    let wire = Wire::new(out, flood, macs, target)?;
    if receiving != Receiving::Apart {
        wire.take(&network.internet, provider.uplink)?;
    }
    // A wire carries finished checksums.
    cable::ethtool(&provider.host, ["tx", "off"])?;

    let received = cable::received(&gateway.host)?;
    let began = Instant::now();
    let (answered, media) = place::on(places.world, || {
        wire.carry(&network.internet, || {
            let media = Media::start(gateway, &[provider])?;
            Ok((call(&network, calls)?, media.finish()?))
        })
    })?;
    let took = began.elapsed().as_secs_f64();
    let taken = cable::received(&gateway.host)? - received;
    let media = media.to_gateway;
    if let Some(guard) = guard {
        guard.down(&gateway.host)?;
    }
    Ok(Row {
        filter: format!("{}{}", filter.name(), receiving.name()),
        wanted: flood,
        flood: (wire.flooded()? as f64 / took) as u64,
        taken: (taken as f64 / took) as u64,
        calls,
        completed: answered.completed,
        p50_ms: percentile(&answered.times, 50),
        p99_ms: percentile(&answered.times, 99),
        media_sent: media.sent,
        media_lost: media.sent - media.received,
    })
}

struct Answered {
    completed: u64,
    /// Milliseconds, in rising order.
    times: Vec<f64>,
}

fn call(network: &Network, calls: u32) -> Result<Answered> {
    let folder = tempfile::tempdir_in(SCRATCH)?;
    let [from, _] = network.provider.addresses;
    let [to, _] = network.gateway.addresses;
    let seconds = calls / CALLS_PER_SECOND + 4;
    let mut sipp = sip::sipp(from, sip::Transport::Udp);
    sipp.args([
        "-sn",
        "uac",
        "-d",
        "200",
        "-r",
        &CALLS_PER_SECOND.to_string(),
    ])
    .args(["-m", &calls.to_string(), "-timeout", &seconds.to_string()])
    .args(["-recv_timeout", ANSWER_MS])
    .args([
        "-trace_rtt",
        "-rtt_freq",
        "1",
        "-trace_stat",
        "-stf",
        "calls.csv",
    ])
    .arg(format!("{to}:5060"))
    .current_dir(folder.path());
    network.provider.host.run(&mut sipp);
    let completed = sip::Calls::read(&folder.path().join("calls.csv"))?.completed;
    Ok(Answered {
        completed,
        times: times(folder.path())?,
    })
}

/// SIPp writes a file of response times: a line each, the milliseconds in the second column.
fn times(folder: &Path) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        if file.file_name().to_string_lossy().ends_with("_rtt.csv") {
            let text = fs::read_to_string(file.path()).context("sipp's response times")?;
            let columns = text
                .lines()
                .skip(1)
                .filter_map(|line| line.split(';').nth(1));
            times.extend(columns.filter_map(|time| time.parse::<f64>().ok()));
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn percentile(times: &[f64], percent: usize) -> Option<f64> {
    times
        .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
        .copied()
}
