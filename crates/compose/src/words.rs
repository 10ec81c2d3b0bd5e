//! The texts of Compose that have a grammar of their own: commands, durations, sizes.

/// Splits text as a shell does: blanks, quotes and backslashes, and nothing else. None if a quote is open at the end.
pub(crate) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_with(String::new);
                loop {
                    match characters.next()? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_with(String::new);
                loop {
                    match characters.next()? {
                        '"' => break,
                        '\\' => match characters.next()? {
                            escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                            '\n' => {}
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            '\\' => match characters.next()? {
                '\n' => {}
                other => word.get_or_insert_with(String::new).push(other),
            },
            other => word.get_or_insert_with(String::new).push(other),
        }
    }
    words.extend(word);
    Some(words)
}

/// `1h5m30.5s20ms`, in milliseconds.
pub(crate) fn duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    let mut sum = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).filter(|end| *end > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, factor) =
            [("ms", 1.0), ("us", 0.001), ("ns", 0.000_001), ("h", 3_600_000.0), ("m", 60_000.0), ("s", 1000.0), ("d", 86_400_000.0)]
                .into_iter()
                .find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        sum += number * factor;
    }
    (sum <= 1e12).then(|| sum.ceil() as u64)
}

/// `64m`, `1.5gb` or a number of bytes; units are powers of 1024.
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let power = match text[digits..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return None,
    };
    let bytes = number * f64::from(1024_u32).powi(power);
    (bytes.is_finite() && (0.0..1e18).contains(&bytes)).then_some(bytes as u64)
}

/// A size as profiles write it.
pub(crate) fn size_of_profile(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// A duration as profiles write it.
pub(crate) fn duration_of_profile(milliseconds: u64) -> String {
    for (factor, unit) in [(3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if milliseconds > 0 && milliseconds.is_multiple_of(factor) {
            return format!("{}{unit}", milliseconds / factor);
        }
    }
    format!("{milliseconds}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_as_a_shell_splits_them() {
        for (text, words) in [
            ("redis-server --requirepass \"a b\"", vec!["redis-server", "--requirepass", "a b"]),
            ("sh -c 'trap \"exit 0\" TERM; sleep 1'", vec!["sh", "-c", "trap \"exit 0\" TERM; sleep 1"]),
            ("a\\ b  c\t'' \"\"", vec!["a b", "c", "", ""]),
            ("x\"y\"'z' \"\\\"\\n\"", vec!["xyz", "\"\\n"]),
            ("a \\\n  b", vec!["a", "b"]),
            ("  ", vec![]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        assert_eq!(split("a 'b"), None);
        assert_eq!(split("a \"b"), None);
    }

    #[test]
    fn durations_and_sizes_are_those_of_compose() {
        for (text, milliseconds) in [("1m30s", 90_000), ("2h5m", 7_500_000), ("1.5s", 1500), ("10ms", 10), ("20us", 1), ("0", 0), ("0s", 0)]
        {
            assert_eq!(duration(text), Some(milliseconds), "{text}");
        }
        for bad in ["", "10", "s", "1x", "-1s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        for (text, bytes) in [("64m", 64 << 20), ("1gb", 1 << 30), ("512", 512), ("0.5k", 512), ("10B", 10), ("2GiB", 2 << 30)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "m", "1x", "-1m"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        assert_eq!((size_of_profile(64 << 20), size_of_profile(1000)), ("64MiB".to_owned(), "1000B".to_owned()));
        assert_eq!((duration_of_profile(90_000), duration_of_profile(1500)), ("90s".to_owned(), "1500ms".to_owned()));
    }
}
