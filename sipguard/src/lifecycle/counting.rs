//! Noting which mode what is counted belongs to; see [`crate::counting`].
//!
//! The notes are pinned beside the counters, and go with them: with a restart and with `down`. Where they can't be written, what is asked for
//! is done all the same, and the next command notes what is so by then. A crash between a change of mode and its note is mended the same way.

use std::collections::BTreeMap;

use sipguard_ebpf::abi::NO_SERVICE;

use super::error::Error;
use crate::{
    counting::{Counters, Counting, Modes, Notes, Turn, add_modes},
    datapath::{self, Generation, Text, attachments},
    host::Host,
    tables::Now,
};

/// What is noted of the counters.
///
/// # Errors
/// Where the kernel can't be asked.
pub(crate) fn counting() -> Result<Counting, Error> {
    let text = datapath::text(Text::Counting)?.unwrap_or_default();
    // Of another version it is as good as none.
    Ok(serde_json::from_slice(&text).unwrap_or_default())
}

/// Notes the modes of a pinned generation that these interfaces are going to run.
pub(super) fn note_before<'i>(
    host: &Host,
    number: u64,
    interfaces: impl IntoIterator<Item = &'i str>,
) {
    let Some(modes) = modes(number) else { return };
    let now = host.now();
    let noted = change(|counting| {
        for interface in interfaces {
            for notes in counting.all() {
                note(notes, interface, &modes, Turn::Before, now)?;
            }
        }
        Ok(())
    });
    // See the module.
    drop(noted);
}

/// Notes the modes that interfaces run.
pub(super) fn note_after(host: &Host) {
    // See the module.
    drop(note_what_runs(host));
}

fn note_what_runs(host: &Host) -> Result<(), Error> {
    let now = host.now();
    let links = attachments(now)?;
    let pending = links.iter().find_map(|link| link.pending);
    let pending = pending.filter(|pending| !pending.lapsed(now));
    let mut known = BTreeMap::new();
    let mut modes_of = |number| known.entry(number).or_insert_with(|| modes(number)).clone();
    let (mut running, mut kept) = (BTreeMap::new(), BTreeMap::new());
    for link in &links {
        let runs = link.generation.and_then(&mut modes_of);
        // Where its time runs out, it is the generation before again that counts.
        let may_run = pending
            .filter(|_| link.pending.is_some())
            .and_then(|pending| modes_of(pending.previous?));
        for modes in runs.iter().chain(&may_run) {
            let kept = kept.entry(link.interface.as_str()).or_default();
            add_modes(kept, modes.clone());
        }
        if let Some(modes) = runs {
            let running = running.entry(link.interface.as_str()).or_default();
            add_modes(running, modes);
        }
    }
    change(|counting| {
        // The clock is asked after the links: what ended in time by this clock has ended in time.
        let now = host.now();
        let deadline = pending.map(|pending| pending.deadline);
        if let Some(trial) = counting.trial(deadline, now.boot_ns) {
            for (interface, modes) in &running {
                note(trial, interface, modes, Turn::After, now)?;
            }
        }
        for (interface, modes) in &kept {
            note(counting.kept(), interface, modes, Turn::After, now)?;
        }
        Ok(())
    })
}

/// Forgets what was counted for a service that is gone, before another one gets its slot.
pub(super) fn clear_service(slot: u8) -> Result<(), Error> {
    change(|counting| {
        counting.all().for_each(|notes| notes.forget_service(slot));
        Ok(())
    })?;
    Ok(datapath::clear_service(slot)?)
}

/// What a generation's counters are counted in; `None` where that can't be read.
fn modes(number: u64) -> Option<Modes> {
    let description = Generation::open(number).ok()?.description;
    let services = description.services.iter();
    let services = services.map(|found| (found.slot, found.service.mode));
    Some(services.chain([(NO_SERVICE, description.mode)]).collect())
}

fn note(
    notes: &mut Notes,
    interface: &str,
    modes: &Modes,
    turn: Turn,
    now: Now,
) -> Result<(), Error> {
    let Some(number) = datapath::counters_number(interface)? else {
        return Ok(());
    };
    let counters = Counters { interface, number };
    if !notes.have(counters, modes, turn)
        && let Some(counts) = datapath::counts(interface)?
    {
        let total = |slot, reason| counts.of(slot, reason);
        notes.note(counters, modes, turn, total, now.boot_ns);
    }
    Ok(())
}

fn change(each: impl FnOnce(&mut Counting) -> Result<(), Error>) -> Result<(), Error> {
    let before = counting()?;
    let mut counting = before.clone();
    each(&mut counting)?;
    if counting != before {
        // Numbers as keys, and nothing that can't be written.
        let text = serde_json::to_vec(&counting).unwrap_or_default();
        datapath::keep_text(Text::Counting, &text)?;
    }
    Ok(())
}
