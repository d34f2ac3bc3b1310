//! Timed entries where the clock is wrong, jumps and is put right: on the host with both clocks in the test's hand, and in the kernel.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use sipguard::{
    clock,
    host::Host,
    lifecycle::{self, End, NewEntry, Options},
    policy::Action,
    state::{HOLDS, OwnEntry, State, Store, TOLERANCE},
    tables::{Now, with_own},
};
use sipguard_ebpf::abi::Value;
use sipguard_tests::{
    netns::{Sandbox, sandbox},
    scene::Scene,
};

const SECOND: u64 = 1_000_000_000;
/// What is true when the story begins, in seconds since 1970.
const BEGIN: i64 = 1_700_000_000;

#[derive(Clone, Debug)]
enum Step {
    /// A word that ends after so many seconds, or at a time so many seconds from what is true.
    Say {
        lasts: bool,
        seconds: i64,
    },
    Wait(i64),
    /// The clock is so many seconds off from now on.
    Set(i64),
    /// Off for so long, and on again with a clock that is so many seconds off.
    Reboot(i64, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let off = prop_oneof![
        3 => Just(0_i64),
        1 => -400_000_000..-10_i64,
        1 => 10..400_000_000_i64,
        1 => -40_000..-10_i64,
        1 => 10..40_000_i64,
    ];
    prop_oneof![
        4 => (any::<bool>(), 60..20_000_i64).prop_map(|(lasts, seconds)| Step::Say { lasts, seconds }),
        6 => (1..9_000_i64).prop_map(Step::Wait),
        3 => off.clone().prop_map(Step::Set),
        1 => (1..100_000_i64, off).prop_map(|(seconds, off)| Step::Reboot(seconds, off)),
    ]
}

/// One entry, and what is known of it from outside.
#[derive(Clone, Debug)]
struct Said {
    boot: u32,
    boot_ns: u64,
    seconds: i64,
    lasts: bool,
    /// Whether it was known what time it was, and how long the machine was on since, as far as its end goes by that.
    rightly: bool,
    /// When it ends, in truth.
    end: i64,
}

/// A machine: what is true, its two clocks, its disk, and what is in the kernel.
struct Machine {
    truth: i64,
    off: i64,
    boot: u32,
    boot_ns: u64,
    state: State,
    kernel: BTreeMap<usize, Value>,
    said: Vec<Said>,
}

impl Machine {
    fn now(&self) -> Now {
        Now {
            boot_ns: self.boot_ns,
            wall: Timestamp::from_second(self.truth + self.off).expect("a time"),
        }
    }

    fn pass(&mut self, seconds: i64) {
        self.truth += seconds;
        self.boot_ns += seconds.unsigned_abs() * SECOND;
    }

    /// What each command does at its beginning.
    fn look(&mut self) {
        let revision = self.state.revision;
        let now = self.now();
        self.state.look_at_the_clock(now, &self.boot.to_string());
        if self.state.revision != revision {
            self.follow();
        }
    }

    fn follow(&mut self) {
        let now = self.state.now(self.boot_ns);
        self.kernel.clear();
        for entry in &self.state.entries {
            if let Some(value) = with_own(None, [entry], now) {
                self.kernel.insert(number(entry), value);
            }
        }
    }

    fn say(&mut self, lasts: bool, seconds: i64) {
        let now = self.state.now(self.boot_ns);
        self.state.drop_ended(self.boot_ns);
        let number = self.said.len();
        let until = if lasts {
            now.wall + SignedDuration::from_secs(seconds)
        } else {
            Timestamp::from_second(self.truth + seconds).expect("a time")
        };
        self.state.add([OwnEntry {
            prefix: format!("10.{}.{}.0/24", number / 256, number % 256)
                .parse()
                .expect("a prefix"),
            service: "sip".to_owned(),
            action: Action::Deny,
            until: Some(until),
            lasts_in: lasts.then(|| self.boot.to_string()),
            comment: None,
            added: now.wall,
        }]);
        self.said.push(Said {
            boot: self.boot,
            boot_ns: self.boot_ns,
            seconds,
            lasts,
            rightly: (now.wall.as_second() - self.truth).abs() <= TOLERANCE.as_secs(),
            end: self.truth + seconds,
        });
        self.follow();
    }

    /// What is left in this boot of what was said to last so long is left by a time that may be wrong, and in the next one nobody can tell.
    fn doubt_what_lasts(&mut self) {
        let time = self.state.now(self.boot_ns).wall.as_second();
        if (time - self.truth).abs() <= TOLERANCE.as_secs() {
            return;
        }
        let boot = Some(self.boot.to_string());
        for entry in self.state.entries.iter().filter(|it| it.lasts_in == boot) {
            self.said[number(entry)].rightly = false;
        }
    }

