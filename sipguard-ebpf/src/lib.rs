//! What runs in the kernel, and what both sides must agree on.
#![no_std]
