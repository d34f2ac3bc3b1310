//! `sipguard top` in a real terminal: what is shown, what keys do, and that the terminal is given back however it ends.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use sipguard_tests::{
    agent::{Agent, Journal},
    netns::{Process, SCRATCH, Sandbox, sandbox, sipguard, until},
    scene::{SCANNER, Scene},
};

const CONFIG: &str = r#"
interfaces = ["eth0"]
[services.sip]
udp = [5060]
[services.web]
tcp = [80]
"#;

const INVITE: &[u8] = b"INVITE sip:900442079460123@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7\r\n\
    From: <sip:100@198.51.100.7>;tag=1\r\nUser-Agent: friendly-scanner\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n";

/// tmux on the gateway, with one shell.
struct Terminal<'s> {
    scene: &'s Scene,
    server: Process,
}

impl<'s> Terminal<'s> {
    fn open(scene: &'s Scene) -> Self {
        // Not in the background, so that it ends with the test.
        let mut server = tmux(&["-f", "/dev/null", "-D"]);
        let server = scene.gateway.spawn(&mut server);
        let terminal = Self { scene, server };
        until("tmux listens", || {
            let mut asked = tmux(ASK);
            asked.args(["start-server", ";", "display-message", "-p", "up"]);
            scene.gateway.run(&mut asked).stdout.contains("up")
        });
        terminal.run(&format!("new-session -d -x 80 -y 24 env PS1={PROMPT} sh"));
        terminal
    }

    fn run(&self, arguments: &str) -> String {
        let mut command = tmux(ASK);
        command.args(arguments.split(' '));
        self.scene.gateway.run(&mut command).succeeded().stdout
    }

    /// Types a line, where the shell asks for one: what is typed before stands above the prompt, and what it prints behind it.
    fn enter(&self, line: &str) {
        until("the shell asks", || {
            self.screen().trim_end().ends_with(PROMPT)
        });
        let mut command = tmux(ASK);
        command.args(["send-keys", "-l", line]);
        self.scene.gateway.run(&mut command).succeeded();
        self.run("send-keys Enter");
    }

    fn screen(&self) -> String {
        self.run("capture-pane -p")
    }

    /// Waits until this stands on the screen.
    fn shows(&self, wanted: &str) -> String {
        self.shows_while(wanted, || ())
    }

    /// The same, while something is done again and again.
    fn shows_while(&self, wanted: &str, mut again: impl FnMut()) -> String {
        let mut screen = String::new();
        let mut done: Option<Instant> = None;
        until(&format!("the screen shows {wanted:?}"), || {
            if done.is_none_or(|done| done.elapsed() > Duration::from_millis(500)) {
                again();
                done = Some(Instant::now());
            }
            screen = self.screen();
            screen.contains(wanted)
        });
        screen
    }

    /// Starts it; returns its number.
    fn top(&self) -> Pid {
        let (number, config) = (Path::new(SCRATCH).join("pid"), self.scene.config());
        let _ = fs::remove_file(&number);
        self.enter(&format!(
            "clear; echo before; sh -c 'echo $$ > {}; exec {} --config {} top'; echo left $?",
            number.display(),
            sipguard().display(),
            config.display()
        ));
        // Not what the screen shows: the line that an earlier one was started with shows it, too, until it is cleared.
        let mut pid = None;
        until("it is started", || {
            let written = fs::read_to_string(&number).unwrap_or_default();
            pid = written.trim().parse().ok().and_then(Pid::from_raw);
            pid.is_some()
        });
        self.shows("sipguard top");
        pid.expect("waited for")
    }

    /// It has ended, and the terminal is as it was.
    fn is_given_back(&self, how: &str) {
        let screen = self.shows("\nleft 0");
        assert!(screen.contains("before"), "{how}: {screen}");
        assert!(!screen.contains("DROPPED BY"), "{how}: {screen}");
        let state = self.run("display-message -p #{alternate_on}#{cursor_flag}");
        assert_eq!(state.trim(), "01", "{how}");
        let settings = Path::new(SCRATCH).join("settings");
        self.enter(&format!("stty -a > {}; echo wri''tten", settings.display()));
        self.shows("\nwritten");
        let settings = fs::read_to_string(settings).expect("the shell wrote it");
        for wanted in ["icanon", "echo", "isig", "opost", "icrnl"] {
            let has = settings.split([' ', ';', '\n']).any(|word| word == wanted);
            assert!(has, "{how}: no {wanted}: {settings}");
        }
    }
}

const PROMPT: &str = "ready>";

/// What is asked of a server that is there: without this, one would be started that goes on behind the test's back.
const ASK: &[&str] = &["-N"];

fn tmux(flags: &[&str]) -> Command {
    let mut tmux = Command::new("tmux");
    tmux.args(flags)
        .arg("-S")
        .arg(Path::new(SCRATCH).join("tmux"));
    tmux.env("TERM", "xterm-256color");
    tmux
}

fn applied(sandbox: &Sandbox) -> Scene {
    let scene = Scene::new(sandbox, &["eth0"]);
    scene.configure(CONFIG);
    scene.sipguard(["apply"]).succeeded();
    scene
}

fn knock(scene: &Scene) {
    let frame = scene.frame("eth0", SCANNER).udp(5060).payload(INVITE);
    scene.wire("eth0").send(&frame.bytes());
}

fn keys(terminal: &Terminal<'_>, keys: &str) {
    terminal.run(&format!("send-keys {keys}"));
}

