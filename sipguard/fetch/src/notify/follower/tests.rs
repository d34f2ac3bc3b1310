use std::{
    cell::{Cell, RefCell},
    os::unix::fs::PermissionsExt as _,
};

use sipguard_lists::{
    notice,
    notify::{Address, Webhook},
    task,
};
use tempfile::TempDir;

use super::*;

/// A web server that takes what it is asked to take, and both clocks.
struct Server {
    begin: Timestamp,
    boot: Cell<Moment>,
    /// Kinds that are refused.
    refused: RefCell<Vec<&'static str>>,
    /// What came, and when, in seconds since the beginning.
    tried: RefCell<Vec<(u64, String)>>,
    taken: RefCell<Vec<String>>,
    /// How many were lost before each of these, as it says.
    lost: RefCell<Vec<u64>>,
}

impl Outside for Server {
    fn wall(&self) -> Timestamp {
        self.begin + self.boot.get()
    }

    fn boot(&self) -> Moment {
        self.boot.get()
    }

    fn send(&self, _: &str, _: &Tasks, message: &Message<'_>) -> Result<(), String> {
        let kind = message.kind.to_owned();
        self.tried
            .borrow_mut()
            .push((self.boot.get().as_secs(), kind.clone()));
        if self.refused.borrow().contains(&message.kind) {
            return Err("the server answers 400".to_owned());
        }
        self.taken.borrow_mut().push(kind);
        self.lost.borrow_mut().push(message.lost);
        Ok(())
    }
}

/// A gateway's folders, and who follows.
struct World {
    files: TempDir,
    server: Server,
    spool: Spool,
    /// Who wants what happens now, as the agent says.
    wanted_by: &'static [&'static str],
    follower: Follower,
}

impl World {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let server = Server {
            begin: "2026-03-01T12:00:00Z".parse().unwrap(),
            boot: Cell::new(Moment::ZERO),
            refused: RefCell::default(),
            tried: RefCell::default(),
            taken: RefCell::default(),
            lost: RefCell::default(),
        };
        let world = Self {
            spool: Spool::new("18b".to_owned()),
            wanted_by: &[Notify::WEBHOOK],
            follower: Self::follower(files.path(), &server),
            files,
            server,
        };
        world.is_wanted();
        world
    }

    fn follower(files: &Path, server: &Server) -> Follower {
        Follower::new(
            Notify::WEBHOOK,
            files.join(task::FILE),
            files.join(notice::FILE),
            files.join(notice::FOLDER),
            server,
        )
    }

    fn starts_anew(&mut self) {
        self.follower = Self::follower(self.files.path(), &self.server);
    }

    fn is_down(&self) {
        fs::remove_file(self.files.path().join(task::FILE)).unwrap();
    }

    fn farewell(&self) -> PathBuf {
        let folder = self.files.path().join(notice::FOLDER);
        folder.join("webhook.farewell")
    }

    fn is_wanted(&self) {
        let webhook = Webhook {
            address: Address::Url("https://hooks.example/secret".to_owned()),
            insecure: false,
            ca_file: None,
        };
        self.applies(Some(webhook));
    }

    fn applies(&self, webhook: Option<Webhook>) {
        let notify = Notify {
            webhook,
            mail: None,
        };
        let tasks = Tasks {
            notify: Some(notify),
            ..Tasks::none()
        };
        tasks.write(self.files.path(), None).unwrap();
    }

    fn happens(&mut self, kind: &str) {
        let number = self.spool.notices.back().map_or(1, |last| last.number + 1);
        self.spool.notices.push_back(Notice {
            number,
            time: self.server.wall(),
            kind: kind.to_owned(),
            severity: "warning".to_owned(),
            text: "it happened".to_owned(),
            fields: [].into(),
            wanted_by: self.wanted_by.iter().map(ToString::to_string).collect(),
        });
        self.spool.write(self.files.path(), None).unwrap();
    }

    fn refuses(&self, kinds: impl IntoIterator<Item = &'static str>) {
        *self.server.refused.borrow_mut() = kinds.into_iter().collect();
    }

    /// So many seconds go by, each with its turn, or a few without one.
    fn passes(&mut self, seconds: u64) {
        let end = self.server.boot.get() + Duration::from_secs(seconds);
        while self.server.boot.get() < end {
            let pause = if self.follower.turn(&self.server) {
                LOOK
            } else {
                LOOK_FOR_RECEIVERS
            };
            self.server.boot.set(self.server.boot.get() + pause);
        }
    }

    fn taken(&self) -> Vec<String> {
        self.server.taken.take()
    }

    fn tried(&self) -> Vec<(u64, String)> {
        self.server.tried.take()
    }

    fn delivery(&self) -> Option<Delivery> {
        let file = self.files.path().join(notice::FOLDER).join("webhook.json");
        Some(Delivery::read(File::open(file).ok()?).unwrap())
    }
}

