//! Notices, from what happened to real servers that take them.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Command,
    thread,
};

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::{Value, json};
use sipguard::agent::{
    FOLDER,
    happened::{Happened, Moved, Tie},
    notices::Notices,
};
use sipguard_lists::{
    notice::Delivery,
    notify::{Address, Mail, Notify, Smtp, Webhook},
    task::{Tasks, User},
};
use sipguard_tests::{
    certificates::certify,
    fetcher::{Fetcher, SERVER, gateway_and_server},
    installed::Installed,
    netns::{Finished, Host, Process, SCRATCH, STATE, Sandbox, sandbox, sipguard_fetch, until},
    nginx::nginx,
    posted::Posted,
    scene::Scene,
};
use tempfile::TempDir;

/// A mail server's part in Python that lets in who knows the password.
const STRICT: &str = "handler.Handler";
/// What a stranger may write into a SIP message, to be shown somewhere.
const HOSTILE: &str = "x\r\nSubject: all is well\u{1b}[2J\u{202e}<!channel> <b>&amp;\"'`{{";

/// A gateway with the fetcher and an agent's spool, and a host that takes notices.
struct World {
    gateway: Host,
    server: Host,
    files: TempDir,
    fetcher: Fetcher,
    notify: Notify,
    notices: Notices,
}

impl World {
    fn new(sandbox: &Sandbox) -> Self {
        let (gateway, server) = gateway_and_server(sandbox);
        let files = TempDir::new().expect("a temporary folder");
        certify(files.path(), SERVER);
        Self {
            gateway,
            server,
            files,
            fetcher: Fetcher::new(),
            notify: Notify {
                webhook: None,
                mail: None,
            },
            notices: Notices::begin(Path::new(STATE), Path::new(FOLDER), Timestamp::now()),
        }
    }

    fn webhook(&mut self) {
        self.notify.webhook = Some(Webhook {
            address: Address::Url(format!("https://{SERVER}/hook")),
            insecure: false,
            ca_file: Some(self.files.path().join("ca.pem")),
        });
    }

    fn mail(&mut self, port: u16, implicit_tls: bool) {
        let key = self.files.path().join("password");
        fs::write(&key, "secret\n").expect("a folder of ours");
        self.notify.mail = Some(Mail {
            to: vec![
                "noc@example.com".to_owned(),
                "second@example.com".to_owned(),
            ],
            from: "sipguard@gw1.example".to_owned(),
            smtp: Smtp {
                host: SERVER.to_owned(),
                port,
                implicit_tls,
            },
            // This mail server offers nobody to log in where TLS was there from the beginning.
            user: (!implicit_tls).then(|| User {
                name: "gw1".to_owned(),
                password_file: key,
            }),
            insecure: false,
            ca_file: Some(self.files.path().join("ca.pem")),
        });
    }

    fn tasks(&self) -> Tasks {
        Tasks {
            notify: Some(self.notify.clone()),
            ..Tasks::none()
        }
    }

    fn service(&self) -> Process {
        self.fetcher.order(&self.tasks());
        self.fetcher.service(&self.gateway)
    }

