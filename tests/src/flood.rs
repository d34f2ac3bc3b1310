//! A flood, and a flow from a provider in it: whatever is changed meanwhile, none of the flood gets through, and all of the flow does.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::scene::{PROVIDER, Scene, bind};

/// How many frames of the flood go before each one of the flow, and how many of the flow's may be on their way. All of them together
/// fit into a veth's ring (256 frames), which is where they would be lost otherwise.
const FLOOD: usize = 16;
const FLOW: usize = 4;

/// Ends the traffic, also where a change fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets `change` change something so many times while these sources send to port 5060 of `eth0` as fast as they can, and [`PROVIDER`] in
/// between.
///
/// # Panics
/// Where `change` does.
pub fn flooded(
    scene: &Scene,
    unlisted: &[&str],
    times: usize,
    mut change: impl FnMut(usize),
) -> Traffic {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic(scene, unlisted, &ended));
        let end = End(&ended);
        for turn in 1..=times {
            change(turn);
            if traffic.is_finished() {
                break;
            }
        }
        drop(end);
        traffic.join().expect("the traffic")
    })
}

/// What was sent, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Frames of the provider that were sent.
    pub flow: u64,
    /// And that arrived.
    pub arrived: u64,
    /// Frames of the flood that were sent.
    pub flood: u64,
    /// And that arrived.
    pub leaked: u64,
}

/// Each round waits until its part of the flow has arrived. Ends early where something goes wrong.
fn traffic(scene: &Scene, unlisted: &[&str], ended: &AtomicBool) -> Traffic {
    let frame = |source: &str, text: &[u8]| {
        let frame = scene.frame("eth0", source).udp(5060);
        frame.payload(text).bytes()
    };
    let wire = scene.wire("eth0");
    let unlisted: Vec<_> = unlisted.iter().map(|it| frame(it, b"scan")).collect();
    let mut unlisted = unlisted.iter().cycle();
    let listed = [b"call".as_slice(); FLOW].map(|text| frame(PROVIDER, text));
    let socket = scene.gateway.enter(|| bind(5060));
    let patience = Some(Duration::from_secs(5));
    socket.set_read_timeout(patience).expect("a timeout");
    let mut done = Traffic {
        flow: 0,
        arrived: 0,
        flood: 0,
        leaked: 0,
    };
    let mut buffer = [0; 64];
    while !ended.load(Ordering::Relaxed) && done.leaked == 0 && done.arrived == done.flow {
        for listed in &listed {
            for unlisted in unlisted.by_ref().take(FLOOD) {
                wire.send(unlisted);
            }
            wire.send(listed);
        }
        done.flow += FLOW as u64;
        done.flood += (FLOW * FLOOD) as u64;
        while done.arrived < done.flow {
            match socket.recv(&mut buffer) {
                Ok(length) if &buffer[..length] == b"scan" => done.leaked += 1,
                Ok(_) => done.arrived += 1,
                Err(_) => break,
            }
        }
    }
    scene.settle("eth0");
    socket.set_nonblocking(true).expect("an option of sockets");
    while socket.recv(&mut buffer).is_ok() {
        done.leaked += 1;
    }
    done
}
