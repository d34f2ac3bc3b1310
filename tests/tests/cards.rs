//! The story of a network card: guarded, changed while it is, and let go; and at each step frames tell whether it is filtered, and what
//! `status` and `doctor` say is held against that. Run by `cargo xtask devices`, in a kernel that has the card.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{
    env, fmt,
    fs::{self, File},
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    mount::{MountFlags, UnmountFlags, mount, unmount},
};
use serde_json::Value;
use sipguard_tests::{
    netns::{Finished, Host, Sandbox, sandbox, until},
    scene::{PROVIDER, SCANNER, Scene, bind},
    way_in::policy,
};

const SYS: &str = "/sys";
/// What both ends of the cable are called, each in a network of its own.
const CARD: &str = "eth0";
const TAGGED: &str = "eth0.5";
const LISTED: [&str; 2] = [PROVIDER, "2001:db8:100::5"];
const UNLISTED: [&str; 2] = [SCANNER, "2001:db8:ffff::7"];
/// The gateway's addresses, by the card itself and by its VLAN.
const PLAIN: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const BY_TAG: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
const SIP: u16 = 5060;
/// Nobody guards it.
const OPEN: u16 = 40_405;
/// Datagrams of a kind, and family, that a look at the filter consists of.
const EACH: usize = 5;
const JUMBO: u32 = 9_000;
/// How long a datagram may be under way.
const SOON: Duration = Duration::from_secs(2);
/// How long a card may be silent.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn story() {
    sandbox(|sandbox| {
        let mut story = Story::new(sandbox);
        story.tell(sandbox);
        let failed: Vec<_> = story.lines.iter().filter(|line| !line.well).collect();
        assert!(failed.is_empty(), "{} steps", failed.len());
    });
}

/// How a datagram comes in.
#[derive(Clone, Copy)]
struct Probe {
    name: &'static str,
    to: [&'static str; 2],
    size: usize,
}

const SMALL: Probe = Probe {
    name: "",
    to: PLAIN,
    size: 64,
};
const TAGGED_SMALL: Probe = Probe {
    name: "tagged: ",
    to: BY_TAG,
    ..SMALL
};
/// Six fragments at an MTU of 1,500; one frame at 9,000.
const LARGE: Probe = Probe {
    name: "large: ",
    size: 8_000,
    ..SMALL
};

/// What became of a step.
struct Line {
    well: bool,
}

/// What frames say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// What is listed arrives, and nothing else.
    Filtered,
    /// Everything arrives.
    Free,
    /// Nothing arrives, not even at a port that nobody guards.
    Silent,
    /// How many of each kind arrived.
    Else { listed: usize, unlisted: usize },
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = EACH * 2;
        match self {
            Self::Filtered => f.write_str("filtered"),
            Self::Free => f.write_str("not filtered"),
            Self::Silent => f.write_str("nothing arrives"),
            Self::Else { listed, unlisted } => write!(
                f,
                "{listed} of {all} listed and {unlisted} of {all} unlisted datagrams arrive"
            ),
        }
    }
}

struct Story {
    scene: Scene,
    sip: UdpSocket,
    open: UdpSocket,
    number: AtomicU64,
    /// The card's own.
    mtu: u32,
    /// Where the filter ran at first.
    mode: String,
    /// Held together with the stories of other cards, and alone where all of the machine sleeps.
    others: File,
    lines: Vec<Line>,
}

