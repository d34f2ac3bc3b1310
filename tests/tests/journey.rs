//! From a packet to whoever has to hear of it, with real programs on the whole way: the kernel, the agent, its spool, the fetcher, a web server.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::Value;
use sipguard::agent::{FOLDER, alarm, happened::Happened, notices::Notices};
use sipguard_lists::notice::{Delivery, MOST, Spool};
use sipguard_tests::{
    agent::{Agent, Journal},
    certificates::certify,
    fetcher::Fetcher,
    frame::eth,
    netns::{End, Finished, Host, Process, SCRATCH, STATE, Sandbox, join, sandbox, until},
    nginx::nginx,
    posted::Posted,
};
use tempfile::TempDir;

/// Where the trunk calls from, and where from by now.
const TRUNK: &str = "198.51.100.7";
const MOVED: &str = "198.51.100.9";
/// Next door to nobody.
const STRANGER: &str = "192.0.2.66";
const GATEWAY: &str = "198.51.100.1";
/// Where notices go.
const HOOK: &str = "10.0.0.53";
/// How soon an administrator has to hear of a provider that has moved.
const SOON: Duration = Duration::from_secs(5);

const INVITE: &[u8] = b"INVITE sip:100@198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9\r\n\
    From: <sip:trunk@198.51.100.9>;tag=1\r\nCall-ID: 1@198.51.100.9\r\nCSeq: 1 INVITE\r\n\r\n";

/// A gateway with a program that takes calls; its provider on the same cable, who has two addresses, and a stranger there; and a host that takes
/// notices, on a cable of its own.
struct World {
    gateway: Host,
    provider: Host,
    operator: Host,
    /// The web server's.
    files: TempDir,
    fetcher: Fetcher,
}

impl World {
    fn new(sandbox: &Sandbox) -> Self {
        let [gateway, provider, operator] = [(); 3].map(|()| sandbox.host());
        let end = |host, interface, addresses| End {
            host,
            interface,
            addresses,
        };
        join(
            end(&gateway, "eth0", &["198.51.100.1/24"]),
            end(&provider, "eth0", &["198.51.100.7/24"]),
        );
        provider.ip(&format!("address add {MOVED}/24 dev eth0"));
        provider.ip(&format!("address add {STRANGER}/24 dev eth0"));
        gateway.ip("route add 192.0.2.0/24 dev eth0");
        join(
            end(&gateway, "eth1", &["10.0.0.1/24"]),
            end(&operator, "eth0", &["10.0.0.53/24"]),
        );
        let files = TempDir::new().expect("a temporary folder");
        certify(files.path(), HOOK);
        let world = Self {
            gateway,
            provider,
            operator,
            fetcher: Fetcher::new(),
            files,
        };
        let authority = world.files.path().join("ca.pem");
        let config = format!(
            "interfaces = [\"eth0\"]\n[sources]\ntrunk = [\"{TRUNK}\"]\n\
             [services.sip]\nudp = [5060]\ntcp = [5060]\nallow = [\"trunk\"]\n\
             [notify]\nwebhook = {{ url = \"https://{HOOK}/hook\", ca_file = \"{}\" }}\n",
            authority.display()
        );
        fs::write(World::config(), config).expect("the scratch folder is writable");
        world.sipguard("apply").succeeded();
        world
    }

    fn config() -> PathBuf {
        Path::new(SCRATCH).join("sipguard.toml")
    }

    fn sipguard(&self, line: &str) -> Finished {
        let config = Self::config();
        let config = ["--config", config.to_str().expect("plain")];
        self.gateway
            .sipguard(config.into_iter().chain(line.split(' ')))
    }

    fn status(&self) -> String {
        self.sipguard("status").succeeded().stdout
    }

    fn web_server(&self) -> (Process, Posted) {
        let posted = Posted::on(&self.operator);
        let server = nginx(&self.operator, self.files.path(), Posted::BEHIND);
        (server, posted)
    }

    fn service(&self) -> Process {
        self.fetcher.service(&self.gateway)
    }

    /// Somebody calls: once and waits for an answer, or until he is stopped.
    fn sipp(from: &str, more: &[&str]) -> Command {
        let mut sipp = Command::new("sipp");
        sipp.args(["-t", "u1", "-i", from, "-p", "5060", "-nostdin"]);
        sipp.args(["-sn", "uac", "-m", "1"]).args(more);
        sipp.arg(format!("{GATEWAY}:5060"));
        sipp
    }

    /// Whether a call is answered.
    fn calls(&self, from: &str) -> bool {
        let mut call = Self::sipp(from, &["-timeout", "5", "-timeout_error"]);
        self.provider.run(&mut call).status.success()
    }

