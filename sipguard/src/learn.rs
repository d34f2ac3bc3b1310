//! Who should be let in, learned from what this gateway says and hears: evidence in both directions, never a packet's word alone.
//!
//! - Somebody answers what this gateway sent him (`evidence.rs`): an answer counts where it belongs to a request, by its Call-ID. What a proxy sends for
//!   somebody else counts as much as that one does, because a packet may tell it where to send (Route, Via `maddr`, Contact).
//! - This gateway answers him: a 2xx to REGISTER goes to who knew the password, whatever Contacts it lists, and a 401 says nothing, as every refusal is one.
//! - Nothing of an address is believed that the packet's headers only name (Via, Contact): what counts is where packets came from and went to.
//!
//! What is remembered is bounded (some tens of MiB where somebody sees to that), and what found no room is counted.

mod config;
mod evidence;
mod findings;
mod own;
mod packet;
mod socket;

pub use self::{
    evidence::Learner,
    findings::{Findings, Proposal, Refused, Source},
    packet::Packet,
    socket::{ListenError, Socket},
};

#[cfg(test)]
mod tests;