impl Story {
    fn new(sandbox: &Sandbox) -> Self {
        let others = File::create("/tmp/sipguard-cards").unwrap();
        flock(&others, FlockOperation::LockShared).unwrap();
        let scene = Scene::new(sandbox, &[]);
        let card = moved("SIPGUARD_CARD", &scene.gateway);
        moved("SIPGUARD_PEER", &scene.outside);
        // As on a gateway of its own, and as `ip netns exec` has it: what the kernel tells of the card's driver is there.
        scene.gateway.enter(|| {
            mount("sysfs", SYS, "sysfs", MountFlags::empty(), None).expect("sysfs can be mounted");
        });
        sandbox.mount_bpffs();
        let shown = scene.gateway.ip(&format!("link show {CARD}")).stdout;
        let (_, rest) = shown.split_once(" mtu ").unwrap();
        let mtu = rest.split(' ').next().unwrap().parse().unwrap();
        for host in [&scene.gateway, &scene.outside] {
            host.ip(&format!("link set {CARD} up"));
            host.ip(&format!(
                "link add link {CARD} name {TAGGED} type vlan id 5"
            ));
            host.ip(&format!("link set {TAGGED} up"));
        }
        for (address, length) in [(BY_TAG[0], 32), (BY_TAG[1], 128)] {
            scene
                .gateway
                .ip(&format!("address add {address}/{length} dev lo"));
        }
        for [v4, v6] in [LISTED, UNLISTED] {
            scene.outside.ip(&format!("address add {v4}/32 dev {CARD}"));
            scene
                .outside
                .ip(&format!("address add {v6}/128 dev {CARD} nodad"));
        }
        // A card that has to sum up and cut what it sends is not what this is about.
        let plain = ["-K", CARD, "tx", "off", "gso", "off", "tso", "off"];
        let _ = scene.outside.run(Command::new("ethtool").args(plain));
        scene.outside.ip(&format!("link set {CARD} mtu {mtu}"));
        for (addresses, interface) in [(PLAIN, CARD), (BY_TAG, TAGGED)] {
            for address in addresses {
                scene
                    .outside
                    .ip(&format!("route add {address} dev {interface}"));
                scene.outside.ip(&format!(
                    "neighbour replace {address} lladdr {card} dev {interface} nud permanent"
                ));
            }
        }
        let [sip, open] = [SIP, OPEN].map(|port| {
            let socket = scene.gateway.enter(|| bind(port));
            socket
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            socket
        });
        Self {
            scene,
            sip,
            open,
            number: AtomicU64::new(0),
            mtu,
            mode: String::new(),
            others,
            lines: Vec::new(),
        }
    }

    fn tell(&mut self, sandbox: &Sandbox) {
        self.scene.configure(&policy(&[CARD]));
        self.wait_for_frames();
        let jumbo = self.before();
        let (applied, silent) = self.silence(|story| story.scene.sipguard(["apply"]));
        println!("silent\tapply\t{silent}");
        let runs = applied.stdout.lines().next().unwrap_or_default();
        println!("runs\t{runs}");
        self.holds("apply", &[SMALL], runs);
        self.mode = self.claim().mode;
        self.reason(runs);
        self.holds("tagged", &[TAGGED_SMALL], "");
        self.holds("large", &[LARGE], "");

        for state in ["down", "up"] {
            self.scene.gateway.ip(&format!("link set {CARD} {state}"));
        }
        self.scene.gateway.ip(&format!("link set {TAGGED} up"));
        self.holds("down/up", &[SMALL, TAGGED_SMALL], "");

        self.as_at_first();
        for mtu in [self.mtu - 100, self.mtu] {
            self.scene.gateway.ip(&format!("link set {CARD} mtu {mtu}"));
        }
        self.holds("MTU smaller and back", &[SMALL, LARGE], "");
        if self.mtu < JUMBO {
            self.as_at_first();
            self.jumbo(jumbo);
        }
        self.as_at_first();
        let rings = self.rings();
        self.holds("rings", &[SMALL, LARGE], &rings);
        self.as_at_first();
        let offloads = self.offloads();
        self.holds("offloads", &[SMALL, LARGE], &offloads);
        self.as_at_first();
        self.swap();
        if env::var("SIPGUARD_CARD_SLEEPS").unwrap() == "true" {
            self.as_at_first();
            self.sleep();
        }

        self.let_go("down");
        self.unknown(sandbox);
    }

