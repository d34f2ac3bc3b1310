//! One case: a few frames that belong together, made from a seed.
//!
//! A case says who it is by its source address and by its payload, so that what arrives can be told apart, and nothing of one
//! case is ever put together with fragments of another.

use std::net::IpAddr;

use super::{
    Mutation, Recipe, Transport,
    change::{change, internet, options, repair},
    packet::Packet,
};

/// A few frames that belong together.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it was made by.
    pub recipe: Recipe,
    /// In the order in which they are sent.
    pub frames: Vec<Vec<u8>>,
    /// Where they come from.
    pub source: IpAddr,
    /// What the packet was before it was changed.
    pub transport: Transport,
    /// The payload begins with this.
    pub identity: u64,
}

impl Case {
    /// The case of this recipe.
    #[must_use]
    pub fn new(recipe: Recipe, identity: u64) -> Self {
        let packet = Packet::new(&recipe, identity);
        let mut frames = if recipe.in_fragments() {
            packet.fragments()
        } else {
            vec![packet.whole()]
        };
        if let Some(mut dice) = recipe.chosen(Mutation::DuplicatedFrame) {
            let again = dice.choose(&frames).clone();
            frames.push(again);
        }
        if recipe.has(Mutation::MeaningfulOptions) && packet.options > 0 {
            let options = options(&mut recipe.dice(Mutation::Options), packet.options);
            for frame in &mut frames {
                let at = internet(frame, recipe.carrier);
                frame[at + 20..at + 20 + options.len()].copy_from_slice(&options);
                repair(frame, recipe.carrier);
            }
        }
        for mutation in &recipe.mutations {
            let mut dice = recipe.dice(*mutation);
            let frame = dice.below(frames.len());
            change(*mutation, &mut frames[frame], recipe.carrier, &mut dice);
        }
        let (shortest, longest) = (recipe.carrier.shortest(), recipe.carrier.longest());
        frames.retain(|frame| (shortest..=longest).contains(&frame.len()));
        Self {
            source: packet.source,
            transport: packet.transport,
            recipe,
            frames,
            identity,
        }
    }
}
