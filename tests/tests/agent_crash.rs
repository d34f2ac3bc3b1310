//! Whatever becomes of the agent, of its disk and of its clock, nothing is lost but events: killed at any moment, started again under a flood,
//! with a disk that is full, and a wall clock that jumps.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use rustix::{process::Signal, thread::gettid};
use serde_json::Value;
use sipguard::{
    agent::{
        self, FOLDER,
        allowed::{self, Allowed},
        knocks::{self, Knocks},
    },
    clock,
    events::{
        Event, Wanted,
        hand_on::{Client, PATH},
    },
    host::Host as GuardedHost,
    policy::Hide,
    sip,
    state::Store,
    tables::Now,
};
use sipguard_ebpf::abi::{Action, Protocol, Reason};
use sipguard_lists::{
    notice::{self, Spool},
    replace,
};
use sipguard_tests::{
    agent::{Agent, Journal},
    flood::flooded,
    found::Found,
    netns::{STATE, Sandbox, sandbox, until},
    random::Random,
    scene::{PROVIDER, SCANNER, Scene},
};

const POLICY: &str = r#"
interfaces = ["eth0"]
[sources]
trunk = ["203.0.113.5"]
[services.sip]
udp = [5060]
allow = ["trunk"]
[notify]
webhook = "https://hooks.example/x"
"#;
/// A neighbour of [`PROVIDER`]'s, who is the trunk.
const MOVED: &str = "203.0.113.9";

const INVITE: &[u8] = b"INVITE sip:100@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.9\r\n\
    From: <sip:trunk@203.0.113.9>;tag=1\r\nCall-ID: 1@203.0.113.9\r\nCSeq: 1 INVITE\r\n\r\n";

/// A gateway, in this mode.
fn applied(sandbox: &Sandbox, mode: &str) -> Scene {
    let scene = Scene::new(sandbox, &["eth0"]);
    scene.configure(&format!("mode = \"{mode}\"\n{POLICY}"));
    scene.sipguard(["apply"]).succeeded();
    scene
}

fn invite(scene: &Scene, source: &str) -> Vec<u8> {
    let frame = scene.frame("eth0", source).udp(5060);
    frame.payload(INVITE).bytes()
}

/// Sends it again and again, as whoever gets no answer does, until something is so.
fn knocks_until(scene: &Scene, source: &str, what: &str, mut done: impl FnMut() -> bool) {
    let frame = invite(scene, source);
    let mut sent: Option<Instant> = None;
    until(what, || {
        if sent.is_none_or(|sent| sent.elapsed() > Duration::from_millis(200)) {
            scene.wire("eth0").send(&frame);
            sent = Some(Instant::now());
        }
        done()
    });
}

/// Sends until the agent has heard it.
fn is_heard(scene: &Scene, source: &str) {
    let address: IpAddr = source.parse().expect("an address");
    let client = Client::connect(Path::new(PATH), Wanted::default());
    let mut client = client.expect("a socket").expect("an agent");
    let mut heard = false;
    knocks_until(scene, source, &format!("{source} is heard"), || {
        let read = client.read(|event| heard |= event.source == Some(address));
        read.expect("an agent") && heard
    });
}

/// Waits for what the journal has of this kind.
fn is_told(scene: &Scene, journal: &mut Journal, source: &str, kind: &str, number: usize) {
    knocks_until(scene, source, &format!("{kind} is told of"), || {
        journal.read();
        journal.of(kind).len() > number
    });
}

/// As if so many sources had knocked before.
fn many_knocked(sources: u32) {
    let mut knocks = Knocks::default();
    for number in 0..sources {
        knocks.note(
            &Event {
                time: Timestamp::now(),
                interface: "eth0".to_owned(),
                service: Some("sip".to_owned()),
                reason: Reason::Unlisted,
                action: Action::Drop,
                enforced: true,
                source: Some(Ipv4Addr::from_bits(0x0a00_0000 + number).into()),
                source_port: Some(5060),
                destination: None,
                port: Some(5060),
                protocol: Some(Protocol::Udp),
                length: 500,
                left_out: 0,
                sip: sip::read(INVITE),
                bytes: Vec::new(),
            },
            Hide::default(),
        );
    }
    knocks.write(Path::new(STATE)).expect("there is room");
}

/// What the agent has on its disk.
#[derive(Default)]
struct Kept {
    knocked: BTreeSet<IpAddr>,
    allowed: bool,
    /// The spool's name, and its last number.
    notices: Option<(String, u64)>,
}

