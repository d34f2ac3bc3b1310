//! `cargo xtask`: what a developer of sipguard runs.

fn main() {}
