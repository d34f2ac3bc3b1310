//! How many different things there were, though none of them is kept.

use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// One bit for each of 256 groups of things. As many bits as are set, so many different things there were at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Sketch([u64; 4]);

/// The same on every machine and after every restart.
pub(super) fn digest(thing: &str) -> u32 {
    let mut hasher = SipHasher13::new();
    hasher.write(thing.as_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "half of a digest is one")]
    let digest = hasher.finish() as u32;
    digest
}

impl Sketch {
    pub(super) fn note(&mut self, thing: &str) {
        let bit = digest(thing) % 256;
        let (word, bit) = (bit / 64, bit % 64);
        // Less than four.
        if let Some(word) = self.0.get_mut(usize::try_from(word).unwrap_or_default()) {
            *word |= 1 << bit;
        }
    }

    /// At least so many.
    pub(super) fn least(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}