    /// What is known of drivers is read from `/sys`. Where that is another network namespace's, the proof finds those that don't run what they
    /// take.
    fn unknown(&mut self, sandbox: &Sandbox) {
        sandbox.unmount_bpffs();
        unmount(SYS, UnmountFlags::empty()).expect("it was mounted");
        let (applied, _) = self.silence(|story| story.scene.sipguard(["apply"]));
        let runs = applied.stdout.lines().next().unwrap_or_default();
        self.holds("unknown driver", &[SMALL, TAGGED_SMALL, LARGE], runs);
        self.let_go("down, unknown driver");
    }

    /// After `down` everything arrives, and nothing is left.
    fn let_go(&mut self, step: &str) {
        let (down, silent) = self.silence(|story| story.scene.sipguard(["down"]));
        println!("silent\t{step}\t{silent}");
        let seen = self.look(SMALL);
        let shown = self.scene.gateway.ip(&format!("-details link show {CARD}"));
        let left = shown.stdout.contains("prog/xdp");
        let failed = down.stderr.lines().next().unwrap_or_default();
        self.line(
            step,
            down.status.success() && seen == Seen::Free && !left && !self.claim().filtered,
            format!("{seen}; {failed}").trim_end_matches("; "),
        );
    }

    /// A driver that could run the program is not said to be one that can't.
    fn reason(&mut self, runs: &str) {
        let can = env::var("SIPGUARD_DRIVER_RUNS_XDP").unwrap() == "true";
        let said = runs.contains("its driver has no native XDP");
        let native = self.mode == "native";
        let well = if can {
            !said
        } else {
            runs.contains("has no native XDP") && !native
        };
        let note = match (well, can) {
            (true, _) => "",
            (false, true) => "the driver has native XDP, and something else is in its way",
            (false, false) => "the driver has no native XDP",
        };
        self.line("reason", well, note);
    }

    /// Without a filter everything arrives; says whether large frames do where the MTU allows them.
    fn before(&mut self) -> bool {
        let seen = [SMALL, TAGGED_SMALL, LARGE].map(|probe| self.look(probe));
        let jumbo = self.mtu >= JUMBO || {
            let raised = self.set_mtu(JUMBO).status.success();
            self.wait_for_frames();
            let jumbo = raised && self.look(LARGE) == Seen::Free;
            self.set_mtu(self.mtu);
            self.wait_for_frames();
            jumbo
        };
        let note = if jumbo {
            ""
        } else {
            "no large frames at all; "
        };
        let seen_is = seen.map(|seen| seen.to_string()).join(", ");
        self.line(
            "before",
            seen == [Seen::Free; 3],
            &format!("{note}{seen_is}"),
        );
        jumbo
    }

    /// Large frames while the filter is there, if there are any.
    fn jumbo(&mut self, jumbo: bool) {
        let probes = if jumbo { &[SMALL, LARGE][..] } else { &[SMALL] };
        let raised = self.set_mtu(JUMBO);
        if raised.status.success() {
            if !self.is_stuck() {
                self.holds("MTU 9000", probes, "");
                self.let_go("down at 9000");
            }
            self.set_mtu(JUMBO);
            self.wait_for_frames();
            self.scene.sipguard(["apply"]);
            self.holds("apply at 9000", probes, "");
        } else {
            let note = format!("refused: {}", raised.stderr.trim());
            self.holds("MTU 9000", &[SMALL], &note);
        }
        self.set_mtu(self.mtu);
        self.holds("MTU back", &[SMALL, LARGE], "");
    }