    /// Changes how far the receiver is, as if so much time had passed since, of which the fetcher has no clock of its own: it is killed, and
    /// comes back.
    fn later(&self, service: Process, by: SignedDuration) -> Process {
        service.signal(Signal::KILL);
        service.wait();
        let mut delivery = delivery().expect("it was there");
        for sent in delivery.kinds.values_mut() {
            sent.time -= by;
        }
        for time in [&mut delivery.tried, &mut delivery.failing] {
            *time = time.map(|time| time - by);
        }
        fs::write(file(), serde_json::to_vec(&delivery).expect("it is JSON"))
            .expect("the folder is there");
        self.service()
    }
}

fn file() -> PathBuf {
    Path::new(SCRATCH).join("sipguard-fetch/notices/webhook.json")
}

/// How far the receiver is, as the fetcher says.
fn delivery() -> Option<Delivery> {
    let file = File::open(file()).ok()?;
    Some(Delivery::read(file).expect("it is whole at every moment"))
}

fn of<'b>(bodies: &'b [Value], kind: &str) -> Vec<&'b Value> {
    bodies.iter().filter(|body| body["kind"] == kind).collect()
}

/// A provider moves in mid-day. Who it is, since when, and the command that lets him in, stands in all three places within seconds, and that
/// command does it. Whoever else knocks changes nothing of that.
#[test]
fn a_provider_moves_and_somebody_hears_of_it_who_can_let_him_in() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let world = World::new(sandbox);
        let mut serving = Command::new("sipp");
        serving.args([
            "-t", "u1", "-i", GATEWAY, "-p", "5060", "-nostdin", "-sn", "uas",
        ]);
        let _serving = world.gateway.spawn(&mut serving);
        world.gateway.wait_until_bound("udp", 5060);
        let (_nginx, posted) = world.web_server();
        let service = world.service();
        let _agent = Agent::start(&world.gateway);
        assert!(world.calls(TRUNK), "from where it was");

        // A scanner next door to nobody is dropped, and raises nothing.
        let mut svmap = Command::new("svmap");
        svmap.args(["-b", STRANGER, "-x", STRANGER, GATEWAY]);
        world.provider.run(&mut svmap);
        let scanned = journal.wait_for("scan_tried", 0);
        assert_eq!(scanned["SIPGUARD_ADDRESS"], STRANGER, "{scanned:?}");
        assert!(journal.of("provider_moved").is_empty());

        let since = Timestamp::now();
        let began = Instant::now();
        let calling = world.provider.spawn(&mut World::sipp(MOVED, &[]));
        let mend = format!("sipguard allow {MOVED} --service sip");
        let sentence = format!(
            "trunk seems to have moved: {MOVED}, next to {TRUNK}, has knocked with INVITE since "
        );
        let told = journal.wait_for("provider_moved", 0);
        println!("in the journal after {:?}", began.elapsed());
        for (field, wanted) in [
            ("SOURCE", "trunk"),
            ("ADDRESS", MOVED),
            ("NEIGHBOUR", TRUNK),
            ("METHOD", "INVITE"),
            ("MEND", &mend),
        ] {
            assert_eq!(told[&format!("SIPGUARD_{field}")], wanted, "{told:?}");
        }
        assert_eq!(told["PRIORITY"], "3");
        assert!(told["MESSAGE"].starts_with(&sentence), "{told:?}");
        let first: Timestamp = told["SIPGUARD_SINCE"].parse().expect("a time");
        assert!(first.duration_since(since).abs() < SOON.try_into().expect("short"));
        until("status says it", || {
            let said = world.status();
            said.contains(&sentence) && said.contains(&mend)
        });
        println!("in status after {:?}", began.elapsed());
        let bodies = posted.wait_for(1);
        println!("posted after {:?}", began.elapsed());
        assert!(began.elapsed() <= SOON, "{:?}", began.elapsed());
        let notice = &bodies[0]["notices"][0];
        assert_eq!(bodies[0]["kind"], "provider_moved");
        let text = notice["text"].as_str().expect("a text");
        assert!(text.starts_with(&sentence), "{text}");
        assert_eq!(notice["fields"]["mend"], *mend);
        drop(calling);

        let words = mend.strip_prefix("sipguard ").expect("the command");
        world.sipguard(words).succeeded();
        assert!(world.calls(MOVED), "let in");
        // To status, which asks what is in force, and to the agent, which looks at that now and then.
        until("it is no alarm any more", || {
            !world.status().contains("moved") && alarm::alarms(Path::new(FOLDER)).is_empty()
        });

        // Everybody next to the trunk, with forged addresses, again and again.
        let frames: Vec<_> = (10..=254)
            .map(|last| eth().ip(&format!("198.51.100.{last}")).udp(5060))
            .map(|frame| frame.payload(INVITE).bytes())
            .collect();
        let wire = world.provider.wire("eth0");
        until("it is a flood", || {
            for frame in &frames {
                wire.send(frame);
            }
            journal.read();
            !journal.of("flood_began").is_empty()
        });
        until("status has as many as there is room for", || {
            world.status().contains(", and ")
        });
        journal.wait_for("provider_moved", 1);
        assert_eq!(journal.of("provider_moved").len(), 2, "the flood is one");
        // What comes so soon behind the first one waits for its time, and then it is one message.
        let bodies = posted.wait_for(2);
        assert_eq!(bodies[1]["kind"], "flood_began");
        until("it is written how far it is", || {
            delivery().is_some_and(|it| it.sent == 2)
        });
        let _service = world.later(service, SignedDuration::from_mins(10));
        let bodies = posted.wait_for(3);
        let moved = of(&bodies, "provider_moved");
        assert_eq!((moved.len(), &moved[1]["count"]), (2, &1.into()));
        assert!(
            bodies
                .iter()
                .all(|body| !body.to_string().contains(STRANGER))
        );
    });
}