impl Kept {
    /// All of it is whole, and nothing of what was there is gone.
    fn look(&mut self) {
        let state = Path::new(STATE);
        let read = knocks::read(state);
        assert!(read.trouble.is_none(), "{:?}", read.trouble);
        let knocked = read.knocks.iter().map(|knock| knock.source).collect();
        assert!(self.knocked.is_subset(&knocked));
        self.knocked = knocked;

        let allowed = Allowed::read(state).expect("it is whole");
        let provider = format!("{PROVIDER}/32").parse().expect("a prefix");
        let is_allowed = allowed.itself("sip", provider).is_some();
        assert!(is_allowed || !self.allowed);
        self.allowed = is_allowed;

        let spool = Spool::read(&state.join(notice::FILE)).expect("it is whole");
        let notices = spool.map(|spool| {
            let numbers: Vec<_> = spool.notices.iter().map(|it| it.number).collect();
            assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
            (spool.name, numbers.len() as u64)
        });
        if let Some((name, last)) = &self.notices {
            let (same, now) = notices.as_ref().expect("it was there");
            assert!(same == name && now >= last, "{notices:?}");
        }
        self.notices = notices;

        for file in [
            agent::alarm::FILE,
            agent::flood::FILE,
            agent::in_force::FILE,
        ] {
            if let Ok(kept) = fs::read(Path::new(FOLDER).join(file)) {
                serde_json::from_slice::<Value>(&kept).expect("it is whole");
            }
        }
    }
}

/// How often it is killed at its beginning, and at its end.
const TIMES: u32 = 25;

/// While it begins, looks around and tells; and while it writes all that it has, when it ends.
#[test]
fn killed_at_any_moment_it_leaves_files_that_are_whole() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        // Which it tells of where nothing is kept of what was in force, so that there is a notice to be written.
        let scene = applied(sandbox, "monitor");
        many_knocked(3_000);
        let (mut random, mut kept) = (Random::seeded(), Kept::default());
        // A moment of what takes so long when nobody interrupts it, or a little later.
        let mut moment = |whole: Duration| {
            let most = usize::try_from(whole.as_micros()).expect("short") * 5 / 4;
            Duration::from_micros(random.below(most) as u64)
        };

        let begin = Instant::now();
        let agent = Agent::start(&scene.gateway);
        journal.wait_for("monitoring", 0);
        let whole = begin.elapsed();
        agent.process.stop().succeeded();
        for _ in 0..TIMES {
            let agent = scene.gateway.spawn(&mut Agent::command());
            thread::sleep(moment(whole));
            agent.signal(Signal::KILL);
            agent.wait();
            kept.look();
            // There is none yet, where it was killed early.
            let _ = fs::remove_file(Path::new(FOLDER).join(agent::in_force::FILE));
        }
        assert!(kept.allowed && kept.notices.is_some());

        let mut whole = Duration::ZERO;
        let mut ended = 0;
        for number in 0..TIMES {
            let agent = Agent::start(&scene.gateway);
            let somebody = format!("198.18.0.{}", number + 1);
            is_heard(&scene, &somebody);
            let begin = Instant::now();
            agent.process.signal(Signal::TERM);
            if number > 0 {
                thread::sleep(moment(whole));
                agent.process.signal(Signal::KILL);
            }
            let has_ended = agent.process.wait().status.success();
            if number == 0 {
                whole = begin.elapsed();
            }
            kept.look();
            let somebody = somebody.parse().expect("an address");
            assert!(kept.knocked.contains(&somebody) || !has_ended);
            ended += u32::from(has_ended);
        }
        println!("{ended} of {TIMES} came to their end");
        assert!(kept.knocked.len() > 3_000);

        // And what comes behind them finds nothing to complain of.
        let agent = Agent::start(&scene.gateway);
        is_heard(&scene, SCANNER);
        agent.process.stop().succeeded();
        journal.read();
        for kind in ["failed", "not_kept"] {
            assert!(journal.of(kind).is_empty(), "{:?}", journal.of(kind));
        }
        let left = fs::read_dir(STATE).expect("it is there");
        let left = left.map(|file| file.expect("it is there").file_name());
        let left: Vec<_> = left
            .filter(|name| name.to_string_lossy().ends_with(replace::NEW))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

/// Whoever ends it loses nothing that it has heard, though the half that keeps it is held up.
#[test]
fn what_was_heard_is_kept_at_the_end() {
    sandbox(|sandbox| {
        let _journal = Journal::listen(sandbox);
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(&POLICY.replace("203.0.113.5", "sip.provider.example"));
        let mut found = Found::name("trunk", "sip.provider.example");
        found.are(["203.0.113.5"]);
        scene.sipguard(["apply", "--offline"]).succeeded();
        let agent = Agent::start(&scene.gateway);
        // Which it needs for what was found.
        let lock = File::open(Path::new(STATE).join("lock")).expect("it was made");
        lock.lock().expect("nobody has it");
        found.are(["203.0.113.6"]);
        // It looks for that every two seconds, and a source takes a tenth of one.
        let sources: Vec<_> = (1..=40)
            .map(|number| format!("198.18.0.{number}"))
            .collect();
        for source in &sources {
            is_heard(&scene, source);
        }
        agent.process.signal(Signal::TERM);
        agent.says("STOPPING=1");
        drop(lock);
        agent.process.wait().succeeded();
        let known = knocks::read(Path::new(STATE)).knocks;
        for source in sources {
            let address = source.parse().expect("an address");
            assert!(known.get(address).is_some(), "{source}");
        }
    });
}

