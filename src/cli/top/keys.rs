//! PURE: what a terminal sends, as keys and clicks.

/// A key that `top` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    Enter,
    Escape,
    Backspace,
    Character(char),
    /// The left button of the mouse, on this row of the screen, from 0.
    Click(usize),
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
                let mut parameters = String::new();
                let end = rest.by_ref().find(|c| {
                    let is_end = ('@'..='~').contains(c);
                    if !is_end {
                        parameters.push(*c);
                    }
                    is_end
                });
                keys.extend(match (end, parameters.strip_prefix('<')) {
                    (Some('M'), Some(mouse)) => clicked(mouse),
                    (Some('A'), _) => Some(Key::Up),
                    (Some('B'), _) => Some(Key::Down),
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

/// `BUTTON;COLUMN;ROW`: the left button or the wheel.
fn clicked(mouse: &str) -> Option<Key> {
    let mut numbers = mouse.split(';').map(str::parse::<usize>);
    match (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?) {
        (0, _, row) => Some(Key::Click(row.checked_sub(1)?)),
        (64, ..) => Some(Key::Up),
        (65, ..) => Some(Key::Down),
        _ => None,
    }
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
        assert_eq!(of(b"\x1b[<0;12;3M\x1b[<0;12;3m\x1b[<64;1;1M\x1b[<65;1;1Mq"), [Key::Click(2), Key::Up, Key::Down, Key::Character('q')]);
        assert_eq!(of(b"\x1b[<0;1;0M\x1b[<2;1;1M\x1b[<0;;1M\x1b[<99999999999999999999;1;1M"), []);
    }
}
