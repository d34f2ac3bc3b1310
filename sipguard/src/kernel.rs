//! Which kernel this is, and how it is set.

use std::fs;

use rustix::system::uname;

/// Its release, as `uname -r` prints it.
pub fn release() -> String {
    uname().release().to_string_lossy().into_owned()
}

/// Whether it is of this version or a later one. Where it does not tell, it is taken to be: what it lacks, it will say.
pub fn at_least(major: u32, minor: u32) -> bool {
    version(&release()).is_none_or(|running| running >= (major, minor))
}

/// A setting, by its path below `/proc/sys` (the names of interfaces have dots); nothing where this kernel or this network namespace has
/// none.
pub fn setting(path: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
    Some(text.trim().to_owned())
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
