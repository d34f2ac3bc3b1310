//! The package's action for fail2ban, with the real fail2ban reading a log as Asterisk writes it: who is banned is dropped, and whom a person has
//! allowed keeps calling.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
};

use jiff::{SignedDuration, tz::TimeZone};
use serde_json::Value;
use sipguard::clock;
use sipguard_tests::{
    netns::{Finished, Process, SCRATCH, STATE, sandbox, sipguard, until},
    scene::{PROVIDER, SCANNER, Scene},
};

const SCANNER_V6: &str = "2001:db8:bad::7";
/// How long the jails ban, in seconds.
const BANTIME: i64 = 600;
/// So many wrong passwords are one too many.
const TRIES: usize = 3;
/// Everybody may ask here who is not banned.
const PORT: u16 = 5061;

/// A gateway, and fail2ban in a folder of its own.
struct Fail2ban<'s> {
    scene: &'s Scene,
    folder: String,
    server: Option<Process>,
}

impl<'s> Fail2ban<'s> {
    fn new(scene: &'s Scene, jails: &str) -> Self {
        let folder = format!("{SCRATCH}/fail2ban");
        for below in ["", "/action.d"] {
            fs::create_dir(folder.clone() + below).expect("there is room");
        }
        symlink("/etc/fail2ban/filter.d", folder.clone() + "/filter.d").expect("there is room");
        let action = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sipguard/dist/fail2ban.py");
        let installed = folder.clone() + "/action.d/sipguard.py";
        fs::copy(action, installed).expect("the package has an action");
        let write = |name: &str, text: &str| {
            fs::write(format!("{folder}/{name}"), text).expect("there is room");
        };
        write(
            "fail2ban.conf",
            &format!(
                "[Definition]\nloglevel = INFO\nlogtarget = {folder}/log\nsyslogsocket = auto\nsocket = {folder}/sock\n\
                 pidfile = {folder}/pid\ndbfile = {folder}/db\ndbpurgeage = 1d\nallowipv6 = yes\n"
            ),
        );
        // With the words that the stock config has for an action that bans, and as somebody would say where the command is.
        write(
            "jail.conf",
            &format!(
                "[DEFAULT]\nenabled = true\nbackend = polling\nmaxretry = {TRIES}\nfindtime = {BANTIME}\nlogpath = {folder}/messages\n\
                 banaction = sipguard.py[sipguard={}]\naction = %(banaction)s[port=\"5060\", protocol=\"udp\", chain=\"INPUT\"]\n{jails}",
                sipguard().display()
            ),
        );
        write("messages", "");
        let mut new = Self {
            scene,
            folder,
            server: None,
        };
        new.start();
        new
    }

    /// In the foreground, so that it ends with the test.
    fn start(&mut self) {
        let mut command = Command::new("fail2ban-server");
        command.args(["-f", "-c", &self.folder]).env("TZ", "UTC");
        self.server = Some(self.scene.gateway.spawn(&mut command));
        until("fail2ban is ready", || {
            self.ask("ping").status.success() && self.log().contains("Jail 'asterisk' started")
        });
    }

    fn stop(&mut self) {
        self.ask("stop").succeeded();
        let server = self.server.take().expect("it runs");
        server.wait().succeeded();
    }

    fn ask(&self, words: &str) -> Finished {
        let mut command = Command::new("fail2ban-client");
        command.args(["-c", &self.folder]).args(words.split(' '));
        self.scene.gateway.run(&mut command)
    }

    fn log(&self) -> String {
        fs::read_to_string(format!("{}/log", self.folder)).unwrap_or_default()
    }

