//! Prometheus' own tool, which knows what Prometheus takes.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// Wants promtool to have nothing to say against it.
///
/// # Panics
/// Where it has.
pub fn promtool(arguments: &[&str], input: &str) {
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it is declared");
    let mut stdin = promtool.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let finished = promtool.wait_with_output().expect("it ends");
    let said = [finished.stdout, finished.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(finished.status.success(), "{said}\n{input}");
    // What it only minds it says with an exit code of its own, or without any.
    assert!(
        !said.contains("metrics") && !said.contains("should"),
        "{said}\n{input}"
    );
}
