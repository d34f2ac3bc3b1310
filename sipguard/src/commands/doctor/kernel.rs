//! Whether this kernel can do it at all.

use sipguard::kernel::{at_least, release};

use super::{Finding, Host, advice, wrong};

pub(super) fn check(_: &Host) -> Vec<Finding> {
    let newer = "apt-get install linux-image-amd64 && reboot";
    let release = release();
    // XDP links that outlive a process; frames in several pieces.
    if !at_least(5, 9) {
        vec![wrong(
            format!("this kernel ({release}) is too old: sipguard needs Linux 5.9 or later"),
            newer,
        )]
    } else if !at_least(5, 18) {
        vec![advice(
            format!(
                "this kernel ({release}) has no native XDP with jumbo frames; Linux 5.18 and later do"
            ),
            newer,
        )]
    } else {
        Vec::new()
    }
}