#[test]
fn who_knocks_is_seen_and_let_in_or_kept_out() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        let terminal = Terminal::open(&scene);
        terminal.top();
        let screen = terminal.shows_while(SCANNER, || knock(&scene));
        assert!(screen.contains("DROPPED BY INTERFACE"), "{screen}");
        assert!(screen.contains("scan"), "{screen}");
        assert!(screen.contains("INVITE  +442079460123 (GB)"), "{screen}");
        // The graphs have it, too.
        terminal.shows_while("unlisted", || knock(&scene));

        keys(&terminal, "Enter");
        let one = terminal.shows("as       900442079460123");
        assert!(one.contains("User-Agent friendly-scanner"), "{one}");
        keys(&terminal, "Escape");

        // Whoever types into the wrong window has not read what he answers.
        keys(&terminal, "-l dyyy");
        terminal.shows("sipguard deny 198.51.100.7? y/n");
        keys(&terminal, "n");
        terminal.shows("nothing was changed");
        assert!(
            !scene
                .sipguard(["list"])
                .succeeded()
                .stdout
                .contains(SCANNER)
        );
        keys(&terminal, "d");
        terminal.shows("? y/n");
        keys(&terminal, "y");
        terminal.shows("198.51.100.7 is denied for sip and web now");
        let list = scene.sipguard(["list"]).succeeded().stdout;
        assert!(list.contains("198.51.100.7  deny"), "{list}");
        keys(&terminal, "a");
        terminal.shows("sipguard allow 198.51.100.7 --service sip? y/n");
        keys(&terminal, "y");
        terminal.shows("198.51.100.7 is allowed for sip now");
        assert!(scene.passes("eth0", SCANNER, 5060));

        // Smaller, larger, and small again.
        terminal.run("resize-window -x 40 -y 10");
        let small = terminal.shows("SOURCE           TOLD  LAST  TRIES\n");
        assert!(!small.contains("DROPPED BY"), "{small}");
        assert!(small.starts_with("sipguard top  dropped "), "{small}");
        terminal.run("resize-window -x 120 -y 30");
        terminal.shows("DROPPED BY INTERFACE");
        terminal.run("resize-window -x 80 -y 24");
        keys(&terminal, "?");
        terminal.shows("draw everything anew");
        keys(&terminal, "?");
        keys(&terminal, "/");
        keys(&terminal, "nobody");
        keys(&terminal, "Enter");
        terminal.shows("nobody with \"nobody\" has knocked");
        keys(&terminal, "Escape");
        terminal.shows(SCANNER);
        keys(&terminal, "q");
        terminal.is_given_back("q");
    });
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        let terminal = Terminal::open(&scene);
        for key in ["q", "C-c", "C-d", "C-\\"] {
            terminal.top();
            keys(&terminal, key);
            terminal.is_given_back(key);
        }
        for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
            let pid = terminal.top();
            kill_process(pid, signal).expect("it runs");
            terminal.is_given_back(&format!("{signal:?}"));
        }
    });
}

#[test]
fn it_ends_with_its_terminal() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        let terminal = Terminal::open(&scene);
        let pid = terminal.top();
        terminal.server.signal(Signal::KILL);
        let process = format!("/proc/{}", pid.as_raw_nonzero());
        until("it has ended", || {
            // A process that nobody has waited for yet has ended, too.
            let state = fs::read_to_string(format!("{process}/stat"));
            state.map_or(true, |state| state.contains(") Z "))
        });
    });
}

/// What it shows comes from the agent, which hears all the while; one that is started again, or that comes later, has the kernel again.
#[test]
fn an_agent_hands_on_to_it_whenever_it_comes() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let scene = applied(sandbox);
        let terminal = Terminal::open(&scene);
        terminal.top();
        terminal.shows_while(SCANNER, || knock(&scene));
        // Each of them is asked for something that nobody can tell who is not told by the kernel.
        let mut hears = |terminal: &Terminal<'_>, number: usize| {
            let source = format!("198.18.0.{}", number + 1);
            let frame = scene.frame("eth0", &source).udp(5060).payload(INVITE);
            let knock = || scene.wire("eth0").send(&frame.bytes());
            keys(terminal, "/");
            keys(terminal, &source);
            keys(terminal, "Enter");
            terminal.shows_while("INVITE  +442079460123 (GB)", knock);
            keys(terminal, "Escape");
            until("the agent hears", || {
                knock();
                journal.read();
                journal.of("scan_tried").len() > number
            });
        };
        let agent = Agent::start(&scene.gateway);
        hears(&terminal, 0);
        agent.process.signal(Signal::KILL);
        agent.process.wait();
        let agent = Agent::start(&scene.gateway);
        hears(&terminal, 1);
        agent.process.stop().succeeded();
        keys(&terminal, "q");
        terminal.is_given_back("q");
    });
}

#[test]
fn without_a_terminal_or_a_filter_it_says_what_to_do() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(CONFIG);
        let said = scene.sipguard(["top"]).exited(1).stderr;
        assert_eq!(
            said,
            "sipguard: top is a screen, and needs a terminal; `sipguard events` prints what it shows, and `sipguard events --json` for programs\n"
        );
        let terminal = Terminal::open(&scene);
        terminal.enter(&format!("{} top", sipguard().display()));
        terminal.shows("nothing is in force: `sipguard apply` puts");
        // What comes in force meanwhile goes, and is seen to.
        scene.sipguard(["apply"]).succeeded();
        terminal.top();
        scene.sipguard(["down"]).succeeded();
        terminal.shows("NOTHING IS IN FORCE");
        scene.sipguard(["apply"]).succeeded();
        terminal.shows_while(SCANNER, || knock(&scene));
        keys(&terminal, "q");
        terminal.is_given_back("q");
    });
}
