//! sipguard: policy, loader and command line.

pub mod config;
pub mod datapath;
pub mod device;
pub mod lifecycle;
pub mod policy;
pub mod prefix;
pub mod state;
pub mod tables;