/// Killed or ended, again and again: it hears again each time, and what it knew it knows; packets and counters notice nothing.
#[test]
fn started_again_under_a_flood_it_hears_again_and_knows_what_it_knew() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let scene = applied(sandbox, "enforce");
        let mut agent = Some(Agent::start(&scene.gateway));
        is_told(&scene, &mut journal, MOVED, "provider_moved", 0);
        let alarms = Path::new(FOLDER).join(agent::alarm::FILE);
        until("the alarm is kept", || alarms.exists());
        let flood: Vec<_> = (0..1_000)
            .map(|number| Ipv4Addr::from_bits(0x0a00_0000 + number).to_string())
            .collect();
        let flood: Vec<_> = flood.iter().map(String::as_str).collect();
        let mut heard = Vec::new();
        let before = dropped(&scene);
        let mut others = 0;
        let traffic = flooded(&scene, &flood, 10, |turn| {
            let ended = agent.take().expect("one runs").process;
            let signal = if turn % 2 == 0 {
                Signal::TERM
            } else {
                Signal::KILL
            };
            ended.signal(signal);
            let ended = ended.wait().status;
            assert_eq!(ended.success(), signal == Signal::TERM, "{ended}");
            agent = Some(Agent::start(&scene.gateway));
            let somebody = format!("198.18.0.{turn}");
            is_heard(&scene, &somebody);
            heard.push(somebody.parse::<IpAddr>().expect("an address"));
            others += 1;
        });
        assert_eq!(others, 10, "the traffic came to its end");
        assert_eq!(traffic.leaked, 0, "unlisted frames were let through");
        assert_eq!(traffic.arrived, traffic.flow, "listed frames were lost");
        assert!(dropped(&scene) - before >= traffic.flood + 10);
        agent.expect("one runs").process.stop().succeeded();
        // The last one saved all that it heard, and all that those before saved when they were asked to end.
        let known = knocks::read(Path::new(STATE)).knocks;
        for (turn, source) in (1..).zip(heard) {
            let saved = turn % 2 == 1 || turn == 10;
            assert!(known.get(source).is_some() || !saved, "{source}");
        }
        journal.read();
        assert_eq!(journal.of("provider_moved").len(), 1, "it knows the alarm");
        assert_eq!(journal.of("failed").len(), 0, "{:?}", journal.entries);
    });
}

fn dropped(scene: &Scene) -> u64 {
    let stats = scene.sipguard(["stats", "--json"]).succeeded().stdout;
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    let dropped = &stats["totals"]["drop"]["packets"];
    dropped.as_u64().expect("a number")
}

/// Fills what holds the state, or makes room again.
fn fill(full: bool) {
    let filler = Path::new(STATE).join("filler");
    if full {
        let all = fs::write(&filler, vec![0; 8 << 20]);
        assert!(all.is_err(), "it is full");
    } else {
        fs::remove_file(filler).expect("it is there");
    }
}

#[test]
fn a_full_disk_keeps_what_it_has_and_gets_the_rest_later() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let scene = applied(sandbox, "enforce");
        many_knocked(1_000);
        let mut small = process::Command::new("mount");
        small.args(["-o", "remount,size=4m", STATE]);
        scene.gateway.run(&mut small).succeeded();
        let state = Path::new(STATE);
        let agent = Agent::start(&scene.gateway);
        until("who is allowed is kept", || {
            state.join(allowed::FILE).exists()
        });

        fill(true);
        is_told(&scene, &mut journal, MOVED, "provider_moved", 0);
        let spool = state.join(notice::FILE);
        let told = journal.wait_for("not_kept", 0);
        assert_eq!(told["SIPGUARD_FILE"], spool.display().to_string());
        fill(false);
        until("the notice is written when there is room", || {
            let spool = Spool::read(&spool).expect("it is whole");
            spool.is_some_and(|spool| {
                let mut kinds = spool.notices.iter().map(|it| it.kind.as_str());
                kinds.any(|kind| kind == "provider_moved")
            })
        });

        // It ends while there is none: what was kept before stays as it was.
        fill(true);
        is_heard(&scene, SCANNER);
        let file = state.join(knocks::FILE);
        let before = fs::read(&file).expect("it was written");
        agent.process.signal(Signal::TERM);
        agent.process.wait().succeeded();
        let told = journal.wait_for("not_kept", 1);
        assert_eq!(told["SIPGUARD_FILE"], file.display().to_string());
        assert!(fs::read(&file).expect("it is there") == before);
        assert!(!replace::staging(state, knocks::FILE).exists());

        fill(false);
        let agent = Agent::start(&scene.gateway);
        is_heard(&scene, SCANNER);
        agent.process.stop().succeeded();
        let known = knocks::read(state).knocks;
        assert_eq!(known.len(), 1_000 + 1, "all of them");
    });
}

