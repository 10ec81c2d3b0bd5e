//! PURE: psql's backslash commands: their names and arguments, and where SQL continues after them.

/// One command with its arguments, as far as they are known before it runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MetaCommand {
    pub(super) name: String,
    /// Without their quotes. For commands that take the whole line, the line.
    pub(super) arguments: Vec<Argument>,
    /// From its backslash to where SQL continues.
    pub(super) length: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) text: String,
    /// It contains a variable or the output of a program, so its text is not known.
    pub(super) computed: bool,
}

/// Commands that take everything up to the line's end.
const WHOLE_LINE: [&str; 9] = ["copy", "!", "ef", "ev", "sf", "sv", "h", "help", "?"];

/// `rest` begins with the backslash.
pub(super) fn read(rest: &[u8]) -> MetaCommand {
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\\';
    let end = 1 + rest[1..].iter().position(is_end).unwrap_or(rest.len() - 1);
    let name = String::from_utf8_lossy(&rest[1..end]).into_owned();
    let whole = |from: usize| {
        let text = String::from_utf8_lossy(&rest[from..]).trim().to_owned();
        vec![Argument { text, computed: false }]
    };
    if WHOLE_LINE.contains(&name.as_str()) {
        return MetaCommand { name, arguments: whole(end), length: rest.len() };
    }
    let mut arguments = Vec::new();
    let mut at = end;
    loop {
        at += rest[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        match rest.get(at) {
            None => break,
            Some(b'\\') => {
                at += if rest.get(at + 1) == Some(&b'\\') { 2 } else { 0 };
                break;
            }
            // A program takes the rest of the line.
            Some(b'|') if name.starts_with('g') || ["o", "out", "w", "write"].contains(&name.as_str()) => {
                arguments.extend(whole(at));
                at = rest.len();
                break;
            }
            Some(_) => {
                let (argument, next) = argument(rest, at);
                arguments.push(argument);
                at = next;
            }
        }
    }
    MetaCommand { name, arguments, length: at }
}

fn argument(rest: &[u8], mut at: usize) -> (Argument, usize) {
    let (mut text, mut computed, mut quote) = (Vec::new(), false, None);
    while let Some(&byte) = rest.get(at) {
        match (quote, byte) {
            (None, b'\\') => break,
            (None, byte) if byte.is_ascii_whitespace() => break,
            (None, b'\'' | b'"' | b'`') => {
                quote = Some(byte);
                computed |= byte == b'`';
            }
            (None, b':') => {
                computed |= rest.get(at + 1).is_some_and(|next| next.is_ascii_alphanumeric() || matches!(next, b'_' | b'\'' | b'"' | b'{'));
                text.push(byte);
            }
            (Some(b'\''), b'\'') if rest.get(at + 1) == Some(&b'\'') => {
                text.push(b'\'');
                at += 1;
            }
            (Some(b'\''), b'\\') => {
                at += 1;
                text.extend(rest.get(at).map(|escaped| match escaped {
                    b'n' => b'\n',
                    b't' => b'\t',
                    other => *other,
                }));
            }
            (Some(open), byte) if open == byte => quote = None,
            (_, byte) => text.push(byte),
        }
        at += 1;
    }
    let text = String::from_utf8_lossy(&text).trim_end_matches(['\r', '\n']).to_owned();
    (Argument { text, computed }, at.min(rest.len()))
}

/// Where the rows of a `\copy … from` come from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CopySource {
    /// The lines after it.
    Script,
    /// The standard input of psql itself.
    Terminal,
    File(String),
    Program,
    /// It copies to somewhere.
    None,
}

/// `\copy table (a, b) from 'file' with csv`: psql splits at spaces, and understands quotes and parentheses.
pub(super) fn copy_source(text: &str) -> CopySource {
    let mut tokens = tokens(text).into_iter();
    let mut depth = 0i32;
    let direction = tokens.by_ref().find(|token| {
        depth += match token.as_str() {
            "(" => 1,
            ")" => -1,
            _ => 0,
        };
        depth == 0 && (token.eq_ignore_ascii_case("from") || token.eq_ignore_ascii_case("to"))
    });
    if !direction.is_some_and(|direction| direction.eq_ignore_ascii_case("from")) {
        return CopySource::None;
    }
    match tokens.next() {
        Some(word) if word.eq_ignore_ascii_case("stdin") => CopySource::Script,
        Some(word) if word.eq_ignore_ascii_case("pstdin") => CopySource::Terminal,
        Some(word) if word.eq_ignore_ascii_case("program") => CopySource::Program,
        Some(file) => CopySource::File(
            file.strip_prefix('\'').and_then(|file| file.strip_suffix('\'')).map_or(file.clone(), |name| name.replace("''", "'")),
        ),
        None => CopySource::None,
    }
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            _ if character.is_whitespace() || character == ';' => {}
            '(' | ')' | ',' => tokens.push(character.to_string()),
            '\'' | '"' => {
                let mut token = String::from(character);
                while let Some(inner) = characters.next() {
                    token.push(inner);
                    if inner == character && characters.peek() != Some(&character) {
                        break;
                    } else if inner == character {
                        token.extend(characters.next());
                    }
                }
                tokens.push(token);
            }
            _ => {
                let mut token = String::from(character);
                while let Some(inner) =
                    characters.next_if(|next| !next.is_whitespace() && !matches!(next, '(' | ')' | ',' | ';' | '\'' | '"'))
                {
                    token.push(inner);
                }
                tokens.push(token);
            }
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let found = read(text.as_bytes());
        let arguments: Vec<String> =
            found.arguments.iter().map(|argument| format!("<{}>{}", argument.text, if argument.computed { "?" } else { "" })).collect();
        format!("{} {} {}", found.name, arguments.join(""), &text[found.length..]).trim_end().to_owned()
    }

    #[test]
    fn a_command_ends_where_psql_ends_it() {
        for (text, wanted) in [
            ("\\i tables/a.sql\n", "i <tables/a.sql>"),
            ("\\ir 'it''s a file.sql'", "ir <it's a file.sql>"),
            ("\\i :dir/x.sql", "i <:dir/x.sql>?"),
            ("\\echo a \\\\ select 1;", "echo <a>  select 1;"),
            ("\\echo a \\i b", "echo <a> \\i b"),
            ("\\! psql -c 'x' \\ y", "! <psql -c 'x' \\ y>"),
            ("\\set x 'a b' c", "set <x><a b><c>"),
            ("\\gset", "gset"),
            ("\\g | cat \\ x", "g <| cat \\ x>"),
            ("\\set now `date`", "set <now><date>?"),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
        }
    }

    #[test]
    fn the_rows_of_a_copy_come_from_where_it_says() {
        for (text, wanted) in [
            ("item from stdin", CopySource::Script),
            ("item (a, b) FROM STDIN with (format csv);", CopySource::Script),
            ("item from pstdin", CopySource::Terminal),
            ("item from 'data/it''s.csv' csv", CopySource::File("data/it's.csv".into())),
            ("public.\"from\" from data.csv", CopySource::File("data.csv".into())),
            ("item from program 'cat x'", CopySource::Program),
            ("(select 1 from t) to 'x'", CopySource::None),
        ] {
            assert_eq!(copy_source(text), wanted, "{text}");
        }
    }
}
