//! Random frames that can be had again: everything follows from one seed, which is printed.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

/// A small generator of random numbers (xorshift64*, Vigna 2016); good enough to mutate frames, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded with `$SIPGUARD_SEED`, else with the time; says which on the test's output.
    #[must_use]
    pub fn seeded() -> Self {
        let seed = match env::var("SIPGUARD_SEED") {
            Ok(seed) => seed.parse().expect("SIPGUARD_SEED is a number"),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |since| {
                    since.as_secs() << 20 | u64::from(since.subsec_micros())
                }),
        };
        println!("SIPGUARD_SEED={seed} runs this again");
        Self(seed.max(1))
    }

    /// Everything follows from this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Zero is where this generator stands still.
        Self(seed.max(1))
    }

    /// For one of several things that follow from one seed: what is drawn for one changes nothing for the others.
    #[must_use]
    pub fn apart(seed: u64, thing: u64) -> Self {
        // The finish of splitmix64 (Steele et al. 2014): seeds near each other give numbers far from each other.
        let mut mixed = seed ^ thing.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self::new(mixed ^ mixed >> 31)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from((u128::from(self.number()) * u128::from(bound)) >> 64)
            .expect("below a usize")
    }

    /// A random byte.
    pub fn byte(&mut self) -> u8 {
        self.number().to_be_bytes()[0]
    }

    /// One of `choices`.
    pub fn choose<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Up to `longest` random bytes.
    pub fn bytes(&mut self, longest: usize) -> Vec<u8> {
        let length = self.below(longest + 1);
        (0..length).map(|_| self.byte()).collect()
    }

    /// Changes a frame in one to four ways: bits, bytes, numbers that mean something to a parser, cuts, and insertions.
    pub fn mutate(&mut self, frame: &mut Vec<u8>) {
        // EtherTypes, protocols and header lengths.
        const WORDS: [&[u8]; 24] = [
            &[0x08, 0x00],
            &[0x86, 0xdd],
            &[0x81, 0x00],
            &[0x88, 0xa8],
            &[0x88, 0x64],
            &[0x91, 0x00],
            &[0x00, 0x21],
            &[0x00, 0x57],
            &[0x13, 0xc4],
            &[0, 80],
            &[0x45],
            &[0x4f],
            &[0x60],
            &[17],
            &[6],
            &[0],
            &[43],
            &[44],
            &[51],
            &[60],
            &[132],
            &[136],
            &[59],
            &[0xff],
        ];
        for _ in 0..=self.below(4) {
            // Headers are where a change means most.
            let end = if self.below(4) == 0 {
                frame.len()
            } else {
                frame.len().min(80)
            };
            let place = self.below(end);
            match self.below(6) {
                0 if !frame.is_empty() => frame[place] ^= 1 << self.below(8),
                1 if !frame.is_empty() => frame[place] = self.byte(),
                2 => {
                    let word = *self.choose(&WORDS);
                    for (old, new) in frame[place..].iter_mut().zip(word) {
                        *old = *new;
                    }
                }
                3 => frame.truncate(self.below(frame.len() + 1)),
                4 => {
                    let word = *self.choose(&WORDS);
                    frame.splice(place..place, word.iter().copied());
                }
                _ => {
                    let tail = self.bytes(16);
                    frame.extend(tail);
                }
            }
        }
    }
}