/// A host whose clocks are in the test's hand, seconds off those of this machine.
#[derive(Clone, Default)]
struct Off {
    wall: Arc<AtomicI64>,
    boot: Arc<AtomicI64>,
}

impl Off {
    fn host(&self) -> GuardedHost {
        let off = self.clone();
        let clock = move || {
            let now = clock::now();
            let seconds = |of: &AtomicI64| SignedDuration::from_secs(of.load(Ordering::Relaxed));
            let boot = seconds(&off.boot).as_nanos();
            Now {
                wall: now.wall + seconds(&off.wall),
                boot_ns: now.boot_ns + u64::try_from(boot).expect("it only goes on"),
            }
        };
        GuardedHost::new(Store::at(STATE), &clock::boot(), clock)
    }

    /// The wall clock jumps by so many days, and so much time passes that all is written that is to be.
    fn jumps(&self, days: i64) {
        self.wall.fetch_add(days * 86_400, Ordering::Relaxed);
        self.boot.fetch_add(61, Ordering::Relaxed);
        self.wall.fetch_add(61, Ordering::Relaxed);
    }
}

/// An agent in this process: the only one whose clocks can be had. It gets no signal but that of [`Self::stop`].
struct Inside {
    agent: thread::JoinHandle<()>,
    thread: i32,
}

impl Inside {
    fn start(scene: &Scene, host: GuardedHost) -> Self {
        let (sender, thread) = mpsc::channel();
        let config = scene.config();
        let agent = scene.gateway.enter(|| {
            thread::spawn(move || {
                let thread = gettid().as_raw_nonzero().get();
                sender.send(thread).expect("the test waits");
                agent::run(&host, &config).expect("it runs");
            })
        });
        let thread = thread.recv().expect("it runs");
        // By then it has taken the signals that end it.
        until("it hands on", || Path::new(PATH).exists());
        Self { agent, thread }
    }

    fn stop(self) {
        let process = i32::try_from(process::id()).expect("the kernel's numbers are small");
        // SAFETY: it has no memory in it. The thread has not been waited for, so that its number is its own.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, self.thread, libc::SIGTERM) };
        assert_eq!(sent, 0);
        self.agent.join().expect("it ends");
    }
}

/// Set by hand, or by the network, or wrong from the beginning: who knocked stays known, who has moved too, and nothing is told because of it.
#[test]
fn a_clock_that_jumps_takes_nobody_away() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let scene = applied(sandbox, "enforce");
        let off = Off::default();
        let agent = Inside::start(&scene, off.host());
        is_told(&scene, &mut journal, MOVED, "provider_moved", 0);
        let mut known = BTreeSet::new();
        let kept = |known: &BTreeSet<IpAddr>| {
            let kept = knocks::read(Path::new(STATE)).knocks;
            known.iter().all(|source| kept.get(*source).is_some())
        };
        for (turn, days) in [40, -80, 4_000, -20_000, 16_040].into_iter().enumerate() {
            // Somebody knocks before it jumps, and somebody else afterwards.
            for (when, jump) in [("before", None), ("afterwards", Some(days))] {
                if let Some(days) = jump {
                    off.jumps(days);
                }
                let last = 2 * turn + usize::from(jump.is_some()) + 1;
                let somebody = format!("198.18.0.{last}");
                is_heard(&scene, &somebody);
                known.insert(somebody.parse().expect("an address"));
                // The second save has all that was known at the first one.
                off.jumps(0);
                until(&format!("{when} {days} days, all are kept"), || {
                    kept(&known)
                });
            }
            off.jumps(0);
            off.jumps(0);
        }
        let status = scene.sipguard(["status", "--json"]).succeeded().stdout;
        let status: Value = serde_json::from_str(&status).expect("JSON");
        assert_eq!(status["moved"][0]["addresses"][0]["address"], MOVED);
        agent.stop();
        assert!(kept(&known));
        journal.read();
        let told = journal
            .entries
            .iter()
            .map(|it| it["SIPGUARD_HAPPENED"].as_str());
        assert_eq!(told.collect::<Vec<_>>(), ["provider_moved"]);
    });
}
