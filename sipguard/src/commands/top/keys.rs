//! Keys, out of the bytes that a terminal sends for them. Only those that [`super::view`] knows: a terminal's library would look for more, but
//! waits for ever once its terminal is gone.

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A letter, a digit, a sign.
    Letter(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// Ctrl-C, Ctrl-D and Ctrl-\: no signals come while the terminal is ours.
    Interrupt,
    /// Ctrl-L: draw everything anew.
    Redraw,
}

/// What stands for keys without a letter behind ESC [ (ECMA-48, and xterm's with ESC O).
const SEQUENCES: [(&[u8], Key); 16] = [
    (b"[A", Key::Up),
    (b"OA", Key::Up),
    (b"[B", Key::Down),
    (b"OB", Key::Down),
    (b"[H", Key::Home),
    (b"OH", Key::Home),
    (b"[1~", Key::Home),
    (b"[7~", Key::Home),
    (b"[F", Key::End),
    (b"OF", Key::End),
    (b"[4~", Key::End),
    (b"[8~", Key::End),
    (b"[5~", Key::PageUp),
    (b"[6~", Key::PageDown),
    (b"OM", Key::Enter),
    (b"[3~", Key::Backspace),
];

/// The keys in what was read at once. A terminal sends a key's bytes together, so that ESC with nothing behind it is that key.
pub(super) fn keys(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        let key = match first {
            0x1b => {
                let known = SEQUENCES.iter().find(|(text, _)| rest.starts_with(text));
                if let Some((text, key)) = known {
                    bytes = &rest[text.len()..];
                    Some(*key)
                } else if matches!(rest, [b'[' | b'O', ..]) {
                    bytes = behind(rest);
                    None
                } else {
                    Some(Key::Escape)
                }
            }
            b'\r' | b'\n' => Some(Key::Enter),
            0x7f | 0x08 => Some(Key::Backspace),
            0x03 | 0x04 | 0x1c => Some(Key::Interrupt),
            0x0c => Some(Key::Redraw),
            b' '..=b'~' => Some(Key::Letter(char::from(*first))),
            _ => None,
        };
        keys.extend(key);
    }
    keys
}

/// What stands behind a sequence that nobody knows: its last byte is a letter or one of a few signs (ECMA-48, section 5.4).
fn behind(sequence: &[u8]) -> &[u8] {
    let end = sequence.iter().skip(1);
    let end = end.take_while(|byte| !(0x40..=0x7e).contains(*byte));
    sequence.get(end.count() + 2..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_keys() {
        for (bytes, wanted) in [
            (&b"q"[..], vec![Key::Letter('q')]),
            (b"\x1b", vec![Key::Escape]),
            (b"\x1b[A\x1bOB", vec![Key::Up, Key::Down]),
            (
                b"\x1b[5~\x1b[6~x",
                vec![Key::PageUp, Key::PageDown, Key::Letter('x')],
            ),
            (
                b"\r\x7f\x03\x0c",
                vec![Key::Enter, Key::Backspace, Key::Interrupt, Key::Redraw],
            ),
            // Ctrl-Right, F5, a click of the mouse: not ours, and no letters either.
            (b"\x1b[1;5Cq", vec![Key::Letter('q')]),
            (b"\x1b[15~q", vec![Key::Letter('q')]),
            (b"\x1b[<0;5;7Mq", vec![Key::Letter('q')]),
            (b"\x1b[", vec![]),
            ("ö".as_bytes(), vec![]),
            (b"", vec![]),
        ] {
            assert_eq!(keys(bytes), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn whatever_comes_it_ends() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                keys(&[0x1b, first, second, 0x1b]);
            }
        }
    }
}
