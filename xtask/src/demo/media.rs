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
    worker: JoinHandle<Result<Tally>>,
}

/// How many packets went each way, all streams together.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Media {
    /// A stream each way between the gateway and each of `peers`, over IPv4 and over IPv6.
    pub(crate) fn start(gateway: &Site, peers: &[&Site]) -> Result<Self> {
        let mut sockets = Vec::new();
        for (peer, port) in peers.iter().zip(PORT..) {
            for (near, far) in gateway.to(peer) {
                let (near, far) = (SocketAddr::new(near, port), SocketAddr::new(far, port));
                sockets.push(gateway.host.enter(|| connect(near, far))?);
                sockets.push(peer.host.enter(|| connect(far, near))?);
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let worker = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || stream(&sockets, &stop))
        };
        Ok(Self { stop, worker })
    }

    /// Ends the streams.
    pub(crate) fn finish(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.worker
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Ends the streams; an error where a packet was lost.
    pub(crate) fn end(self) -> Result<String> {
        let Tally { sent, received } = self.finish()?;
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

fn stream(sockets: &[UdpSocket], stop: &AtomicBool) -> Result<Tally> {
    let mut tally = Tally::default();
    for sequence in 0_u16.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut packet = [0; PACKET];
        // RTP's version 2, A-law.
        packet[..2].copy_from_slice(&[0x80, 8]);
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        for socket in sockets {
            ensure!(socket.send(&packet)? == PACKET);
            tally.sent += 1;
        }
        thread::sleep(PACKET_TIME);
        tally.receive(sockets)?;
    }
    let ended = Instant::now();
    while tally.received < tally.sent && ended.elapsed() < LAST {
        thread::sleep(PACKET_TIME);
        tally.receive(sockets)?;
    }
    Ok(tally)
}

impl Tally {
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
