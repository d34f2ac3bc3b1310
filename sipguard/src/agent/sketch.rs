//! How many different things there were, though none of them is kept.

use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// One bit for each of so many times 64 groups of things. As many bits as are set, so many different things there were at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    transparent,
    bound(
        serialize = "[u64; WORDS]: Serialize",
        deserialize = "[u64; WORDS]: Deserialize<'de>"
    )
)]
pub(super) struct Sketch<const WORDS: usize>([u64; WORDS]);

/// The same on every machine and after every restart.
pub(super) fn digest(thing: &str) -> u32 {
    let mut hasher = SipHasher13::new();
    hasher.write(thing.as_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "half of a digest is one")]
    let digest = hasher.finish() as u32;
    digest
}

impl<const WORDS: usize> Default for Sketch<WORDS> {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl<const WORDS: usize> Sketch<WORDS> {
    pub(super) fn note(&mut self, thing: &str) {
        let digest = usize::try_from(digest(thing)).unwrap_or_default();
        let (word, bit) = (digest / 64 % WORDS, digest % 64);
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    /// At least so many.
    pub(super) fn least(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}