    /// What Asterisk writes of a wrong password, as often as fail2ban lets pass, and once more.
    fn wrong_passwords(&self, source: &str, ago: SignedDuration) {
        let family = if source.contains(':') { 6 } else { 4 };
        let at = clock::now().wall - ago;
        let at = at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S");
        let line = format!(
            "[{at}] SECURITY[1234] res_security_log.c: SecurityEvent=\"InvalidPassword\",EventTV=\"{at}\",Severity=\"Error\",Service=\"PJSIP\",\
             EventVersion=\"2\",AccountID=\"100\",SessionID=\"9a1\",LocalAddress=\"IPV{family}/UDP/192.0.2.1/5060\",\
             RemoteAddress=\"IPV{family}/UDP/{source}/5060\",Challenge=\"\"\n"
        );
        let messages = format!("{}/messages", self.folder);
        let mut messages = OpenOptions::new()
            .append(true)
            .open(messages)
            .expect("a log");
        for _ in 0..TRIES {
            messages.write_all(line.as_bytes()).expect("there is room");
        }
    }

    /// Waits until fail2ban has banned somebody in a jail, and the action has done it.
    fn wait_for_ban(&self, jail: &str, source: &str) {
        until(&format!("{jail} bans {source}: {}", self.log()), || {
            let banned = self.ask(&format!("get {jail} banip")).stdout;
            banned.split_whitespace().any(|banned| banned == source)
        });
        until(&format!("{source} is banned"), || {
            self.ban(source).is_some()
        });
        assert!(source == PROVIDER || !self.passes(source));
    }

    /// Waits until nobody keeps it out any more.
    fn wait_for_unban(&self, source: &str) {
        until(&format!("{source} passes"), || self.passes(source));
    }

    fn passes(&self, source: &str) -> bool {
        self.scene.passes("eth0", source, PORT)
    }

    /// The ban of a source, as `list` tells it.
    fn ban(&self, source: &str) -> Option<Value> {
        let list = self.scene.sipguard(["list", source, "--json"]).succeeded();
        let entries = list.stdout.lines().map(serde_json::from_str::<Value>);
        let mut entries = entries.map(|entry| entry.expect("JSON"));
        entries.find(|entry| entry["origin"] == "ban")
    }

    fn seconds_left(&self, source: &str) -> i64 {
        let ban = self.ban(source).expect("it is banned");
        ban["seconds_left"].as_i64().expect("it ends by itself")
    }
}

fn with_scene(test: impl FnOnce(&Scene) + Send) {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(&format!(
            "interfaces = [\"eth0\"]\n[sources]\nproviders = [\"{PROVIDER}\"]\n\
             [services.sip]\nudp = [{PORT}]\ndefault = \"allow\"\nallow = [\"providers\"]\n"
        ));
        scene.sipguard(["apply"]).succeeded();
        test(&scene);
    });
}

#[test]
fn a_scanner_is_dropped_and_a_provider_keeps_calling() {
    with_scene(|scene| {
        let mut fail2ban = Fail2ban::new(
            scene,
            &format!("[asterisk]\nfilter = asterisk\nbantime = {BANTIME}\n"),
        );
        for source in [SCANNER, SCANNER_V6, PROVIDER] {
            assert!(fail2ban.passes(source));
            fail2ban.wrong_passwords(source, SignedDuration::ZERO);
        }
        for source in [SCANNER, SCANNER_V6, PROVIDER] {
            fail2ban.wait_for_ban("asterisk", source);
        }
        // Somebody forges its address. What a person wrote decides, and he sees it.
        assert!(fail2ban.passes(PROVIDER), "it keeps calling");
        assert!(
            fail2ban.passes("198.51.100.8"),
            "nobody has banned this one"
        );
        let ban = fail2ban.ban(PROVIDER).expect("it is kept");
        assert_eq!(
            (&ban["overruled"], &ban["source"]),
            (&true.into(), &"fail2ban-asterisk".into())
        );
        let status = scene.sipguard(["status"]).succeeded().stdout;
        assert!(
            status.contains("3 bans; 1 under an entry by hand"),
            "{status}"
        );
        // As long again, for fail2ban moves ends without a word.
        let left = fail2ban.seconds_left(SCANNER);
        assert!((2 * BANTIME - 60..=2 * BANTIME).contains(&left), "{left}");

        fail2ban
            .ask(&format!("set asterisk unbanip {SCANNER}"))
            .succeeded();
        fail2ban.wait_for_unban(SCANNER);
        assert!(!fail2ban.passes(SCANNER_V6));
        // Of another program, which fail2ban knows nothing of.
        scene
            .sipguard(["ban", "198.51.100.9", "--for", "never"])
            .succeeded();
        fail2ban.stop();
        assert!(fail2ban.passes(SCANNER_V6), "all at once");
        assert_eq!(fail2ban.ban(PROVIDER), None);
        assert!(!fail2ban.passes("198.51.100.9"));
        let log = fail2ban.log();
        assert!(
            log.contains("[asterisk] Flush ticket(s) with sipguard"),
            "{log}"
        );
        assert!(!log.contains("ERROR") && !log.contains("CRITICAL"), "{log}");
    });
}

