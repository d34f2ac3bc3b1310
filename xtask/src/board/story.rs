//! Five minutes of a gateway's life: its provider calls, a scanner and a bad neighbourhood knock, a flood comes and goes, a feed grows, and a service only counts.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, mount};

use super::{
    built,
    prometheus::{EXPORTER, Prometheus, Series},
};
use crate::netns::{End, Host, SCRATCH, Sandbox, join};

/// How long it takes, seconds.
const LASTS: u64 = 300;
/// When the feed has grown.
const GROWS: u64 = 170;
const FEED: u16 = 8_000;
/// Where the agent writes metrics.
const METRICS: &str = "/run/sipguard/metrics.prom";
const GATEWAY: &str = "192.0.2.1";
/// How often somebody sends what is due.
const TURN: Duration = Duration::from_millis(100);

const CONFIG: &str = r#"
interfaces = ["eth0"]
[sources]
provider = ["203.0.113.5"]
feed = { url = "http://127.0.0.1:8000/list.txt" }
[services.sip]
udp = [5060]
allow = ["provider"]
deny = ["feed"]
[services.web]
udp = [443]
mode = "monitor"
allow = ["provider"]
"#;

/// Who sends what: packets a second at a time of the story, in seconds.
struct Actor {
    source: Ipv4Addr,
    port: u16,
    words: &'static str,
    rate: fn(f64) -> f64,
}

const ACTORS: [Actor; 5] = [
    Actor {
        source: Ipv4Addr::new(203, 0, 113, 5),
        port: 5060,
        words: "INVITE sip:100@192.0.2.1 SIP/2.0\r\nFrom: <sip:provider@203.0.113.5>\r\n\r\n",
        rate: |time| 60.0 + 25.0 * (time / 40.0).sin(),
    },
    Actor {
        source: Ipv4Addr::new(198, 51, 100, 7),
        port: 5060,
        words: "OPTIONS sip:100@192.0.2.1 SIP/2.0\r\nUser-Agent: friendly-scanner\r\n\r\n",
        rate: |time| {
            if (30.0..270.0).contains(&time) {
                20.0
            } else {
                0.0
            }
        },
    },
    // The first of the feed's.
    Actor {
        source: Ipv4Addr::new(198, 18, 0, 0),
        port: 5060,
        words: "REGISTER sip:192.0.2.1 SIP/2.0\r\n\r\n",
        rate: |time| {
            if time > 60.0 {
                12.0 + 6.0 * (time / 15.0).cos()
            } else {
                0.0
            }
        },
    },
    Actor {
        source: Ipv4Addr::new(198, 51, 100, 99),
        port: 5060,
        words: "flood",
        rate: |time| {
            if (120.0..180.0).contains(&time) {
                150.0
            } else {
                0.0
            }
        },
    },
    Actor {
        source: Ipv4Addr::new(198, 51, 100, 80),
        port: 443,
        words: "hello",
        rate: |time| {
            if time > 45.0 {
                4.0 + 3.0 * (time / 25.0).sin()
            } else {
                0.0
            }
        },
    },
];

/// Lets all of it happen, and then asks Prometheus for what it knows of each expression.
pub(super) fn tell<T>(
    sandbox: &Sandbox,
    then: impl FnOnce(&dyn Fn(&str) -> Result<Vec<Series>>) -> Result<T>,
) -> Result<T> {
    // What the agent of this machine writes is none of ours.
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", "/run", "tmpfs", flags, None).context("mounting /run")?;
    let (gateway, outside) = (sandbox.host(), sandbox.host());
    let ends = [&gateway, &outside].map(|host| End {
        host,
        interface: "eth0",
        addresses: &[],
    });
    let [gateway_end, outside_end] = ends;
    join(gateway_end, outside_end);
    gateway.ip(&format!("address add {GATEWAY}/24 dev eth0"));
    gateway.ip("route add default dev eth0");
    outside.ip("address add 192.0.2.2/24 dev eth0");
    for actor in &ACTORS {
        outside.ip(&format!("address add {}/32 dev eth0", actor.source));
    }
    let folder = Path::new(SCRATCH);
    let list = folder.join("list.txt");
    write_feed(&list, 600)?;
    serve(&gateway, FEED, list.clone())?;
    serve(&gateway, EXPORTER, METRICS.into())?;
    fs::create_dir(folder.join("sipguard-fetch"))?;

    let config = folder.join("sipguard.toml");
    fs::write(&config, CONFIG)?;
    let sipguard = |word: &str| {
        let mut command = Command::new(built("sipguard"));
        command
            .arg("--quiet")
            .arg("--config")
            .arg(&config)
            .arg(word);
        command
    };
    let applied = gateway.run(sipguard("apply").arg("--offline"));
    ensure!(applied.status.success(), "{}", applied.stderr);
    fetch(&gateway)?;
    // Without these, the gateway would answer that nobody is there.
    let _sockets = gateway.enter(|| [5060, 443].map(|port| UdpSocket::bind((GATEWAY, port))));
    let _agent = gateway.spawn(&mut sipguard("agent"));
    let prometheus = Prometheus::start(&gateway)?;
    let begin = now();
    eprintln!("this takes {LASTS} s");
    thread::scope(|scope| {
        let acting: Vec<_> = ACTORS
            .iter()
            .map(|actor| scope.spawn(|| outside.enter(|| act(actor))))
            .collect();
        thread::sleep(Duration::from_secs(GROWS));
        write_feed(&list, 840)?;
        fetch(&gateway)?;
        for actor in acting {
            let acted = actor.join();
            acted.unwrap_or_else(|_| Err(anyhow::anyhow!("somebody stopped sending")))?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    let end = now();
    then(&|expression| prometheus.ask(expression, begin, end))
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn act(actor: &Actor) -> Result<()> {
    let socket = UdpSocket::bind((actor.source, 0))?;
    let began = Instant::now();
    let mut due = 0.0;
    while began.elapsed() < Duration::from_secs(LASTS) {
        due += (actor.rate)(began.elapsed().as_secs_f64()) * TURN.as_secs_f64();
        while due >= 1.0 {
            // A link that has just come up may not carry it yet.
            let _ = socket.send_to(actor.words.as_bytes(), (GATEWAY, actor.port));
            due -= 1.0;
        }
        thread::sleep(TURN);
    }
    Ok(())
}

fn write_feed(file: &Path, entries: u32) -> Result<()> {
    let first = Ipv4Addr::new(198, 18, 0, 0).to_bits();
    let lines = (first..first + entries).map(|bits| format!("{}\n", Ipv4Addr::from_bits(bits)));
    Ok(fs::write(file, lines.collect::<String>())?)
}

/// What the fetcher's service does when a source is due.
fn fetch(gateway: &Host) -> Result<()> {
    let fetched = gateway.run(&mut Command::new(built("sipguard-fetch")));
    ensure!(fetched.status.success(), "{}", fetched.stdout);
    Ok(())
}

/// A web server that has one file, as it is at that moment.
fn serve(host: &Host, port: u16, file: PathBuf) -> Result<()> {
    let listener = host.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The request is short, and whoever hangs up does not want an answer.
            let _ = stream.read(&mut [0; 4_096]);
            let body = fs::read(&file).unwrap_or_default();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        }
    });
    Ok(())
}
