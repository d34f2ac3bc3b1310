//! Leaves out of a case what a fault does not need, and prints what is left so that it can become a row of the verdict table.

use std::fmt::Write as _;

use super::{Carrier, Case, Recipe};

/// The recipe with the fewest mutations and the shortest payload that still shows the fault, and which of its frames are needed; `shows`
/// tells whether these frames alone show it. Goes on until nothing more can be left out.
pub fn minimised(
    recipe: &Recipe,
    identity: u64,
    mut shows: impl FnMut(&Recipe, &[usize]) -> bool,
) -> (Recipe, Vec<usize>) {
    let all = |recipe: &Recipe| -> Vec<usize> {
        (0..Case::new(recipe.clone(), identity).frames.len()).collect()
    };
    let mut least = recipe.clone();
    let short = Recipe {
        short: true,
        ..least.clone()
    };
    if shows(&short, &all(&short)) {
        least = short;
    }
    let mut place = 0;
    while place < least.mutations.len() {
        let fewer = least.without(place);
        if shows(&fewer, &all(&fewer)) {
            (least, place) = (fewer, 0);
        } else {
            place += 1;
        }
    }
    let mut kept = all(&least);
    place = 0;
    while place < kept.len() {
        let mut fewer = kept.clone();
        fewer.remove(place);
        if shows(&least, &fewer) {
            (kept, place) = (fewer, 0);
        } else {
            place += 1;
        }
    }
    (least, kept)
}

/// Frames as rows of the verdict table, but for the verdict.
#[must_use]
pub fn rows(name: &str, frames: &[Vec<u8>], carrier: Carrier) -> String {
    let words = name.split(|character: char| !character.is_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let name = words.join("-").to_lowercase();
    let begin = match carrier {
        Carrier::Cable => "wire",
        Carrier::Tunnel => "bare_wire",
    };
    let mut text = String::new();
    for (number, frame) in (1..).zip(frames) {
        let mut bytes = String::new();
        for byte in frame {
            write!(bytes, "{byte:02x}").expect("memory");
        }
        writeln!(
            text,
            "rows.add(\"{name}-{number}\", &{begin}(\"{bytes}\"), …);"
        )
        .expect("memory");
    }
    text
}
