//! What calls notice of a flood: SIPp calls from an allowlisted provider, with media beside them, while packets from sources that are
//! not listed arrive at the gateway's SIP port.

use std::{
    fs,
    net::IpAddr,
    panic,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    Effort,
    bpf::Program,
    filters::Filter,
    frames,
    guard::INTERFACE,
    lists::{COMPLEMENTS, Prefix},
    veth,
};
use crate::{
    demo::{media::Media, network::Network, sip},
    netns::{Mac, SCRATCH, Sandbox},
};

const FILTERS: [Filter; 3] = [Filter::Nothing, Filter::NftIngress, Filter::Native];
const CALLS_PER_SECOND: u32 = 50;
/// How often the flood's sender looks at the clock.
const BEAT: Duration = Duration::from_millis(2);
/// Frames between two looks where as many as go are wanted.
const BURST: u32 = 20_000;

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) filter: &'static str,
    /// Packets a second that were wanted; nothing where as many as go were.
    pub(super) wanted: Option<u32>,
    /// Packets a second that were sent.
    pub(super) flood: u64,
    pub(super) calls: u32,
    pub(super) completed: u64,
    /// Milliseconds from INVITE to its answer.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) media_sent: u64,
    pub(super) media_lost: u64,
}

pub(super) fn run(sandbox: &Sandbox, effort: &Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &flood in effort.floods {
        for filter in FILTERS.into_iter().filter(|filter| filter.is_possible(1)) {
            rows.push(turn(sandbox, filter, flood, effort.calls)?);
        }
    }
    Ok(rows)
}

fn turn(sandbox: &Sandbox, filter: Filter, flood: u32, calls: u32) -> Result<Row> {
    let network = Network::new(sandbox)?;
    let (gateway, provider) = (&network.gateway, &network.provider);
    veth::poll(&gateway.host)?;
    let allowed = provider.addresses.map(|address| Prefix {
        address,
        length: if address.is_ipv4() { 32 } else { 128 },
    });
    // nftables' set is one of IPv4 addresses, and so are the calls.
    let guard = filter.install(&gateway.host, &allowed[..1])?;
    let _serving = sip::serve(&gateway.host, gateway.addresses);
    let macs = [
        veth::mac(&network.internet, gateway.uplink)?,
        veth::mac(&gateway.host, INTERFACE)?,
    ];
    let [target, _] = gateway.addresses;
    let flooder = Flooder::new(&network, macs, target)?;
    let media = Media::start(gateway, &[provider])?;

    let stop = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    let began = Instant::now();
    let (answered, took) = thread::scope(|scope| {
        let flooding = scope.spawn(|| network.internet.enter(|| flooder.run(flood, &stop, &sent)));
        let answered = call(&network, calls);
        let took = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        let ended = flooding
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic));
        (ended.and(answered), took)
    });
    let answered = answered?;
    let media = media.finish()?;
    if let Some(guard) = guard {
        guard.down(&gateway.host)?;
    }
    Ok(Row {
        filter: filter.name(),
        wanted: (flood != u32::MAX).then_some(flood),
        flood: (sent.into_inner() as f64 / took.as_secs_f64()) as u64,
        calls,
        completed: answered.completed,
        p50_ms: percentile(&answered.times, 50),
        p99_ms: percentile(&answered.times, 99),
        media_sent: media.sent,
        media_lost: media.sent - media.received,
    })
}

struct Flooder {
    program: Program,
    frame: Vec<u8>,
}

impl Flooder {
    fn new(network: &Network, macs: [Mac; 2], target: IpAddr) -> Result<Self> {
        let out = veth::number(&network.internet, network.gateway.uplink)?;
        Ok(Self {
            program: Program::send(out)?,
            frame: frames::udp(macs, COMPLEMENTS, target, 5060, false),
        })
    }

    fn run(&self, rate: u32, stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
        let began = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let so_far = sent.load(Ordering::Relaxed);
            let due = if rate == u32::MAX {
                BURST
            } else {
                let due = began.elapsed().as_secs_f64() * f64::from(rate) - so_far as f64;
                // What can't be sent in time is not made up for in one burst.
                due.clamp(0.0, f64::from(BURST)) as u32
            };
            if due == 0 {
                thread::sleep(BEAT);
                continue;
            }
            self.program.inject(&self.frame, due)?;
            sent.fetch_add(due.into(), Ordering::Relaxed);
        }
        Ok(())
    }
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
