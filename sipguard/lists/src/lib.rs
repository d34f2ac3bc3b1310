//! What sipguard and its fetcher have in common. One of them may change the kernel and knows no network, the other one knows the network and
//! may change nothing: between them are files, and both sides read and write them with what is here.
//!
//! - `tasks.json` ([`task`]): sipguard says what is to be asked for.
//! - `NAME.json` ([`found`]): the fetcher says what it found, one file a source. sipguard keeps its own copies in the same form.
//! - `notices.json` and `notices/RECEIVER.json` ([`notice`]): the agent says what somebody is to be told, and the fetcher how far he is.
#![cfg_attr(
    test,
    expect(
        clippy::unwrap_used,
        reason = "a test that panics is a test that fails"
    )
)]

pub mod address;
pub mod country;
pub mod found;
pub mod list;
pub mod name;
pub mod notice;
pub mod notify;
pub mod path;
pub mod prefix;
pub mod replace;
pub mod said;
pub mod task;
