//! What the commands do to the kernel and to the state on disk, in the order that a crash at any point can't spoil.
//!
//! Whoever changes anything holds the locks, through [`Session`]. The state is always written first: what a crash leaves undone in the
//! kernel the next session finishes. Where the disk can't be written or read, the work is done all the same, the [`Host`] is told, and a
//! copy of the state in the kernel stands in for the disk until the next restart (`session.rs`).
//!
//! [`Host`]: crate::host::Host

mod apply;
mod ban;
mod ban_log;
mod by_hand;
mod change;
mod clock;
mod config_file;
mod confirm;
mod counting;
mod describe;
mod down;
mod effect;
mod error;
mod fallbacks;
mod instead;
mod live;
mod living;
mod names;
mod outlook;
mod plan;
mod refresh;
mod renew;
mod repair;
mod session;
mod settle;
mod survey;
mod swap;
mod tasks;
mod unconfirmed;

pub use self::{
    apply::{Applied, apply},
    ban::{Banned, ban, unban},
    ban_log::bans,
    by_hand::{ByHand, Overruled, by_hand},
    change::{Changed, End, NewEntry, Removed, add, remove},
    clock::{Clocks, clock},
    confirm::{Decided, confirm, rollback},
    down::down,
    effect::{Effect, effects},
    error::{Error, Refused},
    instead::Instead,
    live::{Live, live, pending, service},
    names::{Renamed, use_kernel_names},
    outlook::Outlook,
    plan::{Planned, plan},
    refresh::{RefreshOptions, RefreshOutcome, Refreshed, refresh},
    repair::{Repaired, compare, repair},
    session::{Session, now, state},
    survey::Options,
};
pub(crate) use self::{
    counting::counting,
    describe::{describe, digest},
    instead::is_taken_back,
    names::renamed,
    session::{Newest, newest},
};
