//! The `sipguard` command.

fn main() {}
