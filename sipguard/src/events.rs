//! What the kernel tells of single packets: a sample, never the count. Who listens grants how much is told; with nobody there, nothing is.
//!
//! One process listens, the agent or a command. The agent hands on to others.

mod event;
mod generations;
pub mod hand_on;
mod listener;
mod source;
mod told;

pub use self::{
    event::{Event, Names},
    generations::Generations,
    listener::{ListenError, Listener, Wanted},
    source::{Source, SourceError},
    told::Told,
};
