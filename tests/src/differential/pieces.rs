//! A packet's contents cut into fragments, and the fragments rearranged.

use super::{Mutation, Recipe};

/// A fragment before it has headers.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// In units of eight bytes.
    pub(super) offset: u16,
    /// Whether more are to come.
    pub(super) more: bool,
    pub(super) bytes: Vec<u8>,
}

/// Cuts contents where the fragments begin and end.
pub(super) fn cut(tail: &[u8], recipe: &Recipe) -> Vec<Piece> {
    let mut sizes = recipe.dice(Mutation::Fragments);
    let mut overlapping = recipe.chosen(Mutation::Overlapping);
    let mut pieces = Vec::new();
    let mut begin = 0;
    while begin < tail.len() {
        let at_a_header = begin == 0 && recipe.has(Mutation::FalseTail);
        let units = if at_a_header || recipe.has(Mutation::TinyFragments) {
            1
        } else {
            1 + sizes.below(8)
        };
        let own_end = (begin + 8 * units).min(tail.len());
        let mut end = own_end;
        if let Some(dice) = &mut overlapping
            && dice.below(3) == 0
        {
            let further = (own_end + 8 * (1 + dice.below(3))).min(tail.len());
            // The last fragment's end is the packet's: one that reaches there would be another last one.
            if further < tail.len() {
                end = further;
            }
        }
        pieces.push(Piece {
            offset: u16::try_from(begin / 8).expect("a short packet"),
            more: own_end < tail.len(),
            bytes: tail[begin..end].to_vec(),
        });
        begin += 8 * units;
    }
    pieces
}

/// Duplicates, leaves out, changes and reorders.
pub(super) fn rearrange(pieces: &mut Vec<Piece>, recipe: &Recipe) {
    if let Some(mut dice) = recipe.chosen(Mutation::DuplicatedFragment) {
        let again = dice.choose(pieces).clone();
        pieces.insert(dice.below(pieces.len() + 1), again);
    }
    if let Some(mut dice) = recipe.chosen(Mutation::MissingFragment)
        && pieces.len() > 1
    {
        pieces.remove(dice.below(pieces.len()));
    }
    if let Some(mut dice) = recipe.chosen(Mutation::FragmentField) {
        let place = dice.below(pieces.len());
        let piece = &mut pieces[place];
        match dice.below(3) {
            0 => piece.more = !piece.more,
            1 => piece.offset ^= 1 << dice.below(5),
            _ => piece.offset = u16::from(dice.byte()) << 5,
        }
    }
    if let Some(mut dice) = recipe.chosen(Mutation::Reordered) {
        for last in (1..pieces.len()).rev() {
            pieces.swap(last, dice.below(last + 1));
        }
    }
}
