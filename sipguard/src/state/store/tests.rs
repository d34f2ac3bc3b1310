use std::{
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::{policy::Action, state::OwnEntry};

fn some_state() -> State {
    let mut state = State::default();
    state.slots.assign(["sip", "web"]).unwrap();
    state.add([OwnEntry {
        prefix: "2001:db8::/32".parse().unwrap(),
        service: "sip".to_owned(),
        action: Action::Deny,
        until: Some("2026-10-01T12:00:00Z".parse().unwrap()),
        lasts_in: Some("boot".to_owned()),
        comment: Some("scans \"us\"\n".to_owned()),
        added: Timestamp::UNIX_EPOCH,
    }]);
    state.next_generation();
    state
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = TempDir::new().unwrap();
    let store = Store::at(folder.path().join("a/b"));
    assert_eq!(store.load().unwrap(), State::default());
    let mut state = some_state();
    store.save(&mut state).unwrap();
    assert_eq!(state.written, 1);
    assert_eq!(store.load().unwrap(), state);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&store.file()), 0o600);
    assert_eq!(mode(&folder.path().join("a/b")), 0o711);
    let json = fs::read_to_string(store.file()).unwrap();
    assert!(
        json.contains("\"until\": \"2026-10-01T12:00:00Z\""),
        "{json}"
    );
    assert!(json.contains("\"prefix\": \"2001:db8::/32\""), "{json}");
    assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1);
}

#[test]
fn a_staged_state_changes_nothing_until_it_is_committed() {
    let folder = TempDir::new().unwrap();
    let store = Store::at(folder.path());
    drop(store.stage(&some_state()).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let staged = store.stage(&some_state()).unwrap();
    assert_eq!(store.load().unwrap(), State::default());
    staged.commit().unwrap();
    assert_eq!(store.load().unwrap(), some_state());
}

#[test]
fn what_a_crash_left_is_overwritten() {
    let folder = TempDir::new().unwrap();
    let store = Store::at(folder.path());
    fs::write(replace::staging(folder.path(), FILE), "x".repeat(9999)).unwrap();
    assert_eq!(store.load().unwrap(), State::default());
    let mut state = some_state();
    store.save(&mut state).unwrap();
    assert_eq!(store.load().unwrap(), state);
}

#[test]
fn files_that_are_no_state() {
    let folder = TempDir::new().unwrap();
    let store = Store::at(folder.path());
    store.save(&mut some_state()).unwrap();
    let good = fs::read_to_string(store.file()).unwrap();
    for (text, wanted) in [
        (
            "",
            "is damaged: EOF while parsing a value at line 1 column 0; `sipguard list --own`",
        ),
        (
            "\0\0\0\0",
            "is damaged: expected value at line 1 column 1; `sipguard list --own`",
        ),
        (&good[..good.len() / 2], "is damaged: "),
        ("{}", "is damaged: missing field `version`"),
        (
            r#"{"version":3,"new":1}"#,
            "has version 3, which only a newer sipguard reads; `sipguard list --own`",
        ),
        (
            &good.replace("\"web\": 1", "\"web\": 0"),
            "is damaged: two services have the counter slot 0",
        ),
        (
            &good.replace("\"revision\"", "\"revisions\""),
            "is damaged: unknown field `revisions`",
        ),
        (&good.replace("2026-10", "2026-99"), "is damaged: "),
    ] {
        fs::write(store.file(), text).unwrap();
        let error = store.load().unwrap_err().to_string();
        let start = format!("{} {wanted}", store.file().display());
        assert!(error.starts_with(&start), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn places_that_cannot_be_written() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let store = Store::at(&file);
    let message = store.save(&mut State::default()).unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "cannot write {}: File exists (os error 17); move away what is in its place",
            replace::staging(&file, FILE).display()
        )
    );
    // What is in the kernel has a lock of its own.
    drop(store.lock());
    assert!(
        store
            .load()
            .unwrap_err()
            .to_string()
            .ends_with("Not a directory (os error 20); run sipguard as root")
    );

    let store = Store::at(folder.path());
    fs::create_dir(store.file()).unwrap();
    let message = store.save(&mut State::default()).unwrap_err().to_string();
    assert!(
        message.contains("Is a directory (os error 21)"),
        "{message}"
    );
    assert!(!replace::staging(folder.path(), FILE).exists());
}

#[test]
fn a_full_disk_is_an_error_that_leaves_the_old_state() {
    let folder = TempDir::new().unwrap();
    let store = Store::at(folder.path());
    symlink("/dev/full", replace::staging(folder.path(), FILE)).unwrap();
    let message = store.save(&mut some_state()).unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "cannot write {}: No space left on device (os error 28); free some space there",
            replace::staging(folder.path(), FILE).display()
        )
    );
    assert_eq!(store.load().unwrap(), State::default());
}

#[test]
fn hints_follow_the_cause() {
    for (error, wanted) in [
        (io::ErrorKind::PermissionDenied, "run sipguard as root"),
        (
            io::ErrorKind::ReadOnlyFilesystem,
            "mount its file system for writing",
        ),
        (io::ErrorKind::Other, "repair the file system it is on"),
    ] {
        assert_eq!(hint(&error.into()), wanted);
    }
}

#[test]
fn one_at_a_time_holds_the_lock() {
    let folder = TempDir::new().unwrap();
    let store = Store::at(folder.path());
    let lock = store.lock();
    let (sender, receiver) = mpsc::channel();
    let other = store.clone();
    let thread = thread::spawn(move || {
        let lock = other.lock();
        sender.send(()).unwrap();
        drop(lock);
    });
    assert!(receiver.recv_timeout(Duration::from_millis(100)).is_err());
    drop(lock);
    receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    thread.join().unwrap();
}

#[test]
fn what_cannot_be_read_is_set_aside() {
    let folder = TempDir::new().unwrap();
    let store = Store::at(folder.path());
    fs::write(store.file(), "").unwrap();
    let told = store.set_aside(store.load().unwrap_err()).to_string();
    let kept = folder.path().join("state.json.damaged");
    assert!(
        told.ends_with(&format!("it is kept as {}", kept.display())),
        "{told}"
    );
    assert_eq!(fs::read(&kept).unwrap(), b"");
    assert_eq!(store.load().unwrap(), State::default());
}

#[test]
fn a_state_of_the_first_version_is_read() {
    let folder = TempDir::new().unwrap();
    let store = Store::at(folder.path());
    let first = r#"{"version":1,"revision":7,"generation":3,"slots":{"sip":0},"entries":[]}"#;
    fs::write(store.file(), first).unwrap();
    let state = store.load().unwrap();
    assert_eq!(
        (state.version, state.written, state.revision),
        (VERSION, 0, 7)
    );
}