    /// Sends a notice to see whether it arrives, and what is said of each receiver.
    fn test(&self) -> (Finished, Vec<Value>) {
        self.fetcher.order(&self.tasks());
        let finished = self
            .gateway
            .run(Command::new(sipguard_fetch()).arg("--test-notice"));
        let said = finished
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect("it is JSON"));
        let said = said.collect();
        (finished, said)
    }

    /// Wants it to fail so.
    fn fails(&self, wanted: &str) {
        let (finished, said) = self.test();
        finished.exited(1);
        let error = said[0]["error"].as_str().unwrap_or_default();
        assert!(error.contains(wanted), "{said:?}\n{wanted}");
    }

    fn happens(&mut self, address: Ipv4Addr) {
        let moved = Happened::ProviderMoved(Moved {
            provider: HOSTILE.to_owned(),
            address: address.into(),
            others: 0,
            service: "sip".to_owned(),
            method: Some(HOSTILE.to_owned()),
            since: Timestamp::now(),
            tie: Tie::Neighbour {
                of: "198.51.100.0/24".parse().expect("a prefix"),
            },
        });
        let written = self.notices.add(&[moved], Timestamp::now());
        written.expect("there is room");
    }

    /// A web server with TLS, in front of one that remembers.
    fn web_server(&self) -> (Process, Posted) {
        let posted = Posted::on(&self.server);
        let server = nginx(&self.server, self.files.path(), Posted::BEHIND);
        (server, posted)
    }

    /// A mail server; what [`STRICT`] is one wants to know who sends.
    fn mail_server(&self, port: u16, handler: &str, tls: &[&str]) -> Process {
        const HANDLER: &str = "import base64\n\
            from aiosmtpd.handlers import Mailbox\n\
            from aiosmtpd.smtp import AuthResult\n\
            class Handler(Mailbox):\n    \
                async def auth_PLAIN(self, server, args):\n        \
                    said = base64.b64decode(args[1]).split(b'\\0')\n        \
                    return AuthResult(success=said[1:] == [b'gw1', b'secret'], handled=False, auth_data='gw1')\n    \
                async def handle_MAIL(self, server, session, envelope, address, options):\n        \
                    if not session.authenticated:\n            \
                        return '530 5.7.0 log in first'\n        \
                    envelope.mail_from = address\n        \
                    return '250 OK'\n";
        let folder = self.files.path();
        fs::write(folder.join("handler.py"), HANDLER).expect("a folder of ours");
        let mut command = Command::new("aiosmtpd");
        command
            .env("PYTHONPATH", folder)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(folder);
        command.args([
            "--nosetuid",
            "--class",
            handler,
            "--listen",
            &format!("{SERVER}:{port}"),
        ]);
        let server = self
            .server
            .spawn(command.args(tls).arg(folder.join("mail")));
        self.server.wait_until_bound("tcp", port);
        server
    }

    fn mails(&self) -> Vec<String> {
        let Ok(files) = fs::read_dir(self.files.path().join("mail/new")) else {
            return Vec::new();
        };
        let read =
            files.map(|file| fs::read_to_string(file.expect("readable").path()).expect("a mail"));
        read.collect()
    }
}

/// How far a receiver is, as the fetcher says.
fn delivery(receiver: &str) -> Option<Delivery> {
    let folder = Path::new(SCRATCH).join("sipguard-fetch/notices");
    let file = fs::File::open(folder.join(Delivery::file_name(receiver))).ok()?;
    Some(Delivery::read(file).expect("it is whole at every moment"))
}

#[test]
fn a_web_server_gets_each_notice_once_and_those_that_come_together_as_one() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        world.webhook();
        let (_nginx, posted) = world.web_server();
        let service = world.service();
        world.happens([198, 51, 100, 9].into());
        let bodies = posted.wait_for(1);
        let [body] = &bodies[..] else {
            unreachable!("one was wanted")
        };
        let text = body["text"].as_str().expect("a text");
        assert!(
            text.contains("198.51.100.9") && text.contains("sipguard allow 198.51.100.9"),
            "{text}"
        );
        let all = body.to_string();
        assert!(
            !all.contains("<b>")
                && !all.contains("<!")
                && !all.contains("\\u001b")
                && !all.contains("\\r"),
            "{all}"
        );
        let notice = &body["notices"][0];
        assert_eq!(
            (&notice["kind"], &notice["severity"]),
            (&json!("provider_moved"), &json!("error"))
        );
        assert_eq!(notice["fields"]["address"], "198.51.100.9");
        assert_eq!(
            (&body["id"], &body["count"], &body["lost"]),
            (&notice["id"], &json!(1), &json!(0))
        );

        // What comes behind it waits for its time, and a restart changes nothing of that.
        world.happens([198, 51, 100, 10].into());
        world.happens([198, 51, 100, 11].into());
        until("it is written how far it is", || {
            delivery("webhook").is_some_and(|it| it.sent == 1)
        });
        service.signal(Signal::KILL);
        service.wait();
        let mut known = delivery("webhook").expect("it was there");
        // Ten minutes later.
        for sent in known.kinds.values_mut() {
            sent.time -= SignedDuration::from_mins(10);
        }
        let file = Path::new(SCRATCH).join("sipguard-fetch/notices/webhook.json");
        fs::write(file, serde_json::to_vec(&known).expect("it is JSON"))
            .expect("the folder is there");
        let _service = world.service();
        let bodies = posted.wait_for(2);
        assert_eq!(bodies[1]["count"], 2, "{bodies:?}");
        let ids: Vec<_> = bodies
            .iter()
            .flat_map(|body| body["notices"].as_array().expect("a list"))
            .map(|it| it["id"].to_string())
            .collect();
        assert_eq!(ids.len(), 3);
        assert!(
            ids.iter()
                .enumerate()
                .all(|(place, id)| !ids[..place].contains(id)),
            "{ids:?}"
        );
        until("it is written how far it is", || {
            delivery("webhook").is_some_and(|it| it.sent == 3)
        });

        // Somebody takes the filter off, and with it what is to be done: that is told.
        fs::remove_file(Path::new(STATE).join("tasks.json")).expect("it was there");
        world
            .notices
            .add(&[Happened::NothingInForce], Timestamp::now())
            .expect("there is room");
        assert_eq!(posted.wait_for(3)[2]["kind"], "nothing_in_force");
    });
}