    fn is_in_force(&self, number: usize) -> bool {
        let value = self.kernel.get(&number);
        value.is_some_and(|value| value.deny_until > self.boot_ns)
    }
}

fn number(entry: &OwnEntry) -> usize {
    let std::net::IpAddr::V4(address) = entry.prefix.addr() else {
        panic!("all are IPv4");
    };
    let [_, high, low, _] = address.octets();
    usize::from(high) * 256 + usize::from(low)
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let near = TOLERANCE.as_secs() + 1;
    let mut machine = Machine {
        truth: BEGIN,
        off: 0,
        boot: 0,
        boot_ns: 30 * SECOND,
        state: State::default(),
        kernel: BTreeMap::new(),
        said: Vec::new(),
    };
    // It has run for a while.
    machine.look();
    machine.pass(HOLDS.as_secs());
    machine.look();
    let mut least = Timestamp::UNIX_EPOCH;
    for step in steps {
        match *step {
            Step::Say { lasts, seconds } => machine.say(lasts, seconds),
            Step::Wait(seconds) => machine.pass(seconds),
            Step::Set(off) => machine.off = off,
            Step::Reboot(seconds, off) => {
                machine.doubt_what_lasts();
                machine.truth += seconds;
                machine.boot += 1;
                machine.boot_ns = 0;
                machine.off = off;
                machine.pass(5);
            }
        }
        machine.look();
        if matches!(step, Step::Reboot(..)) {
            // The kernel has forgotten everything, and `apply` runs.
            machine.follow();
        }
        let now_least = machine.state.clock.least(machine.boot_ns);
        prop_assert!(now_least >= least, "what is sure stays sure: {:?}", step);
        least = now_least;
        // Whether a clock was ahead for so long that it was taken for right.
        let spoiled = least.as_second() > machine.truth + near;
        for (number, said) in machine.said.iter().enumerate() {
            let in_force = machine.is_in_force(number);
            if said.lasts && said.boot == machine.boot {
                let passed = (machine.boot_ns - said.boot_ns) / SECOND;
                let passed = i64::try_from(passed).expect("short");
                if (passed - said.seconds).abs() > near {
                    prop_assert_eq!(
                        in_force,
                        passed < said.seconds,
                        "{:?} after {:?}",
                        said,
                        step
                    );
                }
            }
            let kept = machine
                .state
                .entries
                .iter()
                .any(|it| self::number(it) == number);
            if said.rightly && !spoiled && said.end > machine.truth + near {
                prop_assert!(
                    kept,
                    "nothing is forgotten early: {:?} after {:?}",
                    said,
                    step
                );
            }
            // What has ended by what is sure is not in force again.
            let entry = machine
                .state
                .entries
                .iter()
                .find(|it| self::number(it) == number);
            if entry.is_none_or(|entry| entry.until.is_some_and(|until| until <= least)) {
                prop_assert!(!in_force, "{:?} is over, after {:?}", said, step);
            }
        }
        machine.state.drop_ended(machine.boot_ns);
    }
    // The clock is put right, and stays so.
    machine.off = 0;
    machine.look();
    let spoiled = machine.state.clock.least(machine.boot_ns).as_second() > machine.truth + near;
    machine.pass(HOLDS.as_secs() + 1);
    machine.look();
    if !spoiled {
        let time = machine.state.now(machine.boot_ns).wall.as_second();
        prop_assert!((time - machine.truth).abs() <= near, "{time}");
        for (number, said) in machine.said.iter().enumerate() {
            if said.rightly && (said.end - machine.truth).abs() > 2 * near {
                let is = machine.is_in_force(number);
                if !said.lasts {
                    prop_assert_eq!(is, said.end > machine.truth, "{:?}", said);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn whatever_the_clock_says(steps in vec(step(), 1..40)) {
        run(&steps)?;
    }
}

const CONFIG: &str = "interfaces = [\"eth0\"]\n[services.sip]\nudp = [5060]\n";

/// A gateway whose wall clock the test sets; its boot clock is the kernel's.
struct Gateway {
    scene: Scene,
    off: Arc<AtomicI64>,
}

impl Gateway {
    fn new(sandbox: &Sandbox) -> Self {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(CONFIG);
        Self {
            scene,
            off: Arc::default(),
        }
    }

    /// The clock shows so many seconds more than the right time.
    fn set(&self, seconds: i64) {
        self.off.store(seconds, Ordering::Relaxed);
    }

    fn host(&self, boot: &str) -> Host {
        let off = Arc::clone(&self.off);
        Host::new(Store::system(), boot, move || {
            let now = clock::now();
            let off = SignedDuration::from_secs(off.load(Ordering::Relaxed));
            Now {
                wall: now.wall + off,
                ..now
            }
        })
    }

    fn apply(&self, boot: &str) {
        let applied = self
            .scene
            .gateway
            .enter(|| lifecycle::apply(&self.host(boot), &self.scene.config(), Options::default()));
        applied.expect("it can be applied");
    }

    fn say(&self, boot: &str, action: Action, address: &str, end: End) {
        let prefix = sipguard::prefix::parse(address).expect("an address");
        let word = NewEntry {
            action,
            end: Some(end),
            comment: None,
        };
        let host = self.host(boot);
        let said = self
            .scene
            .gateway
            .enter(|| lifecycle::add(&host, &[prefix], Some("sip"), &word));
        said.expect("it can be said");
    }

    fn look(&self, boot: &str) {
        let host = self.host(boot);
        let looked = self.scene.gateway.enter(|| lifecycle::clock(&host));
        looked.expect("it can look");
    }

    fn passes(&self, address: &str) -> bool {
        self.scene.passes("eth0", address, 5060)
    }

    fn reboot(&self, sandbox: &Sandbox) {
        self.scene.reboot(sandbox);
    }
}

const HOUR: i64 = 3600;

fn hours(hours: i64) -> End {
    End::After(SignedDuration::from_hours(hours))
}

#[test]
fn in_the_kernel_a_clock_that_is_behind_opens_nothing() {
    sandbox(|sandbox| {
        let gateway = Gateway::new(sandbox);
        gateway.apply("a");
        gateway.say("a", Action::Allow, "192.0.2.101", hours(2));
        // Two hours and more later, as everybody sees for long enough.
        gateway.set(3 * HOUR);
        let mut state = Store::system().load().expect("a state");
        for boot_ns in [0, 2 * HOLDS.as_nanos()] {
            let now = gateway.host("a2").now();
            let boot_ns = u64::try_from(boot_ns).expect("short");
            state.look_at_the_clock(
                Now {
                    boot_ns,
                    wall: now.wall
                        + SignedDuration::from_nanos(i64::try_from(boot_ns).expect("short")),
                },
                "a2",
            );
        }
        Store::system().save(&mut state).expect("a disk");
        // It comes up with no idea of the time.
        gateway.reboot(sandbox);
        gateway.set(-20 * 365 * 24 * HOUR);
        gateway.apply("b");
        assert!(!gateway.passes("192.0.2.101"));
        // What is said for so long now lasts so long, when the clock is put right, too.
        gateway.say("b", Action::Allow, "192.0.2.102", hours(1));
        gateway.set(100 * HOUR);
        gateway.look("b");
        assert!(gateway.passes("192.0.2.102"));
        assert!(!gateway.passes("192.0.2.101"));
    });
}

#[test]
fn in_the_kernel_a_clock_that_is_ahead_forgets_nothing() {
    sandbox(|sandbox| {
        let gateway = Gateway::new(sandbox);
        gateway
            .scene
            .configure(&CONFIG.replace("5060]", "5060]\ndefault = \"allow\""));
        gateway.apply("a");
        let until = |hours| End::At(clock::now().wall + SignedDuration::from_hours(hours));
        gateway.say("a", Action::Deny, "192.0.2.101", until(5));
        gateway.say("a", Action::Deny, "192.0.2.102", until(7));
        assert!(!gateway.passes("192.0.2.101") && !gateway.passes("192.0.2.102"));
        gateway.reboot(sandbox);
        gateway.set(10 * 365 * 24 * HOUR);
        gateway.apply("b");
        gateway.say("b", Action::Deny, "192.0.2.103", hours(5));
        let state = Store::system().load().expect("a state");
        assert_eq!(state.entries.len(), 3, "nothing is forgotten");
        // The network has told the right time, and nobody runs `apply`.
        gateway.set(0);
        gateway.look("b");
        for address in ["192.0.2.101", "192.0.2.102", "192.0.2.103"] {
            assert!(!gateway.passes(address), "{address}");
        }
        gateway.set(6 * HOUR);
        gateway.look("b");
        assert!(gateway.passes("192.0.2.101"), "it has ended");
        assert!(!gateway.passes("192.0.2.102"));
        assert!(!gateway.passes("192.0.2.103"), "said for five hours");
    });
}

#[test]
fn in_the_kernel_bans_move_with_the_clock() {
    sandbox(|sandbox| {
        let gateway = Gateway::new(sandbox);
        gateway
            .scene
            .configure(&CONFIG.replace("5060]", "5060]\ndefault = \"allow\""));
        gateway.apply("a");
        gateway.reboot(sandbox);
        gateway.set(10 * 365 * 24 * HOUR);
        gateway.apply("b");
        let prefix = "192.0.2.103/32".parse().expect("a prefix");
        let host = gateway.host("b");
        let five = Some(SignedDuration::from_hours(5));
        let ban = || lifecycle::ban(&host, &[prefix], Some("a-program"), five);
        gateway.scene.gateway.enter(ban).expect("it can ban");
        assert!(!gateway.passes("192.0.2.103"));
        // The network has told the right time.
        gateway.set(0);
        for _ in 0..2 {
            gateway.look("b");
            assert!(!gateway.passes("192.0.2.103"));
            let bans = Store::system().bans().expect("a log");
            let until = bans.of(prefix).next().and_then(|ban| ban.until);
            let left = until
                .expect("it ends")
                .duration_since(clock::now().wall)
                .as_secs();
            assert!((5 * HOUR - 600..=5 * HOUR + 10).contains(&left), "{left}");
            let state = Store::system().load().expect("a state");
            assert_eq!(state.unlogged, []);
        }
    });
}
