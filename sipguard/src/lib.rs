//! sipguard: policy, loader and command line.
