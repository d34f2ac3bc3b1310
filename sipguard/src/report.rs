//! What is told of the filter, as values: people's output and JSON are made of the same ones.
//!
//! Their JSON is a stable interface; `status`, `stats`, `list` and `check` document it where they print it.

mod confirmation;
mod counters;
mod entry;
mod interface;
mod listing;
mod living;
mod source;
mod status;

pub use self::{
    confirmation::ConfirmationReport,
    counters::{CountedInterface, CounterReport, CountersReport, PacketsAndBytes, Totals},
    entry::{EntryOrigin, EntryReport, OwnEntries, said_of},
    interface::{ForeignProgram, InterfaceReport, InterfaceState, interfaces},
    listing::Listing,
    living::Living,
    source::SourceReport,
    status::{EntryCounts, StatusReport},
};

#[cfg(test)]
mod tests;
