//! What is told of the filter, as values: people's output, JSON and metrics are made of the same ones.
//!
//! Their JSON is a stable interface; `status`, `stats`, `list` and `check` document it where they print it.

mod confirmation;
mod counters;
mod entry;
mod interface;
mod listing;
mod living;
mod metrics;
mod moved;
mod receiver;
mod source;
mod status;

pub use self::{
    confirmation::ConfirmationReport,
    counters::{CountedInterface, CounterReport, CountersReport, PacketsAndBytes, Totals},
    entry::{EntryOrigin, EntryReport, OwnEntries, said_of},
    interface::{ForeignProgram, InterfaceReport, InterfaceState, interfaces},
    listing::Listing,
    living::Living,
    metrics::{AgentReport, Metrics, TEXTFILE},
    moved::MovedReport,
    receiver::ReceiverReport,
    source::SourceReport,
    status::{EntryCounts, StatusReport},
};

pub(crate) use self::receiver::deliveries;

#[cfg(test)]
mod tests;