#[test]
fn one_that_is_refused_for_good_holds_up_no_other() {
    let mut world = World::new();
    world.refuses(["source_refused"]);
    world.happens("source_refused");
    world.happens("provider_moved");
    world.passes(2);
    assert_eq!(world.taken(), ["provider_moved"]);
    // An hour later, in one of the long pauses, one comes at once all the same.
    world.passes(60 * 60);
    world.happens("provider_moved");
    world.passes(2);
    assert_eq!(world.taken(), ["provider_moved"]);
    // What waits is not forgotten: it fails still.
    let delivery = world.delivery().unwrap();
    assert_eq!(delivery.failing, Some(world.server.begin));
    assert_eq!(delivery.error.as_deref(), Some("the server answers 400"));
    world.refuses([]);
    world.passes(11);
    assert_eq!(world.taken(), ["source_refused"]);
    let delivery = world.delivery().unwrap();
    assert_eq!((delivery.failing, delivery.error), (None, None));
    assert_eq!((delivery.sent, delivery.lost), (3, 0));
}

#[test]
fn a_server_that_takes_nothing_gets_each_kind_once_and_then_one_of_them_after_each_pause() {
    let kinds = ["failed", "flood_began", "provider_moved"];
    let mut world = World::new();
    world.refuses(kinds);
    for kind in kinds {
        world.happens(kind);
    }
    world.passes(60 * 60);
    let tried = world.tried();
    let order = kinds.iter().cycle();
    assert!(
        tried
            .iter()
            .map(|(_, kind)| kind)
            .eq(order.take(tried.len())),
        "{tried:?}"
    );
    // The pauses: 40 seconds behind the third try, then 80, 160, 320 and 600.
    let times: Vec<_> = tried.iter().map(|(time, _)| *time).collect();
    assert_eq!(
        times,
        [0, 1, 2, 42, 122, 282, 602, 1_202, 1_802, 2_402, 3_002]
    );
    // What happens meanwhile is tried once, too, and waits like the others then.
    world.refuses([&kinds[..], &["not_kept"]].concat());
    world.happens("not_kept");
    world.passes(60);
    assert_eq!(world.tried(), [(3_600, "not_kept".to_owned())]);
    world.refuses([]);
    world.passes(10 * 60);
    let mut taken = world.taken();
    taken.sort();
    assert_eq!(
        taken,
        ["failed", "flood_began", "not_kept", "provider_moved"]
    );
    assert_eq!(world.delivery().unwrap().failing, None);
}

#[test]
fn that_nothing_filters_is_told_however_long_it_takes_and_then_he_is_forgotten() {
    let mut world = World::new();
    world.passes(1);
    world.is_down();
    world.refuses(["nothing_in_force"]);
    // The agent looks now and then.
    world.passes(20);
    world.happens("nothing_in_force");
    world.passes(75 * 60);
    assert_eq!(world.taken(), [""; 0]);
    world.refuses([]);
    world.passes(10 * 60);
    assert_eq!(world.taken(), ["nothing_in_force"]);
    assert!(!world.farewell().exists());
    world.happens("failed");
    world.passes(60);
    assert_eq!(world.taken(), [""; 0]);
}

