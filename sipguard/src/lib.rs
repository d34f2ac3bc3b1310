//! sipguard: policy, loader and command line.
#![cfg_attr(
    test,
    expect(
        clippy::unwrap_used,
        reason = "a test that panics is a test that fails"
    )
)]

pub mod agent;
pub mod capture;
pub mod clock;
pub mod config;
pub mod counting;
pub mod datapath;
pub mod device;
pub mod difference;
pub mod events;
pub mod fetcher;
pub mod health;
pub mod host;
pub mod import;
pub mod kernel;
pub mod learn;
pub mod lifecycle;
pub mod policy;
pub mod prose;
pub mod rehearsal;
pub mod report;
pub mod sip;
pub mod sources;
pub mod state;
pub mod tables;
pub mod warnings;
pub mod when;
pub mod zone;

pub use sipguard_lists::prefix;
