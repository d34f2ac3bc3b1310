//! What other programs print.

use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// How often is looked whether a program has ended, and how long in between: five seconds in all.
const LOOKS: usize = 1000;
const PAUSE: Duration = Duration::from_millis(5);

/// What a program prints; nothing where it is not there, fails, or takes too long.
pub(super) fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdout = child.stdout.take()?;
    // Who writes much waits until it is read.
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    if !ends_well(&mut child) {
        return None;
    }
    let bytes = reader.join().ok()?.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn ends_well(child: &mut Child) -> bool {
    for _ in 0..LOOKS {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => thread::sleep(PAUSE),
            Err(_) => return false,
        }
    }
    // It may have ended by now.
    let _ = child.kill();
    let _ = child.wait();
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_and_what_fails_prints_nothing() {
        let of = |script: &str| printed("sh", &["-c", script]);
        assert_eq!(of("echo yes"), Some("yes\n".to_owned()));
        assert_eq!(of("echo yes; false"), None);
        // More than fits into a pipe.
        assert_eq!(
            of("yes | head -c 1000000").map(|all| all.len()),
            Some(1_000_000)
        );
        assert_eq!(printed("/nowhere/no-such-program", &[]), None);
    }
}
