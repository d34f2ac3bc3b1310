//! The entry points, by where in the kernel they meet frames. Each one judges the frame with the library's code; they differ in how they
//! read it, and in what they do with the verdict.

mod constants;
mod deadline;
mod judge;
mod maps;
mod packet;
mod policy;
mod received;
mod skb;
mod tc;
mod tell;
mod xdp;
