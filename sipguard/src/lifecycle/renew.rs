//! The policy in force once more, in a generation that has room for all of the command line's entries.

use super::{
    error::Error, live::Live, session::Session, survey::targets, swap::Swap, unconfirmed::confirmed,
};
use crate::{
    datapath::{Description, Generation},
    device,
    tables::Tables,
};

/// Puts it in the place of `live`, which must not be one that waits to be confirmed.
pub(super) fn renew(session: &mut Session<'_>, live: &Live) -> Result<(), Error> {
    let before = &live.generation.description;
    let policy = confirmed(&live.generation)?.policy;
    let slots = before.slots();
    let words = session.words(&policy.live)?;
    let entries = &session.state.entries;
    let tables = Tables::compile(&policy, &slots, entries, words, session.now())?;
    let description = Description {
        prefilter_shift: tables.constants.prefilter_shift,
        ..before.clone()
    };
    let devices = device::all().map_err(Error::Devices)?;
    // What can't be guarded was told by the apply before.
    let (targets, _) = targets(&policy.interfaces, &devices, &live.links);
    let number = session.next_number()?;
    let programs: Vec<_> = targets.iter().map(|(target, _)| target.clone()).collect();
    let revisions = session.revisions(&policy.live);
    Generation::create(number, &tables, description, &programs, revisions)?;
    let swap = Swap {
        host: session.host,
        number,
        targets: &targets,
        links: &live.links,
        all_or_nothing: false,
    };
    swap.for_good()?;
    for old in Generation::all()? {
        if old != number {
            Generation::remove(old)?;
        }
    }
    Ok(())
}
