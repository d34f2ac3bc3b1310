//! `sipguard events`.
//!
//! JSON, one object a line and event:
//! ```json
//! {"time":"2026-03-01T12:00:00.123456789Z","interface":"eth0","service":"sip","reason":"unlisted","action":"drop","enforced":true,
//!  "source":"198.51.100.7","source_port":5071,"destination":"192.0.2.1","port":5060,"protocol":"udp","length":412,"left_out":0,
//!  "sip":{"method":"INVITE","status":null,"user":"00442079460123","from":"100","user_agent":"friendly-scanner","call_id":"1",
//!         "number":"+442079460123","country":"GB","high_risk":false}}
//! ```
//! An event is a sample: a source is told of once a second. `left_out` is how many packets were not told of since the event before from the same
//! processor, though they were to be: the sum of both is what the counters say. As long as anybody listens with `--allowed`, those that passed to
//! guarded ports are among them, for all who listen. `action` is what the policy says; where it is `drop` and
//! `enforced` is false, the packet came in monitor mode and passed. What is not in the packet, or not in what is kept of it, is null: `service`
//! where none judged it, addresses where it has no IP header, ports of fragments, `sip` where it is no SIP. Texts of `sip` are a stranger's: all
//! but letters, digits, spaces and `.,:;_@+/-` is escaped as `\u{..}`, and 64 characters are shown.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    time::Duration,
};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sipguard::{
    capture::{Begins, Frame, Writer},
    events::{Event, Source, Wanted},
    lifecycle,
    policy::protocol_name,
    sip::Summary,
};
use sipguard_ebpf::{abi::Action, event::BYTES_MOST};
use sipguard_lists::said::Said;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{Context, needs_root, write_json};
use crate::{
    cli::Events,
    output::{Palette, count, local},
};

/// How often events are fetched.
const EVERY: Duration = Duration::from_millis(100);

pub(super) fn run(events: &Events, context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    // Nobody waits for what can't come.
    if let Some(service) = &events.service
        && let Some(live) = lifecycle::live(&context.host)?
    {
        lifecycle::service(&live.generation.description, service)?;
    }
    let mut source = Source::open(&context.host, wanted(events))?;
    let mut shown = Shown {
        events,
        context,
        output: Output::open(events, context, out)?,
        count: 0,
    };
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(follow(&mut source, &mut shown))?;
    let lost = source.lost();
    if lost > 0 {
        context.warn(&format!(
            "{} came too fast to be read; what they stood for is in the counters",
            count(
                usize::try_from(lost).unwrap_or(usize::MAX),
                "event",
                "events"
            )
        ));
    }
    Ok(())
}

fn wanted(events: &Events) -> Wanted {
    let passes = events
        .reason
        .is_some_and(|reason| reason.action() == Action::Pass);
    Wanted {
        passes: events.allowed || passes,
        bytes: BYTES_MOST,
    }
}

/// Until somebody ends it, nobody reads what it writes, or enough was shown.
async fn follow(source: &mut Source, shown: &mut Shown<'_, '_>) -> Result<()> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
        }
        let mut wrong = None;
        source.read(|event| {
            if wrong.is_none() && !shown.is_done() {
                wrong = shown.show(&event).err();
            }
        })?;
        if let Some(error) = wrong {
            return Err(error);
        }
        shown.output.flush()?;
        if shown.is_done() || nobody_reads() {
            return Ok(());
        }
    }
}

/// Whether standard output is a pipe whose other end was closed: without an event there would be nothing to notice it by.
fn nobody_reads() -> bool {
    let out = io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let now = Timespec::default();
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::ERR)
}

/// What is shown, and what has been.
struct Shown<'e, 'o> {
    events: &'e Events,
    context: &'e Context,
    output: Output<'o>,
    count: u64,
}

impl Shown<'_, '_> {
    fn is_done(&self) -> bool {
        self.events.count == Some(self.count)
    }

    fn show(&mut self, event: &Event) -> Result<()> {
        if !self.matches(event) {
            return Ok(());
        }
        self.count += 1;
        self.output.write(event, self.context)
    }

    fn matches(&self, event: &Event) -> bool {
        let Events {
            source,
            service,
            reason,
            ..
        } = self.events;
        let source = source.as_ref().is_none_or(|wanted| {
            let from = event.source.map(ipnet::IpNet::from);
            from.is_some_and(|from| wanted.touch(from))
        });
        source
            && (service.is_none() || event.service == *service)
            && reason.is_none_or(|reason| event.reason == reason)
            && wanted(self.events).takes(event)
    }
}

/// Where it goes.
enum Output<'o> {
    Lines(&'o mut dyn Write),
    Capture(&'o Path, Writer<Box<dyn Write + 'o>>),
}

impl<'o> Output<'o> {
    fn open(events: &'o Events, context: &Context, out: &'o mut dyn Write) -> Result<Self> {
        let Some(path) = &events.pcap else {
            return Ok(Self::Lines(out));
        };
        let capture = if path == Path::new("-") {
            anyhow::ensure!(
                !context.terminal,
                "a capture is nothing to look at: name a file, or hand it on, as in `sipguard events --pcap - | tcpdump -r -`"
            );
            Box::new(out) as Box<dyn Write + 'o>
        } else {
            let file = File::create(path).map_err(|error| cannot_write(path, error))?;
            Box::new(BufWriter::new(file))
        };
        let begun = Writer::new(capture).and_then(|mut capture| {
            capture.flush()?;
            Ok(capture)
        });
        let capture = begun.map_err(|error| cannot_write(path, error))?;
        Ok(Self::Capture(path, capture))
    }

