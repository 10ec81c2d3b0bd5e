//! PURE: makes text from elsewhere safe for a terminal: only colours pass.
//!
//! Names of files, descriptions, log lines and answers of servers are printed only through [`visible`], which the
//! printer and the progress lines call. Colours and weights (SGR) pass; every other control character is shown as text.

use std::{borrow::Cow, fmt::Write};

/// No useful colour needs a longer sequence.
const LONGEST_SGR: usize = 64;

/// Text that changes only the colours of a terminal. Line breaks and tabs stay.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find(is_hidden) {
        shown.push_str(&rest[..at]);
        let found = &rest[at..];
        if let Some(length) = sgr(found) {
            shown.push_str(&found[..length]);
            rest = &found[length..];
            continue;
        }
        let character = found.chars().next().expect("something was found");
        rest = &found[character.len_utf8()..];
        match character {
            // Line ends of Windows.
            '\r' if rest.starts_with('\n') => {}
            '\r' => shown.push_str("\\r"),
            '\0' => shown.push_str("\\0"),
            '\0'..='\u{ff}' => {
                let _ = write!(shown, "\\x{:02x}", u32::from(character));
            }
            _ => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(character));
            }
        }
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// The same for JSON text, where serializers leave some of these characters unescaped.
pub(crate) fn visible_json(json: &str) -> Cow<'_, str> {
    // Outside of strings JSON contains no such character.
    if !json.contains(is_hidden) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_hidden(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, and those that reorder or hide the text around them.
fn is_hidden(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => true,
        other => other.is_control(),
    }
}

/// The length of the sequence for colours and weights at the beginning of a text. Not those that blink or hide.
fn sgr(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':'))?;
    if !parameters[end..].starts_with('m') || end > LONGEST_SGR {
        return None;
    }
    let words: Vec<&str> = parameters[..end].split(';').collect();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        match word.trim_start_matches('0') {
            "5" | "6" | "8" => return None,
            // What follows is a colour and not an attribute.
            "38" | "48" | "58" => at += if words.get(at + 1).is_some_and(|word| *word == "2") { 4 } else { 2 },
            _ => {}
        }
        at += 1;
    }
    Some("\x1b[".len() + end + 1)
}

/// What holds for any text: nothing in what is shown moves the cursor, and JSON stays the same document.
#[cfg(any(test, fuzzing))]
pub(crate) fn check(text: &str) {
    let shown = visible(text);
    for (at, _) in shown.match_indices('\x1b') {
        assert!(sgr(&shown[at..]).is_some(), "{text:?} became {shown:?}");
    }
    let hidden = |c: char| is_hidden(c) && c != '\x1b';
    assert!(!shown.contains(hidden), "{text:?} became {shown:?}");
    assert_eq!(visible(&shown), shown, "shown twice");
    let json = serde_json::json!({ "text": text }).to_string();
    let json_shown = visible_json(&json);
    assert!(!json_shown.contains(is_hidden), "{json_shown}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json_shown).expect("it is JSON")["text"], text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_pass_and_everything_else_is_shown() {
        for (text, shown) in [
            ("plain äöü 漢\n\ttext", "plain äöü 漢\n\ttext"),
            ("\x1b[31mred\x1b[0m \x1b[1;38;5;208mx\x1b[m", "\x1b[31mred\x1b[0m \x1b[1;38;5;208mx\x1b[m"),
            ("\x1b[38;2;8;5;6mrgb", "\x1b[38;2;8;5;6mrgb"),
            ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
            ("\x1b[2J\x1b[1A\x1b[?25l", "\\x1b[2J\\x1b[1A\\x1b[?25l"),
            ("\x1b[8mhidden\x1b[05mblinks", "\\x1b[8mhidden\\x1b[05mblinks"),
            ("\u{9b}2J\u{9d}0;x\u{9c}\x7f", "\\x9b2J\\x9d0;x\\x9c\\x7f"),
            ("a\r\nb\rc\0", "a\nb\\rc\\0"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
            ("\x1b[31", "\\x1b[31"),
            ("\x1b", "\\x1b"),
        ] {
            assert_eq!(visible(text), shown, "{text:?}");
        }
    }

    #[test]
    fn json_stays_the_same_document() {
        let text = "{\"a\":\"x\u{7f}\u{9b}\u{202e}\\u001b ä\"}";
        let shown = visible_json(text);
        assert_eq!(shown, "{\"a\":\"x\\u007f\\u009b\\u202e\\u001b ä\"}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&shown), value(text));
    }

    #[test]
    fn no_text_whatever_moves_the_cursor() {
        let alphabet = ["\x1b", "[", "]", "3", ";", "m", "J", "\u{9b}", "\x07", "é", "\r", "\n", "8"];
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            let text: String = (0..12)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    alphabet[(seed >> 33) as usize % alphabet.len()]
                })
                .collect();
            check(&text);
        }
    }
}