#[test]
fn what_a_receiver_does_not_take_is_sent_again() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        world.webhook();
        // One that takes connections, and says nothing: it holds nobody up.
        let silent = world
            .server
            .enter(|| TcpListener::bind((SERVER, 587)).expect("a port that is free"));
        world.mail(587, false);
        let (_nginx, posted) = world.web_server();
        posted.answers("500 Internal Server Error");
        let service = world.service();
        world.happens([198, 51, 100, 9].into());
        until("it fails", || {
            delivery("webhook").is_some_and(|it| it.failing.is_some())
        });
        let failed = delivery("webhook").expect("it was there");
        assert_eq!(failed.error.as_deref(), Some("the server answers 500"));
        assert_eq!((failed.sent, failed.lost), (0, 0));
        posted.answers(Posted::TAKEN);
        let bodies = posted.wait_for(1);
        assert_eq!(bodies[0]["count"], 1);
        until("it is well again", || {
            delivery("webhook").is_some_and(|it| it.failing.is_none() && it.sent == 1)
        });
        service.wait_for_error("webhook: the server answers 500");
        service.wait_for_error("webhook: takes notices again");
        drop(silent);
    });
}

#[test]
fn what_keeps_a_web_server_from_getting_notices_is_said() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        world.webhook();
        world.fails("refused");
        let (_nginx, posted) = world.web_server();
        let (finished, said) = world.test();
        finished.succeeded();
        assert_eq!(said, [json!({ "receiver": "webhook", "error": null })]);
        assert_eq!(posted.wait_for(1)[0]["kind"], "test");
        posted.answers("302 Found");
        world.fails("the server answers 302: it leads elsewhere");
        posted.answers("410 Gone");
        world.fails("the server answers 410");
        let hook = world.notify.webhook.as_mut().expect("it is there");
        hook.ca_file = Some(world.files.path().join("another.pem"));
        world.fails("certificate");
        // The URL may be in a file, which is looked at each time; nobody on the way is to see what is sent.
        let file = world.files.path().join("hook");
        let hook = world.notify.webhook.as_mut().expect("it is there");
        hook.ca_file = Some(world.files.path().join("ca.pem"));
        hook.address = Address::UrlFile(file.clone());
        world.fails("cannot read");
        fs::write(&file, format!("http://{SERVER}/hook\n")).expect("a folder of ours");
        world.fails("insecure allows that");
        fs::write(&file, format!("https://{SERVER}/hook\n")).expect("a folder of ours");
        posted.answers(Posted::TAKEN);
        world.test().0.succeeded();
        posted.wait_for(2);
    });
}

#[test]
fn mail_goes_by_tls_to_who_knows_the_password() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        let file = |world: &World, name: &str| world.files.path().join(name).display().to_string();
        let (certificate, key) = (file(&world, "server.pem"), file(&world, "server.key"));
        let _starttls =
            world.mail_server(587, STRICT, &["--tlscert", &certificate, "--tlskey", &key]);
        let _smtps = world.mail_server(
            465,
            "aiosmtpd.handlers.Mailbox",
            &["--smtpscert", &certificate, "--smtpskey", &key],
        );
        let _plain = world.mail_server(25, STRICT, &[]);
        for (port, implicit_tls) in [(587, false), (465, true)] {
            world.mail(port, implicit_tls);
            let before = world.mails().len();
            world.test().0.succeeded();
            assert_eq!(world.mails().len(), before + 1);
        }
        let mails = world.mails();
        for mail in &mails {
            for line in [
                "From: sipguard@gw1.example",
                "To: noc@example.com, second@example.com",
                "Auto-Submitted: auto-generated",
            ] {
                assert!(mail.lines().any(|it| it == line), "{line}\n{mail}");
            }
            assert!(
                mail.contains("\nMessage-ID: <test-") && mail.contains("this is a test"),
                "{mail}"
            );
        }

        // What keeps it from being sent.
        world.mail(25, false);
        world.fails("192.0.2.53 has no STARTTLS");
        world.mail(587, false);
        let password = world.files.path().join("password");
        fs::write(&password, "guessed\n").expect("a folder of ours");
        world.fails("535");
        for (port, implicit_tls) in [(587, false), (465, true)] {
            world.mail(port, implicit_tls);
            let mail = world.notify.mail.as_mut().expect("it is there");
            mail.ca_file = Some(world.files.path().join("another.pem"));
            world.fails("certificate");
        }
        assert_eq!(world.mails().len(), mails.len());

        // Strangers' words change nothing of the mail that they are in.
        world.mail(587, false);
        let _service = world.service();
        world.happens([198, 51, 100, 9].into());
        until("it is there", || world.mails().len() == mails.len() + 1);
        let new: Vec<_> = world
            .mails()
            .into_iter()
            .filter(|mail| !mails.contains(mail))
            .collect();
        let [mail] = &new[..] else { panic!("{new:?}") };
        let subjects = mail.lines().filter(|line| line.starts_with("Subject:"));
        assert_eq!(subjects.count(), 1, "{mail}");
        assert!(
            mail.chars()
                .all(|it| it == '\n' || (' '..='~').contains(&it)),
            "{mail}"
        );
        assert!(!mail.contains("<b>"), "{mail}");
    });
}