#[test]
fn a_restored_ban_is_given_what_is_left_of_it() {
    with_scene(|scene| {
        let jails = format!(
            "[asterisk]\nfilter = asterisk\nbantime = {BANTIME}\n\
             [forever]\nfilter =\nbantime = -1\n"
        );
        let mut fail2ban = Fail2ban::new(scene, &jails);
        // Half of its time is over when fail2ban reads of it.
        let half = BANTIME / 2;
        fail2ban.wrong_passwords(SCANNER, SignedDuration::from_secs(half));
        fail2ban.wait_for_ban("asterisk", SCANNER);
        fail2ban
            .ask(&format!("set forever banip {SCANNER_V6}"))
            .succeeded();
        fail2ban.wait_for_ban("forever", SCANNER_V6);
        assert_eq!(
            fail2ban.ban(SCANNER_V6).expect("banned")["until"],
            Value::Null
        );

        fail2ban.stop();
        assert!(fail2ban.passes(SCANNER) && fail2ban.passes(SCANNER_V6));
        fail2ban.start();
        for (jail, source) in [("asterisk", SCANNER), ("forever", SCANNER_V6)] {
            fail2ban.wait_for_ban(jail, source);
        }
        assert!(fail2ban.log().contains(&format!("Restore Ban {SCANNER}")));
        let left = fail2ban.seconds_left(SCANNER);
        // And up to a sixteenth, so that many end at once.
        let wanted = half + BANTIME;
        assert!(
            (wanted - 60..=wanted + BANTIME / 16).contains(&left),
            "{left}"
        );
        assert_eq!(
            fail2ban.ban(SCANNER_V6).expect("banned")["until"],
            Value::Null
        );
        // Killed, it takes nothing back: that is what the ends are for.
        drop(fail2ban.server.take());
        assert!(!fail2ban.passes(SCANNER) && !fail2ban.passes(SCANNER_V6));
        let log = fail2ban.log();
        assert!(!log.contains("ERROR"), "{log}");
    });
}

/// What is in force though the disk could not be written, fail2ban takes back, too.
#[test]
fn without_a_disk() {
    with_scene(|scene| {
        let fail2ban = Fail2ban::new(
            scene,
            &format!("[asterisk]\nfilter = asterisk\nbantime = {BANTIME}\n"),
        );
        let remount = |options: &str| {
            let mut command = Command::new("mount");
            command.args(["-o", &format!("remount,{options}"), STATE]);
            scene.gateway.run(&mut command).succeeded();
        };
        remount("ro");
        fail2ban
            .ask(&format!("set asterisk banip {SCANNER}"))
            .succeeded();
        fail2ban.wait_for_ban("asterisk", SCANNER);
        fail2ban
            .ask(&format!("set asterisk unbanip {SCANNER}"))
            .succeeded();
        fail2ban.wait_for_unban(SCANNER);
        let log = fail2ban.log();
        assert!(!log.contains("ERROR"), "{log}");
        remount("rw");
    });
}