/// The web server is down for a day in which more happens than there is room for: the oldest are gone, and that is said; of the others each comes
/// once, those of a kind together.
#[test]
fn a_receiver_that_was_down_for_a_day_gets_what_there_is_room_for_and_hears_of_the_rest() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let world = World::new(sandbox);
        let service = world.service();
        let agent = Agent::start(&world.gateway);
        let wire = world.provider.wire("eth0");
        let frame = eth().ip(MOVED).udp(5060).payload(INVITE).bytes();
        until("the first one can't be sent", || {
            wire.send(&frame);
            delivery().is_some_and(|it| it.failing.is_some())
        });
        assert_eq!(
            journal.wait_for("provider_moved", 0)["SIPGUARD_ADDRESS"],
            MOVED
        );
        let said = world.status();
        assert!(
            said.contains("webhook") && said.contains("refused"),
            "{said}"
        );

        // What happens in the course of the day: three a kind and minute would be nothing that really comes.
        agent.process.stop().succeeded();
        let day = (0..MOST as u64 + 100).map(|number| match number % 5 {
            0 => Happened::Enforcing,
            1 => Happened::NothingInForce,
            _ => Happened::KernelDiffered {
                entries: usize::try_from(number).expect("few"),
            },
        });
        let day: Vec<_> = day.collect();
        let mut notices = Notices::begin(Path::new(STATE), Path::new(FOLDER), Timestamp::now());
        notices.add(&day, Timestamp::now()).expect("there is room");
        let spool = || Spool::read(&Path::new(STATE).join("notices.json"));
        let spool = || spool().expect("it is whole").expect("it is there");
        assert_eq!(spool().notices.len(), MOST);

        // The one that is told of now takes another one's place, which stands in the journal.
        let _agent = Agent::start(&world.gateway);
        let config = fs::read_to_string(World::config()).expect("it was written");
        fs::write(World::config(), format!("mode = \"monitor\"\n{config}")).expect("writable");
        world.sipguard("apply").succeeded();
        journal.wait_for("monitoring", 0);
        let told = journal.wait_for("spool_full", 0);
        assert_eq!(told["SIPGUARD_LOST"], "1");
        let newest = spool().notices.back().expect("it is full").number;

        let (_nginx, posted) = world.web_server();
        let _service = world.later(service, SignedDuration::from_hours(24));
        until("all that is there is sent", || {
            let waits = |it: &Delivery| spool().notices.iter().any(|notice| it.waits(notice));
            delivery().is_some_and(|it| it.failing.is_none() && !waits(&it))
        });
        let bodies = posted.bodies();
        let mut kinds = BTreeMap::<_, u64>::new();
        for body in &bodies {
            let count = body["count"].as_u64().expect("a number");
            let again = kinds.insert(body["kind"].to_string(), count);
            assert_eq!(again, None, "one message a kind: {bodies:?}");
        }
        assert_eq!(kinds.values().sum::<u64>(), MOST as u64);
        let lost = bodies.iter().map(|body| body["lost"].as_u64());
        let lost: u64 = lost.map(|lost| lost.expect("a number")).sum();
        assert_eq!(lost, newest - MOST as u64, "{bodies:?}");
        let said = world.sipguard("notify --json").succeeded().stdout;
        let said: Value = serde_json::from_str(said.trim()).expect("JSON");
        assert_eq!((&said["lost"], &said["waiting"]), (&lost.into(), &0.into()));
    });
}