    /// A driver may lose large frames while the program is in it, and not let go of that at the MTU that was set meanwhile (virtio_net before
    /// Linux 6.3). Then `doctor` finds it, `down` says at which MTU it can be done, and there it can. Returns whether it is so.
    fn is_stuck(&mut self) -> bool {
        self.wait_for_frames();
        let claim = self.claim();
        if !(claim.filtered && claim.complaint) {
            return false;
        }
        let filtered = self.look(SMALL) == Seen::Filtered;
        self.line(
            "MTU 9000",
            filtered,
            "large frames are lost, and `doctor` says so",
        );
        let down = self.scene.sipguard(["down"]);
        let stays = self.look(SMALL) == Seen::Filtered && self.claim().filtered;
        let said = down.stderr.lines().next().unwrap_or_default();
        self.line("down at 9000", !down.status.success() && stays, said);
        let word = said.split_once(" mtu ").map_or("", |(_, rest)| rest);
        let digits = word.split(|letter: char| !letter.is_ascii_digit()).next();
        let Some(mtu) = digits.and_then(|digits| digits.parse().ok()) else {
            return true;
        };
        self.set_mtu(mtu);
        self.holds("the MTU that it says", &[SMALL, LARGE], "");
        self.let_go("down there");
        true
    }

    /// On both ends, where the card takes it.
    fn set_mtu(&self, mtu: u32) -> Finished {
        let words = format!("link set {CARD} mtu {mtu}");
        let mut ip = Command::new("ip");
        let card = self.scene.gateway.run(ip.args(words.split(' ')));
        if card.status.success() {
            self.scene.outside.ip(&words);
        }
        card
    }

    /// Half of what there are, and one queue where there are several; then as before.
    fn rings(&self) -> String {
        let mut notes = Vec::new();
        for (read, write, words) in [("-g", "-G", &["rx"][..]), ("-l", "-L", &["combined"])] {
            let shown = self.ethtool(&[read, CARD]).stdout;
            // Maximums come first.
            let current = shown.split("Current").nth(1).unwrap_or_default();
            let number = current.lines().find_map(|line| {
                let (name, number) = line.split_once(':')?;
                let name = name.to_lowercase();
                words
                    .contains(&name.as_str())
                    .then(|| number.trim().parse::<u32>().ok())?
            });
            let Some(number) = number.filter(|number| *number > 1) else {
                continue;
            };
            let word = words[0];
            let [half, whole] = [number / 2, number].map(|number| {
                let number = number.to_string();
                self.ethtool(&[write, CARD, word, &number]).status.success()
            });
            notes.push(format!(
                "{word} {number}: {}",
                if half && whole { "changed" } else { "refused" }
            ));
        }
        notes.join(", ")
    }

    fn offloads(&self) -> String {
        let mut changed = Vec::new();
        for feature in ["lro", "gro", "rx", "rx-gro-hw"] {
            let off = self.ethtool(&["-K", CARD, feature, "off"]).status.success();
            let on = self.ethtool(&["-K", CARD, feature, "on"]).status.success();
            if off || on {
                changed.push(feature);
            }
        }
        changed.join(" ")
    }

    /// Puts every device of the machine to sleep and wakes it up again, as it is done where the machine sleeps (Documentation/power/basic-pm-debugging.rst
    /// of the kernel). Where the driver has forgotten its program by then, `doctor` finds that with the first packets, and `repair` mends it.
    fn sleep(&mut self) {
        const STEP: &str = "asleep and awake";
        flock(&self.others, FlockOperation::Unlock).unwrap();
        flock(&self.others, FlockOperation::LockExclusive).unwrap();
        let power = Path::new(SYS).join("power");
        for (file, what) in [("pm_test", "devices"), ("state", "freeze")] {
            fs::write(power.join(file), what).unwrap();
        }
        self.wait_for_frames();
        let probes = [SMALL, TAGGED_SMALL, LARGE];
        let seen = probes.map(|probe| self.look(probe));
        let (claim, _) = self.silence(Self::claim);
        if seen == [Seen::Free; 3] {
            let (repaired, _) = self.silence(|story| story.scene.sipguard(["repair"]));
            let again = probes.map(|probe| self.look(probe));
            let (mended, _) = self.silence(Self::claim);
            self.line(
                STEP,
                claim.complaint
                    && repaired.status.success()
                    && again == [Seen::Filtered; 3]
                    && mended.mode == self.mode
                    && mended.well,
                &format!(
                    "forgotten, and {claim}; after `repair` {}, and {mended}",
                    again[0]
                ),
            );
        } else {
            let well = seen == [Seen::Filtered; 3] && claim.well;
            let seen = seen.map(|seen| seen.to_string()).join(", ");
            self.line(STEP, well, if well { "" } else { &seen });
        }
    }

