//! The part of sipguard that runs in the kernel, compiled for BPF and for the host: the same bodies on both.
//!
//! [`frame`] reads headers, [`parse`] finds what a frame is about, [`verdict`] decides, [`abi`] is what the kernel program
//! and the loader must agree on. Nothing here knows of maps or packet pointers: those come in through the traits
//! [`frame::Frame`] and [`verdict::Tables`].
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "a call costs more than most of these bodies, and the verifier knows more of what is inlined"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "words are cut into bytes and halves on purpose, without the branches of a checked conversion"
)]

pub mod abi;
pub mod datagram;
pub mod event;
pub mod flow;
pub mod frame;
pub mod header;
pub mod lengths;
pub mod parse;
pub mod prefix;
pub mod verdict;