/// What comes at once goes to sipguard at once, where one that is refused keeps no other from it, and in the order in which it was said.
#[test]
fn many_at_once_in_two_jails() {
    with_scene(|scene| {
        let mut fail2ban = Fail2ban::new(
            scene,
            &format!("bantime = {BANTIME}\n[asterisk]\nfilter =\n[other]\nfilter =\n"),
        );
        let addresses: Vec<_> = (1..=200).map(|host| format!("198.51.100.{host}")).collect();
        let addresses = addresses.join(" ");
        let banned_by = |jail: &str| {
            let list = scene.sipguard(["list", "--json"]).succeeded().stdout;
            let by = format!("\"fail2ban-{jail}\"");
            list.lines().filter(|line| line.contains(&by)).count()
        };
        fail2ban
            .ask(&format!("set asterisk banip {addresses} 11.0.0.0/8"))
            .succeeded();
        fail2ban
            .ask(&format!(
                "set other banip 203.0.113.77 {addresses} {SCANNER_V6}"
            ))
            .succeeded();
        fail2ban
            .ask(&format!("set other unbanip {addresses}"))
            .succeeded();
        until("all is done", || {
            (banned_by("asterisk"), banned_by("other")) == (200, 2)
        });
        until("what was refused is told", || {
            fail2ban.log().contains("11.0.0.0/8: sipguard: ")
        });
        let log = fail2ban.log();
        let told: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
        let [told] = told[..] else {
            panic!("{told:#?}")
        };
        assert!(
            told.contains("[asterisk] ban --for 1200 11.0.0.0/8"),
            "{told}"
        );
        assert!(!fail2ban.passes(SCANNER_V6) && !fail2ban.passes("198.51.100.1"));

        // Each jail takes back its own.
        fail2ban.ask("stop asterisk").succeeded();
        assert_eq!((banned_by("asterisk"), banned_by("other")), (0, 2));
        fail2ban.stop();
        assert_eq!(banned_by("other"), 0);
    });
}

/// The action is still there then.
#[test]
fn after_the_config_was_read_again() {
    with_scene(|scene| {
        let fail2ban = Fail2ban::new(scene, "bantime = 1h\n[asterisk]\nfilter =\n");
        fail2ban.ask("set asterisk banip 198.51.100.9").succeeded();
        fail2ban.wait_for_ban("asterisk", "198.51.100.9");
        fail2ban.ask("reload").succeeded();
        let actions = fail2ban.ask("get asterisk actions").succeeded().stdout;
        assert!(actions.contains("sipguard"), "{actions}");
        assert!(!fail2ban.passes("198.51.100.9"), "it stays");
        fail2ban
            .ask(&format!("set asterisk banip {SCANNER}"))
            .succeeded();
        fail2ban.wait_for_ban("asterisk", SCANNER);
        fail2ban.ask("unban --all").succeeded();
        fail2ban.wait_for_unban(SCANNER);
        fail2ban.wait_for_unban("198.51.100.9");
        let log = fail2ban.log();
        assert!(!log.contains("ERROR"), "{log}");
    });
}

/// With `bantime.increment` fail2ban says how long a ban is only after it has begun.
#[test]
fn a_ban_that_is_prolonged() {
    with_scene(|scene| {
        let fail2ban = Fail2ban::new(
            scene,
            &format!(
                "bantime.increment = true\nbantime.overalljails = true\nbantime.multipliers = 1 10\nbantime = {BANTIME}\n\
                 [other]\nfilter =\naction =\n[asterisk]\nfilter = asterisk\n"
            ),
        );
        // Who was banned before is banned for longer.
        fail2ban
            .ask(&format!("set other banip {SCANNER}"))
            .succeeded();
        fail2ban.wrong_passwords(SCANNER, SignedDuration::ZERO);
        fail2ban.wait_for_ban("asterisk", SCANNER);
        let wanted = 2 * 10 * BANTIME;
        until("its time is known", || {
            let left = fail2ban.seconds_left(SCANNER);
            assert!(left <= wanted, "{left}");
            left > wanted - 120
        });
    });
}
