//! Streams like those of calls: a packet each way every 20 ms, to ports that nothing guards.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::network::Site;

const PORT: u16 = 16384;
const PACKET_TIME: Duration = Duration::from_millis(20);
/// An RTP header and 20 ms of telephone sound.
const PACKET: usize = 12 + 160;
/// How long the last packets may be on their way.
const LAST: Duration = Duration::from_secs(1);

/// Streams that run until they are asked how it went.
pub(crate) struct Media {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Result<Tallies>>,
}

/// How many packets went one way, all streams together.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

#[derive(Default)]
pub(crate) struct Tallies {
    pub(crate) to_gateway: Tally,
    pub(crate) to_peers: Tally,
}

impl Media {
    /// A stream each way between the gateway and each of `peers`, over IPv4 and over IPv6.
    pub(crate) fn start(gateway: &Site, peers: &[&Site]) -> Result<Self> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for (peer, port) in peers.iter().zip(PORT..) {
            for (near, far) in gateway.to(peer) {
                let (near, far) = (SocketAddr::new(near, port), SocketAddr::new(far, port));
                ours.push(gateway.host.enter(|| connect(near, far))?);
                theirs.push(peer.host.enter(|| connect(far, near))?);
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let worker = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || stream(&ours, &theirs, &stop))
        };
        Ok(Self { stop, worker })
    }

    /// Ends the streams.
    pub(crate) fn finish(self) -> Result<Tallies> {
        self.stop.store(true, Ordering::Relaxed);
        self.worker
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Ends the streams; an error where a packet was lost.
    pub(crate) fn end(self) -> Result<String> {
        let Tally { sent, received } = self.finish()?.sum();
        let found = format!("{sent} packets sent, {received} received");
        ensure!(received == sent, found);
        Ok(found)
    }
}

fn connect(from: SocketAddr, to: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(from)?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn stream(ours: &[UdpSocket], theirs: &[UdpSocket], stop: &AtomicBool) -> Result<Tallies> {
    let mut tallies = Tallies::default();
    for sequence in 0_u16.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut packet = [0; PACKET];
        // RTP's version 2, A-law.
        packet[..2].copy_from_slice(&[0x80, 8]);
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        tallies.to_peers.send(ours, &packet)?;
        tallies.to_gateway.send(theirs, &packet)?;
        thread::sleep(PACKET_TIME);
        tallies.receive(ours, theirs)?;
    }
    let ended = Instant::now();
    while tallies.sum().received < tallies.sum().sent && ended.elapsed() < LAST {
        thread::sleep(PACKET_TIME);
        tallies.receive(ours, theirs)?;
    }
    Ok(tallies)
}

impl Tallies {
    fn receive(&mut self, ours: &[UdpSocket], theirs: &[UdpSocket]) -> Result<()> {
        self.to_gateway.receive(ours)?;
        self.to_peers.receive(theirs)
    }

    fn sum(&self) -> Tally {
        Tally {
            sent: self.to_gateway.sent + self.to_peers.sent,
            received: self.to_gateway.received + self.to_peers.received,
        }
    }
}

impl Tally {
    fn send(&mut self, sockets: &[UdpSocket], packet: &[u8]) -> Result<()> {
        for socket in sockets {
            ensure!(socket.send(packet)? == packet.len());
            self.sent += 1;
        }
        Ok(())
    }

    fn receive(&mut self, sockets: &[UdpSocket]) -> Result<()> {
        for socket in sockets {
            loop {
                match socket.recv(&mut [0; PACKET]) {
                    Ok(_) => self.received += 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}