    fn write(&mut self, event: &Event, context: &Context) -> Result<()> {
        match self {
            Self::Capture(path, capture) => {
                // Where there was no Ethernet header there is one by now.
                let frame = Frame {
                    begins: Begins::Ethernet,
                    bytes: &event.bytes,
                };
                let length = event.length as usize;
                let added = capture.add(Some(event.time), &frame, length, &comment(event));
                added.map_err(|error| cannot_write(path, error))
            }
            Self::Lines(out) if context.json => write_json(out, &said(event)),
            Self::Lines(out) => Ok(writeln!(out, "{}", line(event, context.palette))?),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Lines(out) => Ok(out.flush()?),
            Self::Capture(path, capture) => {
                let flushed = capture.flush();
                flushed.map_err(|error| cannot_write(path, error))
            }
        }
    }
}

/// Names the file; what goes to standard output has no name, and where nobody reads that any more, nothing is wrong.
fn cannot_write(path: &Path, error: io::Error) -> anyhow::Error {
    if path == Path::new("-") {
        return error.into();
    }
    anyhow::Error::from(error).context(format!("cannot write {}", path.display()))
}

/// Of a packet in a capture.
fn comment(event: &Event) -> String {
    format!(
        "interface {} reason {} service {}",
        Said(&event.interface),
        event.reason.name(),
        Said(event.service.as_deref().unwrap_or("-")),
    )
}

/// With all that a stranger says as it is printed.
fn said(event: &Event) -> Event {
    let text = |text: &Option<String>| text.as_deref().map(|text| Said(text).to_string());
    Event {
        sip: event.sip.as_ref().map(|sip| Summary {
            method: text(&sip.method),
            user: text(&sip.user),
            from: text(&sip.from),
            user_agent: text(&sip.user_agent),
            call_id: text(&sip.call_id),
            number: text(&sip.number),
            country: text(&sip.country),
            ..*sip
        }),
        bytes: Vec::new(),
        interface: event.interface.clone(),
        service: event.service.clone(),
        ..*event
    }
}

/// For people.
fn line(event: &Event, palette: Palette) -> String {
    let Palette { good, bad, dim, .. } = palette;
    let (style, action) = match (event.action, event.enforced) {
        (Action::Pass, _) => (good, "pass"),
        (Action::Drop, true) => (bad, "drop"),
        (Action::Drop, false) => (bad, "would drop"),
    };
    let mut line = format!(
        "{dim}{}{dim:#} {} {style}{action} {}{style:#}",
        local(event.time),
        Said(&event.interface),
        event.reason.name(),
    );
    let mut add = |text: &str| {
        line.push(' ');
        line.push_str(text);
    };
    if let Some(service) = &event.service {
        add(service);
    }
    match (event.source, event.source_port) {
        (Some(source), Some(port)) => add(&std::net::SocketAddr::new(source, port).to_string()),
        (Some(source), None) => add(&source.to_string()),
        (None, _) => {}
    }
    if let (Some(protocol), Some(port)) = (event.protocol, event.port) {
        add(&format!("to {}/{port}", protocol_name(protocol)));
    }
    if let Some(sip) = &event.sip {
        add(&told(sip));
    }
    if event.left_out > 0 {
        add(&format!("{dim}({} left out){dim:#}", event.left_out));
    }
    line
}

/// What SIP says.
fn told(sip: &Summary) -> String {
    let mut words = Vec::new();
    if let Some(method) = &sip.method {
        words.push(Said(method).to_string());
    }
    if let Some(status) = sip.status {
        words.push(status.to_string());
    }
    for (name, text) in [
        ("to", &sip.user),
        ("from", &sip.from),
        ("number", &sip.number),
        ("country", &sip.country),
        ("agent", &sip.user_agent),
        ("call", &sip.call_id),
    ] {
        if let Some(text) = text {
            words.push(format!("{name} \"{}\"", Said(text)));
        }
    }
    if sip.high_risk {
        words.push("high-risk".to_owned());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use sipguard_ebpf::abi::{Protocol, Reason};

    use super::*;

    #[test]
    fn the_manual_shows_a_line_as_it_is() {
        let event = Event {
            time: Timestamp::UNIX_EPOCH,
            interface: "eth0".to_owned(),
            service: Some("sip".to_owned()),
            reason: Reason::Unlisted,
            action: Action::Drop,
            enforced: true,
            source: Some([198, 51, 100, 7].into()),
            source_port: Some(5071),
            destination: Some([192, 0, 2, 1].into()),
            port: Some(5060),
            protocol: Some(Protocol::Udp),
            length: 412,
            left_out: 0,
            sip: sipguard::sip::read(
                b"INVITE sip:900442079460123@192.0.2.1 SIP/2.0\r\nUser-Agent: friendly-scanner\r\n\r\n",
            ),
            bytes: Vec::new(),
        };
        let line = line(&event, Palette::default());
        let (_, behind_the_time) = line.split_once(" eth0").expect("it is there");
        let manual = include_str!("../../docs/commands.md");
        assert!(manual.contains(behind_the_time), "{line}");
    }
}
