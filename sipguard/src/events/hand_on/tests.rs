use std::os::unix::fs::PermissionsExt as _;

use sipguard_ebpf::{abi::Reason, event::Record};

use super::*;
use crate::{clock::Now, events::event::Names};

fn event(reason: Reason, first: &[u8]) -> Event {
    let record = Record {
        reason: reason as u8,
        enforced: 1,
        ..Record::default()
    };
    let now = Now {
        boot_ns: 0,
        wall: jiff::Timestamp::UNIX_EPOCH,
    };
    Event::new(&record, first, Names::default(), now)
}

fn all(client: &mut Client) -> (Vec<Event>, bool) {
    let mut events = Vec::new();
    let there = client.read(|event| events.push(event)).unwrap();
    (events, there)
}

const DROPS: Wanted = Wanted {
    passes: false,
    bytes: 128,
};
const ALL: Wanted = Wanted {
    passes: true,
    bytes: 1500,
};

#[test]
fn each_gets_what_it_wants() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events");
    assert!(Client::connect(&path, DROPS).unwrap().is_none());
    let mut server = Server::open(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(server.wanted(), None);
    let mut drops = Client::connect(&path, DROPS).unwrap().unwrap();
    let mut all_of_it = Client::connect(&path, ALL).unwrap().unwrap();
    server.welcome().unwrap();
    assert_eq!(server.wanted(), Some(ALL));

    let dropped = event(Reason::Unlisted, b"one");
    let passed = event(Reason::Allowed, b"two");
    server.send(&dropped);
    server.send(&passed);
    assert_eq!(all(&mut drops), (vec![dropped.clone()], true));
    assert_eq!(all(&mut all_of_it), (vec![dropped, passed], true));

    drop(all_of_it);
    server.welcome().unwrap();
    assert_eq!(server.wanted(), Some(DROPS));
    assert_eq!(
        Server::open(&path).unwrap_err().kind(),
        io::ErrorKind::AddrInUse
    );
    drop(server);
    assert_eq!(all(&mut drops), (Vec::new(), false));
    assert!(!path.exists());
}

#[test]
fn a_slow_reader_loses_and_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events");
    let mut server = Server::open(&path).unwrap();
    let mut slow = Client::connect(&path, DROPS).unwrap().unwrap();
    let mut quick = Client::connect(&path, DROPS).unwrap().unwrap();
    server.welcome().unwrap();
    let sent = event(Reason::Unlisted, &[7; 1500]);
    let many = 2000;
    let mut came = 0;
    for _ in 0..many {
        server.send(&sent);
        came += all(&mut quick).0.len();
    }
    assert_eq!((came, quick.lost()), (many, 0));
    let (some, there) = all(&mut slow);
    assert!(there && some.len() < many, "{}", some.len());
    server.send(&sent);
    assert_eq!(all(&mut slow).0.len(), 1);
    assert_eq!(slow.lost(), (many - some.len()) as u64);
}

/// What a killed process leaves behind, and what is no server at all.
#[test]
fn leftovers_are_no_servers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events");
    let left = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(left);
    assert!(Client::connect(&path, DROPS).unwrap().is_none());
    drop(Server::open(&path).unwrap());
    for message in [
        &b""[..],
        &[0; 11],
        &[255; 12],
        b"\x02\0\0\0\0\0\0\0\0\0\0\0{}",
    ] {
        assert!(unpacked(message).is_err());
    }
}