    /// Another policy while datagrams of both kinds come in.
    fn swap(&mut self) {
        let (ended, received) = (AtomicBool::new(false), AtomicU64::new(0));
        let (counts, applied) = thread::scope(|scope| {
            let flow = scope.spawn(|| self.flow(&ended, &received));
            thread::sleep(Duration::from_millis(200));
            let again = policy(&[CARD]).replace("udp = [5060]", "udp = [5060, 5061]");
            self.scene.configure(&again);
            let applied = self.scene.sipguard(["apply"]);
            thread::sleep(Duration::from_millis(200));
            ended.store(true, Ordering::Relaxed);
            (flow.join().unwrap(), applied)
        });
        let Flow {
            sent,
            listed,
            unlisted,
            ..
        } = counts;
        let well = applied.status.success() && listed == sent && unlisted == 0;
        let failed = applied.stderr.lines().next().unwrap_or_default();
        self.line(
            "swap",
            well,
            &format!("{listed} of {sent} listed, {unlisted} of {sent} unlisted; {failed}"),
        );
    }

    /// Runs a command while listed datagrams come in; returns the longest time without one, in milliseconds.
    fn silence<T>(&self, command: impl FnOnce(&Self) -> T) -> (T, u128) {
        let (ended, received) = (AtomicBool::new(false), AtomicU64::new(0));
        let (flow, finished) = thread::scope(|scope| {
            let flow = scope.spawn(|| self.flow(&ended, &received));
            let more = |least: u64| {
                let least = received.load(Ordering::Relaxed) + least;
                let begin = Instant::now();
                while received.load(Ordering::Relaxed) < least && begin.elapsed() < PATIENCE {
                    thread::sleep(Duration::from_millis(5));
                }
            };
            more(10);
            let finished = command(self);
            // A driver that begins anew does so a moment later.
            thread::sleep(Duration::from_millis(300));
            more(10);
            ended.store(true, Ordering::Relaxed);
            (flow.join().unwrap(), finished)
        });
        (finished, flow.silent.as_millis())
    }

    /// Sends datagrams of both kinds, a pair each few milliseconds, and counts what arrives.
    fn flow(&self, ended: &AtomicBool, received: &AtomicU64) -> Flow {
        let number = self.next();
        let [listed, unlisted] = [LISTED[0], UNLISTED[0]].map(|source| self.sender(source));
        let to = SocketAddr::new(PLAIN[0].parse().unwrap(), SIP);
        let mut flow = Flow::default();
        let mut last = Instant::now();
        let mut take = |flow: &mut Flow| {
            while let Some(kind) = take(&self.sip, number) {
                if kind == b'L' {
                    flow.listed += 1;
                    received.fetch_add(1, Ordering::Relaxed);
                    flow.silent = flow.silent.max(last.elapsed());
                    last = Instant::now();
                } else {
                    flow.unlisted += 1;
                }
            }
        };
        self.sip
            .set_read_timeout(Some(Duration::from_millis(2)))
            .unwrap();
        while !ended.load(Ordering::Relaxed) {
            for (socket, kind) in [(&unlisted, b'U'), (&listed, b'L')] {
                // A cable's end that is full says so, and what is left out is no loss of the filter's.
                let _ = socket.send_to(&text(number, kind, SMALL.size), to);
            }
            flow.sent += 1;
            take(&mut flow);
        }
        thread::sleep(Duration::from_millis(200));
        take(&mut flow);
        self.sip
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        flow
    }