#[test]
fn a_mail_server_that_says_too_much_is_left() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        world.mail(587, false);
        let listener = world
            .server
            .enter(|| TcpListener::bind((SERVER, 587)).expect("a port that is free"));
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody connects");
            // Until it is left.
            while stream.write_all(&[b'2'; 1 << 10]).is_ok() {}
        });
        world.fails("192.0.2.53");
        server.join().expect("it was left");
    });
}

#[test]
fn who_wants_notices_is_in_the_config_and_notify_tells_how_he_fares() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let installed = Installed::new();
        let policy = "interfaces = [\"eth0\"]\n[services.sip]\nudp = [5060]\n";
        scene.configure(policy);
        installed.run(&scene, "apply").succeeded();
        let nobody = installed.run(&scene, "notify --test").exited(1);
        assert!(
            nobody
                .stderr
                .contains("nobody wants notices: write webhook or mail below [notify]"),
            "{}",
            nobody.stderr
        );

        let posted = Posted::on(&scene.gateway);
        scene.configure(&format!(
            "{policy}[notify]\nwebhook = \"http://127.0.0.1:8080/\"\n\
             mail = {{ to = \"noc@example.com\", from = \"sipguard@gw1.example\", smtp = \"smtp://127.0.0.1:2525\" }}\n"
        ));
        installed.run(&scene, "apply").succeeded();
        let tested = installed.run(&scene, "notify --test").exited(1);
        assert_eq!(tested.stdout, "webhook: it has been taken\n");
        assert!(
            tested
                .stderr
                .contains("mail: 127.0.0.1: Connection refused"),
            "{}",
            tested.stderr
        );
        let tested = installed.run(&scene, "notify --test --json").exited(1);
        let tested: Vec<Value> = tested
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect("it is JSON"))
            .collect();
        assert_eq!(
            tested[0],
            json!({ "receiver": "webhook", "arrived": true, "error": null })
        );
        assert_eq!(
            (&tested[1]["receiver"], &tested[1]["arrived"]),
            (&json!("mail"), &json!(false))
        );
        posted.wait_for(2);

        // What was sent and what waits, as the fetcher says.
        let mut notices = Notices::begin(Path::new(STATE), Path::new(FOLDER), Timestamp::now());
        notices
            .add(&[Happened::NothingInForce], Timestamp::now())
            .expect("there is room");
        let receivers = |line: &str| -> Vec<Value> {
            let said = installed.run(&scene, line).succeeded().stdout;
            said.lines()
                .map(|line| serde_json::from_str(line).expect("it is JSON"))
                .collect()
        };
        let told = receivers("notify --json");
        assert_eq!(
            told[0],
            json!({ "receiver": "webhook", "sent": 0, "waiting": 1, "lost": 0, "tried": null, "failing": null, "error": null })
        );
        let _service = scene
            .gateway
            .spawn(Command::new(sipguard_fetch()).arg("--loop"));
        posted.wait_for(3);
        until("it is told", || receivers("notify --json")[0]["sent"] == 1);
        until("the other one fails", || {
            receivers("notify --json")[1]["failing"].is_string()
        });
        let status = &receivers("status --json")[0];
        assert_eq!(status["receivers"].as_array().map(Vec::len), Some(2));
        let people = installed.run(&scene, "notify").succeeded().stdout;
        assert!(people.contains("127.0.0.1: Connection refused"), "{people}");

        scene.configure(policy);
        installed.run(&scene, "apply").succeeded();
        assert!(!Path::new(STATE).join("tasks.json").exists());
    });
}
