//! The fetcher's folder, with what only root can put there.

use std::{
    fs::{self, File},
    os::unix::fs::chown,
    path::Path,
};

use jiff::Timestamp;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use sipguard::sources::{Accept, Circumstances, Copies, take};
use sipguard_lists::{
    found::{Head, Writer},
    task::{Kind, Names, Task},
};
use tempfile::TempDir;

const FETCHER: u32 = 4_711;

fn taken(folder: &Path, own: &Path) -> Result<bool, String> {
    let task = Task {
        source: "trunk".to_owned(),
        kind: Kind::Names(Names {
            names: ["sip.provider.example".parse().expect("a name")].into(),
            hold: Names::HOLD,
            private: false,
        }),
    };
    let circumstances = Circumstances {
        now: "2027-01-15T08:00:00Z".parse().expect("a time"),
        own: &[],
    };
    let taken = take(
        folder,
        &Copies::at(own),
        &task,
        Accept::Alike,
        circumstances,
    );
    taken
        .map(|taken| taken.is_some())
        .map_err(|error| error.problem.to_string())
}

#[test]
fn files_are_read_of_the_folders_owner_only_and_devices_never() {
    let (folder, own) = (
        TempDir::new().expect("a folder"),
        TempDir::new().expect("a folder"),
    );
    let (folder, own) = (folder.path(), own.path());
    let file = folder.join("trunk.json");
    let give = |path: &Path, owner| chown(path, Some(owner), None).expect("this test runs as root");
    give(folder, FETCHER);

    let now = Timestamp::constant(1_799_999_990, 0);
    let head = Head {
        answered: Some(now),
        changed: Some(now),
        ..Head::new("trunk", now, now)
    };
    let writer = Writer::new(File::create(&file).expect("a file"), &head).expect("room");
    writer.finish().expect("room");
    // As a hard link of somebody else's file, or a file that root was tricked into making, would be.
    assert_eq!(
        taken(folder, own),
        Err("belongs to the user 0, and its folder to 4711".to_owned())
    );
    give(&file, FETCHER);
    assert_eq!(taken(folder, own), Ok(true));

    for (kind, device) in [
        (FileType::CharacterDevice, (1, 5)),
        (FileType::BlockDevice, (7, 0)),
    ] {
        fs::remove_file(&file).expect("what was made last");
        let (major, minor) = device;
        mknodat(CWD, &file, kind, Mode::RWXU, makedev(major, minor))
            .expect("this test runs as root");
        give(&file, FETCHER);
        assert_eq!(
            taken(folder, own),
            Err("is not a plain file but a device".to_owned())
        );
    }
}
