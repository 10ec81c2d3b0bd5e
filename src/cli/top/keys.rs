//! PURE: what a terminal sends, as keys.

/// A key that `top` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    Enter,
    Escape,
    Backspace,
    Character(char),
}

/// The keys of one read. Sequences of keys that are not known are left out.
pub(super) fn of(bytes: &[u8]) -> Vec<Key> {
    let text = String::from_utf8_lossy(bytes);
    let mut rest = text.chars().peekable();
    let mut keys = Vec::new();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' if matches!(rest.peek(), Some('[' | 'O')) => {
                rest.next();
                // Parameters, then the letter that says which key it is.
                let end = rest.by_ref().find(|c| ('@'..='~').contains(c));
                keys.extend(match end {
                    Some('A') => Some(Key::Up),
                    Some('B') => Some(Key::Down),
                    _ => None,
                });
            }
            '\u{1b}' => keys.push(Key::Escape),
            '\r' | '\n' => keys.push(Key::Enter),
            '\u{7f}' | '\u{8}' => keys.push(Key::Backspace),
            other if !other.is_control() => keys.push(Key::Character(other)),
            _ => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_letters_and_escape_are_told_apart() {
        assert_eq!(of(b"\x1b[A\x1bOBjq"), [Key::Up, Key::Down, Key::Character('j'), Key::Character('q')]);
        assert_eq!(of(b"\x1b"), [Key::Escape]);
        assert_eq!(of("ä\r\x7f\x1b[5~\x1b[1;5C\x01".as_bytes()), [Key::Character('ä'), Key::Enter, Key::Backspace]);
        assert_eq!(of(b"\x1b["), []);
    }
}