    /// Looks at the filter, and holds against that what `status` and `doctor` say. Where it is not filtered, and said to be not, `apply` has to
    /// mend it.
    fn holds(&mut self, step: &str, probes: &[Probe], note: &str) {
        let mut notes = vec![note.to_owned()];
        let mut well = true;
        self.wait_for_frames();
        for probe in probes {
            let name = probe.name;
            let seen = self.look(*probe);
            let claim = self.claim();
            match seen {
                Seen::Filtered if claim.filtered && !claim.complaint => {}
                Seen::Free if !claim.filtered && claim.complaint => {
                    let mended = self.scene.sipguard(["apply"]);
                    self.wait_for_frames();
                    let again = self.look(*probe);
                    well &= mended.status.success() && again == Seen::Filtered;
                    notes.push(format!("{name}{seen}, and said so; {again} after `apply`"));
                }
                _ => {
                    well = false;
                    notes.push(format!("{name}{seen}, and {claim}"));
                }
            }
        }
        notes.retain(|note| !note.is_empty());
        self.line(step, well, &notes.join("; "));
    }

    /// Puts everything in again unless it is filtered, and as it was at first: one step's failure is not the next one's.
    fn as_at_first(&self) {
        if self.look(SMALL) != Seen::Filtered || self.claim().mode != self.mode {
            self.scene.sipguard(["down"]);
            self.scene.sipguard(["apply"]);
            self.wait_for_frames();
        }
    }

    fn look(&self, Probe { to, size, .. }: Probe) -> Seen {
        let number = self.next();
        let (mut listed, mut unlisted) = (0, 0);
        let mut count = |wait: Duration| {
            let begin = Instant::now();
            loop {
                match take(&self.sip, number) {
                    Some(b'L') => listed += 1,
                    Some(_) => unlisted += 1,
                    None if begin.elapsed() >= wait => break (listed, unlisted),
                    None => {}
                }
            }
        };
        for family in 0..2 {
            let to = SocketAddr::new(to[family].parse().unwrap(), SIP);
            let sources = [(UNLISTED[family], b'U'), (LISTED[family], b'L')];
            let sockets = sources.map(|(source, kind)| (self.sender(source), kind));
            for _ in 0..EACH {
                for (socket, kind) in &sockets {
                    let _ = socket.send_to(&text(number, *kind, size), to);
                }
                count(Duration::ZERO);
            }
        }
        let all = EACH * 2;
        let begin = Instant::now();
        while count(Duration::ZERO).0 < all && begin.elapsed() < SOON {}
        // What is behind in another queue, or would be let through late.
        match count(Duration::from_millis(200)) {
            (listed, 0) if listed == all => Seen::Filtered,
            (listed, unlisted) if listed == all && unlisted == all => Seen::Free,
            (0, 0) if !self.arrives(to[0]) => Seen::Silent,
            (listed, unlisted) => Seen::Else { listed, unlisted },
        }
    }

    /// Waits until frames come in by the card; one that begins anew loses them for a moment.
    fn wait_for_frames(&self) {
        let begin = Instant::now();
        while !self.arrives(PLAIN[0]) && begin.elapsed() < PATIENCE {}
    }

    /// Whether a datagram to a port that nobody guards does.
    fn arrives(&self, to: &str) -> bool {
        let number = self.next();
        let to = SocketAddr::new(to.parse().unwrap(), OPEN);
        let _ = self
            .sender(UNLISTED[0])
            .send_to(&text(number, b'U', SMALL.size), to);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(500) {
            if take(&self.open, number).is_some() {
                return true;
            }
        }
        false
    }

