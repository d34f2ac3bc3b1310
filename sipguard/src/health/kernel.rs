//! Whether this kernel can do it at all.

use crate::kernel::{at_least, release};

use super::{Evidence, Finding, Kind};

pub(super) const FINDS: &[Kind] = &[Kind::KernelTooOld, Kind::KernelWithoutJumboFrames];

pub(super) fn check(_: &Evidence) -> Vec<Finding> {
    let newer = "apt-get install linux-image-amd64 && reboot";
    let release = release();
    // XDP links that outlive a process; frames in several pieces.
    if !at_least(5, 9) {
        vec![Kind::KernelTooOld.wrong(
            format!("this kernel ({release}) is too old: sipguard needs Linux 5.9 or later"),
            newer,
        )]
    } else if !at_least(5, 18) {
        vec![Kind::KernelWithoutJumboFrames.advice(
            format!(
                "this kernel ({release}) has no native XDP with jumbo frames; Linux 5.18 and later do"
            ),
            newer,
        )]
    } else {
        Vec::new()
    }
}
