//! The kernel's side of sipguard: loading, pinning, replacing, asking. Nothing outside this folder names aya.
//!
//! A [`Generation`] is one loaded set of programs and policy maps. Everything it consists of is pinned in a folder of its own before
//! the first link is turned to it, and is never changed afterwards but for single entries, so that what a crash leaves behind is
//! either complete or unused. The pins describe themselves: what is in force is read from the kernel, not from a file beside it.

mod attachment;
mod check;
mod clsact;
mod counters;
mod description;
mod detach;
mod error;
mod generation;
mod link_error;
mod listen;
mod load;
#[cfg(feature = "log")]
mod log;
mod object;
mod pending;
mod pins;
mod plain;
mod program;
mod programs;
mod proof;
mod ring;
mod role;
mod size;
mod switch;
mod table;
mod tc;
mod tell;
mod text;
mod xdp;

use self::error::errno;
#[cfg(feature = "log")]
pub use self::log::follow as follow_log;
pub use self::{
    attachment::{Attachment, attachments, foreign, refuse_foreign},
    check::Checker,
    counters::{
        Counts, clear_service, counted_interfaces, counters_number, counts, forget_counters,
    },
    description::{Description, ServiceDescription},
    error::Error,
    generation::{Entry, Generation, Revisions, Target},
    link_error::{LinkError, is_untyped, program_name},
    listen::{Heard, Rings, services_are_refused},
    load::{OBJECT_DIGEST, object_bytes},
    pending::Pending,
    pins::{Pins, PinsError},
    programs::interfaces,
    proof::{Proof, Trust, proofs, watch},
    role::{Place, Role},
    size::{ProgramSize, program_sizes},
    switch::{NEVER_RAN, RAN_IN_PART, Switched, climb, detach, revive, switch},
    text::{Text, forget_text, keep_text, text},
};
