//! `--explain`: one packet of a capture, layer by layer as the filter's own parser reads it, the verdict and what it comes from, and what
//! Linux would do.
//!
//! JSON:
//! ```json
//! {"n":1,"time":"2026-03-01T12:00:00Z","length":415,"captured":415,"direction":null,"layers":[{"at":0,"name":"Ethernet","says":"EtherType 0x0800"}],
//! "action":"drop","reason":"unlisted","service":"sip","entry":null,"linux":"handed to whoever has UDP port 5060 of 192.0.2.1 open"}
//! ```
//! `layers` are in the order in which they are read; `at` counts bytes from the beginning of the frame. `action` to `entry` are as in `check`,
//! and null, but for `"left_out"` in words, where the packet can't be judged. `enforced` is added as there.

mod layers;
mod linux;

use std::io::Write;

use anyhow::{Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use sipguard::{
    capture::{Direction, Packet, Time},
    report::EntryReport,
};
use sipguard_ebpf::abi::Reason;

use self::layers::Layer;
use super::{
    super::{Context, write_json},
    Input,
    fate::{Judge, Meaning, words},
};
use crate::output;

#[derive(Serialize)]
struct Explained<'a> {
    n: u64,
    time: Option<Timestamp>,
    /// In bytes.
    length: u32,
    captured: u32,
    direction: Option<&'static str>,
    layers: Vec<Layer>,
    action: Option<&'static str>,
    reason: Option<&'static str>,
    service: Option<&'a str>,
    entry: Option<EntryReport<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enforced: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<String>,
    linux: Option<String>,
    #[serde(skip)]
    why: String,
}

/// The packet was found: nothing behind it is read.
#[derive(Debug, thiserror::Error)]
#[error("found")]
struct Found;

pub(super) fn run(
    number: u64,
    judge: &mut Judge,
    input: &mut Input,
    context: &Context,
    out: &mut dyn Write,
) -> Result<()> {
    let mut last = 0;
    let end = input.read(context, |packet| {
        last = packet.number;
        if packet.number < number {
            return Ok(());
        }
        let explained = explained(judge, packet)?;
        if context.json {
            write_json(out, &explained)?;
        } else {
            write(&explained, context, out)?;
        }
        Err(Found.into())
    });
    match end {
        Err(error) if error.downcast_ref::<Found>().is_some() => Ok(()),
        Err(error) => Err(error),
        Ok(end) => {
            end?;
            bail!("there is no packet {number}: the last one is {last}");
        }
    }
}

fn explained<'j>(judge: &'j mut Judge, packet: &Packet<'_>) -> Result<Explained<'j>> {
    let mut explained = Explained {
        n: packet.number,
        time: packet.time.and_then(Time::timestamp),
        length: packet.length,
        captured: packet.captured,
        direction: packet.direction.map(|direction| match direction {
            Direction::In => "in",
            Direction::Out => "out",
        }),
        layers: Vec::new(),
        action: None,
        reason: None,
        service: None,
        entry: None,
        enforced: None,
        left_out: None,
        linux: None,
        why: String::new(),
    };
    let frame = match packet.frame {
        Ok(frame) => frame,
        Err(why) => {
            explained.left_out = Some(why.to_string());
            return Ok(explained);
        }
    };
    let judged = judge.judge(&frame)?;
    let judge = &*judge;
    let meaning = Meaning::of(words(&judged), judge.description());
    explained.layers = layers::of(&frame, judge.protocols());
    explained.action = Some(meaning.action());
    explained.reason = (meaning.reason != Reason::None).then(|| meaning.reason.name());
    explained.service = meaning.service;
    explained.enforced = (!meaning.enforced).then_some(false);
    explained.entry = judge.entry(&judged);
    explained.linux = Some(linux::would(&frame, packet.is_truncated()));
    explained.why = judge.why(&judged, meaning);
    Ok(explained)
}

fn write(explained: &Explained<'_>, context: &Context, out: &mut dyn Write) -> Result<()> {
    let palette = context.palette;
    let time = explained.time.map(|time| format!(", {time}"));
    let cut = if explained.captured < explained.length {
        format!(", of which {} were captured", explained.captured)
    } else {
        String::new()
    };
    let way = match explained.direction {
        Some("out") => "; sent by this gateway, so that `check` does not judge it",
        Some(_) => "; came in",
        None => "",
    };
    writeln!(
        out,
        "packet {}{}, {}{cut}{way}",
        explained.n,
        time.unwrap_or_default(),
        output::count(explained.length as usize, "byte", "bytes")
    )?;
    for Layer { at, name, says } in &explained.layers {
        writeln!(out, "{at:>6}  {name:<16}  {says}")?;
    }
    if let Some(why) = &explained.left_out {
        writeln!(out, "it can't be judged: {why}")?;
        return Ok(());
    }
    let (style, action) = match explained.action {
        Some("drop") => (palette.bad, "drop"),
        _ => (palette.good, "pass"),
    };
    let service = explained.service.map(|name| format!(" ({name})"));
    writeln!(
        out,
        "sipguard{}: {style}{action}{style:#}, {}",
        service.unwrap_or_default(),
        explained.why
    )?;
    if let Some(linux) = &explained.linux {
        writeln!(out, "Linux, without it: {linux}")?;
    }
    Ok(())
}
