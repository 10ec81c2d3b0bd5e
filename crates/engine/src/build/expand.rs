//! Expands variables in the words of a Dockerfile as BuildKit does. Pure.

/// Returns the text with its variables expanded, or an error message. `quotes`: single quotes prevent expansion, and
/// both sorts of quotes are removed; otherwise quotes are ordinary characters.
pub(super) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>, quotes: bool) -> Result<String, String> {
    let letters: Vec<char> = text.chars().collect();
    let mut position = 0;
    let result = Expansion { letters: &letters, lookup, quotes }.until(&mut position, None)?;
    Ok(result)
}

struct Expansion<'a> {
    letters: &'a [char],
    lookup: &'a dyn Fn(&str) -> Option<String>,
    quotes: bool,
}

impl Expansion<'_> {
    fn until(&self, at: &mut usize, end: Option<char>) -> Result<String, String> {
        let mut text = String::new();
        let mut double = false;
        while let Some(&letter) = self.letters.get(*at) {
            *at += 1;
            match letter {
                _ if Some(letter) == end && !double => return Ok(text),
                '\\' => {
                    // Within double quotes only special characters are escaped.
                    let next = self.letters.get(*at).copied();
                    if double && !matches!(next, Some('"' | '$' | '\\')) {
                        text.push(letter);
                    }
                    text.extend(next);
                    *at += 1;
                }
                '\'' if self.quotes && !double => {
                    let rest = &self.letters[*at..];
                    let close = rest.iter().position(|letter| *letter == '\'').ok_or("a single quote is not closed")?;
                    text.extend(&rest[..close]);
                    *at += close + 1;
                }
                '"' if self.quotes => double = !double,
                '$' => text.push_str(&self.variable(at)?),
                letter => text.push(letter),
            }
        }
        match end {
            Some(end) => Err(format!("`{end}` is missing at its end")),
            None if double => Err("a double quote is not closed".to_owned()),
            None => Ok(text),
        }
    }

    /// The variable after the `$`.
    fn variable(&self, at: &mut usize) -> Result<String, String> {
        let braces = self.letters.get(*at) == Some(&'{');
        if braces {
            *at += 1;
        }
        let rest = &self.letters[(*at).min(self.letters.len())..];
        let length = match rest.first() {
            Some(first) if first.is_ascii_digit() => 1,
            Some(first) if first.is_ascii_alphabetic() || *first == '_' => {
                rest.iter().take_while(|letter| letter.is_ascii_alphanumeric() || **letter == '_').count()
            }
            _ if braces => return Err("`${` names no variable".to_owned()),
            _ => return Ok("$".to_owned()),
        };
        let name: String = rest[..length].iter().collect();
        *at += length;
        let value = (self.lookup)(&name);
        if !braces {
            return Ok(value.unwrap_or_default());
        }
        let mut next = || {
            let letter = self.letters.get(*at).copied();
            *at += 1;
            letter
        };
        let (mut operator, mut colon) = (next(), false);
        if operator == Some(':') {
            colon = true;
            operator = next();
        }
        let missing = value.as_ref().is_none_or(|value| colon && value.is_empty());
        match operator {
            Some('}') if !colon => Ok(value.unwrap_or_default()),
            Some('-') => {
                let word = self.until(at, Some('}'))?;
                Ok(if missing { word } else { value.unwrap_or_default() })
            }
            Some('+') => {
                let word = self.until(at, Some('}'))?;
                Ok(if missing { String::new() } else { word })
            }
            Some('?') => {
                let word = self.until(at, Some('}'))?;
                if missing {
                    Err(format!("{name}: {}", if word.is_empty() { "is not set" } else { &word }))
                } else {
                    Ok(value.unwrap_or_default())
                }
            }
            _ => Err(format!("`${{{name}…}}` has an operation that this engine's builder does not know")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_as_in_a_dockerfile() {
        let lookup = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "E" => Some(String::new()),
            _ => None,
        };
        for (text, quotes, expected) in [
            ("hello $A $(cat /word) $Z.", false, "hello one $(cat /word) ."),
            ("${A}b ${Z:-d $A} ${E:-e} ${E-e} ${A:+y}${Z+n}", false, "oneb d one e  y"),
            (r"\$A don't", false, "$A don't"),
            (r#"'$A' "$A" "\$A""#, true, "$A one $A"),
            ("$5 $$ $", false, " $$ $"),
        ] {
            assert_eq!(expand(text, &lookup, quotes).unwrap(), expected, "{text}");
        }
        for wrong in ["${A", "${}", "${A%x}", "${Z:?no}"] {
            expand(wrong, &lookup, false).unwrap_err();
        }
    }
}
