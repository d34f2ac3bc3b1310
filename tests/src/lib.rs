//! What the tests of sipguard share.
