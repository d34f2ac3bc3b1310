//! Whether this kernel can do it at all.

use rustix::system::uname;

use super::{Finding, Host, advice, wrong};

/// XDP links that outlive a process, and frames in several pieces (jumbo frames in the driver).
const NEEDED: (u32, u32) = (5, 9);
const BETTER: (u32, u32) = (5, 18);

pub(super) fn check(_: &Host) -> Vec<Finding> {
    let name = uname();
    let release = name.release().to_string_lossy();
    let Some(running) = version(&release) else {
        return Vec::new();
    };
    let newer = "apt-get install linux-image-amd64 && reboot";
    if running < NEEDED {
        vec![wrong(
            format!("this kernel ({release}) is too old: sipguard needs Linux 5.9 or later"),
            newer,
        )]
    } else if running < BETTER {
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

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_as_they_are_written() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.10-rc1"), Some((5, 10)));
        assert_eq!(version("none"), None);
    }
}