    /// What sipguard says.
    fn claim(&self) -> Claim {
        let status = json(&self.scene.sipguard(["status", "--json"]));
        let doctor = json(&self.scene.sipguard(["doctor", "--json"]));
        let interfaces = status["interfaces"].as_array().cloned().unwrap_or_default();
        let own = interfaces
            .iter()
            .find(|interface| interface["name"] == CARD);
        let findings = doctor["findings"].as_array().cloned().unwrap_or_default();
        let wrong = findings.iter().filter(|finding| finding["wrong"] == true);
        let named = wrong.filter(|finding| {
            let about = finding["about"].as_str().unwrap_or_default();
            about.contains(CARD)
        });
        Claim {
            filtered: own.is_some_and(|own| own["state"] == "attached"),
            mode: own.map_or(String::new(), |own| {
                own["mode"].as_str().unwrap_or_default().to_owned()
            }),
            complaint: named.count() > 0,
            well: doctor["well"] == true,
        }
    }

    fn sender(&self, source: &str) -> UdpSocket {
        let source: IpAddr = source.parse().unwrap();
        self.scene
            .outside
            .enter(|| UdpSocket::bind((source, 0)).unwrap())
    }

    fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    fn ethtool(&self, words: &[&str]) -> Finished {
        self.scene.gateway.run(Command::new("ethtool").args(words))
    }

    /// One line of the table that `cargo xtask devices` makes.
    fn line(&mut self, step: &str, well: bool, note: &str) {
        println!(
            "step\t{step}\t{}\t{}",
            if well { "well" } else { "wrong" },
            note.replace(['\n', '\t'], " ")
        );
        self.lines.push(Line { well });
    }
}

#[derive(Default)]
struct Flow {
    sent: usize,
    listed: usize,
    unlisted: usize,
    silent: Duration,
}

struct Claim {
    /// `status` says so.
    filtered: bool,
    mode: String,
    /// `doctor` finds something wrong with the card.
    complaint: bool,
    /// `doctor` finds nothing wrong at all.
    well: bool,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.filtered {
            write!(f, "`status` says filtered ({})", self.mode)?;
        } else {
            f.write_str("`status` says not filtered")?;
        }
        f.write_str(if self.well {
            ", `doctor` all is well"
        } else if self.complaint {
            ", `doctor` finds it"
        } else {
            ", `doctor` finds something else"
        })
    }
}

/// Moves the interface whose address stands in this variable to a host; returns the address.
fn moved(variable: &str, host: &Host) -> String {
    let address =
        env::var(variable).unwrap_or_else(|_| panic!("`cargo xtask devices` sets {variable}"));
    let interface = || {
        let all = fs::read_dir("/sys/class/net")
            .unwrap()
            .map(|entry| entry.unwrap());
        let mut own = all.filter(|entry| {
            fs::read_to_string(entry.path().join("address")).is_ok_and(|it| it.trim() == address)
        });
        own.next()
            .map(|entry| entry.file_name().into_string().unwrap())
    };
    until("the card is there", || interface().is_some());
    let name = interface().unwrap();
    let words = [
        "link",
        "set",
        &name,
        "netns",
        &host.namespace(),
        "name",
        CARD,
    ];
    let status = Command::new("ip").args(words).status().unwrap();
    assert!(status.success(), "moving {name}");
    address
}

/// What is in a datagram: its number, whether its source is listed, and as much as it takes to be as long as it should.
fn text(number: u64, kind: u8, size: usize) -> Vec<u8> {
    let mut text = number.to_be_bytes().to_vec();
    text.push(kind);
    text.resize(size, 0);
    text
}

/// The kind of the next datagram with this number, if one comes soon.
fn take(socket: &UdpSocket, number: u64) -> Option<u8> {
    let mut buffer = [0; LARGE.size];
    loop {
        let length = socket.recv(&mut buffer).ok()?;
        if length > 8 && buffer[..8] == number.to_be_bytes() {
            return Some(buffer[8]);
        }
    }
}

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_default()
}
