//! Letting go of everything.

use super::{
    error::Error,
    session::{self, Newest},
};
use crate::{
    datapath::{self, Generation, Pins, Text, attachments},
    host::{Host, Trouble},
    state::ConfirmStage,
};

/// Detaches everything of ours and removes its pins, the counters too. What the command line added is kept for the next apply: on disk, or
/// where that can't be written, in the kernel.
/// Returns the interfaces that were let go.
///
/// # Errors
/// Where something can't be removed.
pub fn down(host: &Host) -> Result<Vec<String>, Error> {
    let lock = host.store.lock();
    host.store.clear(&lock);
    if Pins::find().is_none() {
        return Ok(Vec::new());
    }
    let pins = Pins::make().map_err(datapath::Error::from)?;
    let saved = save(host);
    // What can't be removed is asked for, and nothing comes of it.
    let _ = std::fs::remove_file(host.store.folder().join(sipguard_lists::task::FILE));
    let mut interfaces: Vec<_> = attachments(host.now())?
        .into_iter()
        .map(|link| link.interface)
        .collect();
    // Where an interface was to move from one place to the other, both are there.
    interfaces.dedup();
    for interface in &interfaces {
        datapath::detach(interface)?;
    }
    for number in Generation::all()? {
        Generation::remove(number)?;
    }
    for interface in datapath::counted_interfaces()? {
        datapath::forget_counters(&interface)?;
    }
    datapath::forget_text(Text::Counting)?;
    datapath::forget_text(Text::Proofs)?;
    pins.remove_folders().map_err(datapath::Error::from)?;
    if saved {
        pins.remove().map_err(datapath::Error::from)?;
    }
    Ok(interfaces)
}

/// Takes back what was not confirmed, and brings to the disk what it has not. Says whether nothing is left to be brought there.
fn save(host: &Host) -> bool {
    let Newest {
        mut state,
        unread,
        is_on_disk,
    } = session::newest(host);
    let mut behind = !is_on_disk;
    if let Some(error) = unread {
        host.note(Trouble::Unread(host.store.set_aside(error)));
    }
    if let Some(unconfirmed) = &mut state.unconfirmed
        && unconfirmed.outcome == ConfirmStage::Pending
    {
        unconfirmed.outcome = ConfirmStage::TakenBack;
        behind = true;
    }
    state.down = true;
    let saved = host.store.save(&mut state);
    // Without a disk, that nothing is to be filtered is all that is lost, and the way to closed.
    if let Err(error) = saved
        && behind
    {
        // The first failure is the one to tell, and what is let go is let go.
        let _ = session::copy(&state);
        host.note(Trouble::Left(error));
        return false;
    }
    true
}
