//! Leaves out of a case what a fault does not need, and prints what is left so that it can become a row of the verdict table.

use std::fmt::Write as _;

use sipguard_ebpf::abi::LinkKind;

use super::{Carrier, Case, Recipe};
use crate::frame::Link;

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

/// Frames as rows of the verdict table, but for the verdict: to be pasted there.
#[must_use]
pub fn rows(name: &str, frames: &[Vec<u8>], carrier: Carrier) -> String {
    let words = name.split(|character: char| !character.is_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let name = words.join("-").to_lowercase();
    let link = match carrier.link() {
        LinkKind::Ethernet => Link::Ethernet,
        LinkKind::Ip => Link::Bare,
    };
    let mut text = String::new();
    for (number, frame) in (1..).zip(frames) {
        let mut digits = String::new();
        for byte in frame {
            write!(digits, "{byte:02x}").expect("memory");
        }
        let frame = format!("Frame::wire(Link::{link:?}, \"{digits}\")");
        writeln!(text, "rows.add(\"{name}-{number}\", &{frame}, …);").expect("memory");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::{frame::Frame, verdict_table};

    /// What is printed is Rust, and stands for the frame that it was printed for.
    #[test]
    fn rows_can_be_pasted() {
        macro_rules! pasted {
            ($frame:expr) => {
                ($frame, stringify!($frame))
            };
        }
        for (carrier, (frame, text)) in [
            (
                Carrier::Cable,
                pasted!(Frame::wire(Link::Ethernet, "02ff00")),
            ),
            (Carrier::Tun, pasted!(Frame::wire(Link::Bare, "4500ff"))),
        ] {
            let printed = rows("Leak in [FalseTail]", &[frame.bytes()], carrier);
            let wanted = format!("rows.add(\"leak-in-falsetail-1\", &{text}, …);\n");
            assert_eq!(printed, wanted);
        }
        for row in verdict_table::rows() {
            let printed = rows("row", slice::from_ref(&row.frame), Carrier::Cable);
            let digits = printed.split('"').nth(3).expect("the second string");
            let frame = Frame::wire(Link::Ethernet, digits);
            assert_eq!(frame.bytes(), row.frame, "{}", row.name);
        }
    }
}
