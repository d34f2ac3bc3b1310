//! What other programs print.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long a program may take. Those that are asked here take a few milliseconds, or a second for a very long rule set.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a program prints; nothing where it is not there, fails, or takes too long.
pub(super) fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    within(PATIENCE, program, arguments)
}

fn within(patience: Duration, program: &str, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.read_to_end(&mut bytes).map(|_| bytes);
        // Nobody waits any more where it took too long.
        let _ = sender.send(read);
    });
    let read = receiver.recv_timeout(patience);
    if read.is_err() {
        // It may have ended by now.
        let _ = child.kill();
    }
    let well = child.wait().ok()?.success();
    let bytes = read.ok()?.ok()?;
    well.then(|| String::from_utf8_lossy(&bytes).into_owned())
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

    #[test]
    fn what_takes_too_long_is_ended() {
        let patience = Duration::from_millis(50);
        assert_eq!(within(patience, "sleep", &["infinity"]), None);
    }
}