#[test]
fn what_waits_for_its_ten_minutes_is_told_after_down_and_by_another_process_too() {
    let mut world = World::new();
    for kind in ["nothing_in_force", "in_force_again"] {
        world.happens(kind);
        world.passes(5);
        assert_eq!(world.taken(), [kind]);
    }
    world.is_down();
    world.happens("nothing_in_force");
    world.passes(120);
    let mode = fs::metadata(world.farewell()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.starts_anew();
    world.passes(8 * 60);
    assert_eq!(world.taken(), ["nothing_in_force"]);
    assert!(!world.farewell().exists());
}

#[test]
fn nobody_is_kept_for_more_than_a_day_nor_once_there_is_something_to_do() {
    let mut world = World::new();
    world.refuses(["nothing_in_force"]);
    world.passes(1);
    world.is_down();
    world.happens("nothing_in_force");
    world.passes(23 * 60 * 60);
    world.starts_anew();
    world.passes(61 * 60);
    assert!(world.tried().len() > 100);
    assert!(!world.farewell().exists());
    world.passes(60 * 60);
    assert_eq!(world.tried(), []);

    // It is sent when there is somebody again.
    world.is_wanted();
    world.refuses([]);
    world.passes(20);
    assert_eq!(world.taken(), ["nothing_in_force"]);
    world.is_down();
    world.passes(2);
    assert!(world.farewell().exists());
    world.is_wanted();
    world.passes(2);
    assert!(!world.farewell().exists());
}

#[test]
fn what_happened_before_the_fetcher_ran_at_all_is_sent_and_where_it_begins_is_written_at_once() {
    let mut world = World::new();
    world.wanted_by = &[];
    world.happens("flood_began");
    world.wanted_by = &[Notify::WEBHOOK];
    world.happens("provider_moved");
    // It is installed a month later.
    world.server.boot.set(Duration::from_hours(24 * 30));
    world.refuses(["provider_moved"]);
    world.passes(1);
    let delivery = world.delivery().unwrap();
    assert_eq!((delivery.before, delivery.sent, delivery.lost), (1, 0, 0));
    world.refuses([]);
    world.passes(11);
    assert_eq!(world.taken(), ["provider_moved"]);

    // Nothing of it comes a second time, to nobody who has nothing to be sent either.
    let mut world = World::new();
    world.wanted_by = &[];
    world.happens("flood_began");
    world.passes(60 * 60);
    world.taken();
    fs::remove_dir_all(world.files.path().join(notice::FOLDER)).unwrap();
    world.starts_anew();
    world.passes(1);
    assert_eq!(world.delivery().unwrap().before, 1);
    assert_eq!(world.taken(), [""; 0]);
}

#[test]
fn one_that_was_taken_out_of_the_config_is_forgotten_and_is_new_when_it_comes_back() {
    let mut world = World::new();
    world.happens("flood_began");
    world.passes(60);
    assert_eq!(world.taken(), ["flood_began"]);
    world.refuses(["failed"]);
    world.happens("failed");
    world.passes(60 * 60);
    world.starts_anew();
    world.applies(None);
    world.passes(1);
    assert_eq!(world.delivery(), None);
    // Nobody is there to see that it was away: it says still for whom that was.
    world.passes(60 * 60);
    world.is_wanted();
    world.refuses([]);
    world.passes(60);
    assert_eq!(world.taken(), [""; 0]);
    world.happens("failed");
    world.passes(2);
    assert_eq!(world.taken(), ["failed"]);
    let delivery = world.delivery().unwrap();
    assert_eq!((delivery.before, delivery.sent, delivery.lost), (2, 1, 0));

    // Where nothing is in force, what was sent is known still when something is.
    world.is_down();
    world.passes(60 * 60);
    assert_eq!(world.delivery().unwrap().sent, 1);
}

/// However often it was tried meanwhile.
#[test]
fn the_next_message_says_how_many_were_lost_before_it() {
    let mut world = World::new();
    world.refuses(["flood_began"]);
    for _ in 0..10 {
        world.happens("flood_began");
        world.passes(700);
        // There is room for two.
        world.spool.notices.drain(..world.spool.notices.len() - 1);
    }
    let delivery = world.delivery().unwrap();
    assert_eq!((delivery.lost, delivery.told), (8, 0));
    world.refuses([]);
    world.happens("flood_began");
    world.passes(700);
    assert_eq!(world.server.lost.take(), [9]);
    let delivery = world.delivery().unwrap();
    assert_eq!((delivery.lost, delivery.told), (9, 9));
}
