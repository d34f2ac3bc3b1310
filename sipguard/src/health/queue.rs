//! Whether a flood finds room in an interface's queue, and whoever empties it time. What is not set is told of where packets were lost for it: on
//! most hosts none ever is.

use std::{num::NonZero, thread};

use crate::{
    device::{Device, Receive, Setting, Threads},
    prose::joined,
};

use super::{Evidence, Finding, Kind};

pub(super) const FINDS: &[Kind] = &[Kind::QueueFull, Kind::ReceivedInTurn];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let guarded = evidence
        .interfaces
        .iter()
        .filter(|interface| interface.mode.is_some())
        .filter_map(|interface| {
            let mut devices = evidence.devices.iter();
            devices.find(|device| device.name == interface.name)
        });
    guarded
        .flat_map(|device| {
            let receive = Receive::of(device);
            [full(device, receive, processors), in_turn(device, receive)]
        })
        .flatten()
        .collect()
}

/// What would have helped, where packets were lost.
fn full(device: &Device, receive: Receive, processors: usize) -> Option<Finding> {
    if device.missed == 0 {
        return None;
    }
    let Device { name, missed, .. } = device;
    let (mut why, mut mend) = (Vec::new(), Vec::new());
    if let Some(Setting { now, most }) = receive.ring
        && now < most
    {
        why.push(format!("its ring has room for {now} packets of {most}"));
        mend.push(format!("ethtool -G {name} rx {most}"));
    }
    if let Some(Setting { now, most }) = receive.queues {
        let wanted = u32::try_from(processors).unwrap_or(u32::MAX).min(most);
        if now < wanted {
            why.push(format!("it receives by {now} of {wanted} queues"));
            mend.push(format!("ethtool -L {name} combined {wanted}"));
        }
    }
    if receive.threads == Some(Threads::None) {
        why.push("it is not received before everything else".to_owned());
        if mend.is_empty() {
            mend.push("# docs/flood.md, \"Receive first\", says how, and when not to".to_owned());
        }
    }
    if why.is_empty() {
        return None;
    }
    let about = format!(
        "{name} has lost {missed} packets that found its queue full; {}",
        joined(why)
    );
    Some(Kind::QueueFull.advice(about, mend.join(" && ")).on(name))
}

/// Threads that are made anew, as by `ethtool -L`, are no longer before everything else, and worse off than the kernel without them.
fn in_turn(device: &Device, receive: Receive) -> Option<Finding> {
    let name = &device.name;
    (receive.threads == Some(Threads::InTurn)).then(|| {
        Kind::ReceivedInTurn
            .advice(
                format!(
                    "{name} is received by threads that wait for their turn as programs do (threaded NAPI), so that a flood finds its queue full"
                ),
                format!(
                    "for thread in $(pgrep '^napi/{name}-'); do chrt --fifo --pid 1 \"$thread\"; done"
                ),
            )
            .on(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(missed: u64) -> Device {
        Device {
            missed,
            ..Device::plain(1, "eth0")
        }
    }

    #[test]
    fn what_is_not_set_is_told_where_packets_were_lost() {
        let receive = Receive {
            ring: Some(Setting {
                now: 256,
                most: 4096,
            }),
            queues: Some(Setting { now: 1, most: 8 }),
            threads: Some(Threads::None),
        };
        assert_eq!(full(&device(0), receive, 4), None);
        let found = full(&device(7), receive, 4).unwrap();
        assert_eq!(
            found.about,
            "eth0 has lost 7 packets that found its queue full; its ring has room for 256 packets of 4096, it receives by 1 of 4 queues and it is \
             not received before everything else"
        );
        assert_eq!(
            found.mend,
            "ethtool -G eth0 rx 4096 && ethtool -L eth0 combined 4"
        );
        let found = full(
            &device(7),
            Receive {
                threads: Some(Threads::None),
                ..Receive::default()
            },
            4,
        );
        assert!(found.unwrap().mend.starts_with("# docs/flood.md"));
        let set = Receive {
            ring: Some(Setting {
                now: 4096,
                most: 4096,
            }),
            queues: Some(Setting { now: 1, most: 8 }),
            threads: Some(Threads::First),
        };
        assert_eq!(full(&device(7), set, 1), None);
    }
}
