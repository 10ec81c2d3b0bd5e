//! PURE: splits a line into tokens as psql does: where strings, comments, bodies and statements begin and end.
//!
//! It follows the rules of psql's lexer, which works on one line at a time and carries its state from line to line. The
//! [`super::scan`] decides what the tokens mean; this module never does.

/// The result of one step of the lexer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// An unquoted identifier or keyword.
    Word(&'a [u8]),
    /// A semicolon that ends a statement.
    Semicolon,
    /// `\;`: a semicolon that only divides what is sent to the server together.
    Divider,
    /// A backslash that begins a meta-command.
    Backslash,
    /// A part of a statement: an operator, a number, a quote or quoted text.
    Other,
    /// Whitespace and comments. The text is that of a comment up to the line's end, and empty otherwise.
    Space(&'a [u8]),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Initial,
    /// A string in which a backslash is an ordinary character.
    Quote,
    /// A string in which a backslash escapes.
    Escape,
    /// `b'…'` or `x'…'`: two quotes end it and begin another one.
    Digits,
    Identifier,
    Dollar(Vec<u8>),
    /// The number of open comments, minus one.
    Comment(u32),
}

/// Its state between two lines.
#[derive(Debug, Clone, Default)]
pub(super) struct Lexer {
    pub(super) state: State,
    pub(super) parentheses: u32,
    /// Depth of `BEGIN … END` and `CASE … END` in a routine's body in SQL.
    pub(super) blocks: u32,
    identifiers: usize,
    /// First letters of `create`, `or`, `replace`, `function`, `procedure` among the first four identifiers.
    head: [u8; 4],
}

impl Lexer {
    /// The token at `at`, and how many bytes it has.
    pub(super) fn next<'a>(&mut self, line: &'a [u8], at: usize, standard_strings: bool) -> (Token<'a>, usize) {
        let rest = &line[at..];
        match &mut self.state {
            State::Initial => self.initial(rest, standard_strings),
            State::Quote => (Token::Other, self.in_string(rest, false)),
            State::Escape => (Token::Other, self.in_string(rest, true)),
            State::Digits => (Token::Other, self.until(rest, b'\'')),
            State::Identifier => (Token::Other, self.until(rest, b'"')),
            State::Dollar(tag) => match find(rest, tag) {
                Some(found) => {
                    let length = found + tag.len();
                    self.state = State::Initial;
                    (Token::Other, length)
                }
                None => (Token::Other, rest.len()),
            },
            State::Comment(_) => (Token::Space(b""), self.in_comment(rest)),
        }
    }

    /// Forgets an unfinished statement.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// A statement was sent to the server other than by a semicolon.
    pub(super) fn end_statement(&mut self) {
        self.identifiers = 0;
        self.parentheses = 0;
        self.blocks = 0;
    }

    fn initial<'a>(&mut self, rest: &'a [u8], standard_strings: bool) -> (Token<'a>, usize) {
        if rest.starts_with(b"--") {
            let length = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
            return (Token::Space(&rest[..length]), length);
        }
        if rest.starts_with(b"/*") {
            self.state = State::Comment(0);
            return (Token::Space(b""), 2);
        }
        match rest[0] {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0c => (Token::Space(b""), 1),
            b'\\' if rest.get(1) == Some(&b';') => {
                self.identifiers = 0;
                (Token::Divider, 2)
            }
            b'\\' if rest.get(1) == Some(&b':') => (Token::Other, 2),
            b'\\' => (Token::Backslash, 1),
            b';' if self.parentheses == 0 && self.blocks == 0 => {
                self.identifiers = 0;
                (Token::Semicolon, 1)
            }
            b'(' => {
                self.parentheses += 1;
                (Token::Other, 1)
            }
            b')' => {
                self.parentheses = self.parentheses.saturating_sub(1);
                (Token::Other, 1)
            }
            b'\'' => {
                self.state = if standard_strings { State::Quote } else { State::Escape };
                (Token::Other, 1)
            }
            b'"' => {
                self.state = State::Identifier;
                (Token::Other, 1)
            }
            b':' => (Token::Other, colon(rest)),
            b'$' => match dollar_tag(rest) {
                Some(tag) => {
                    self.state = State::Dollar(tag.to_vec());
                    (Token::Other, tag.len())
                }
                None => (Token::Other, 1),
            },
            byte if begins_word(byte) => self.word(rest),
            _ => (Token::Other, 1),
        }
    }

    fn word<'a>(&mut self, rest: &'a [u8]) -> (Token<'a>, usize) {
        let length = rest.iter().position(|byte| !continues_word(*byte)).unwrap_or(rest.len());
        if length == 1 {
            match (rest[0].to_ascii_lowercase(), rest.get(1), rest.get(2)) {
                (b'e', Some(b'\''), _) => return self.string(State::Escape, 2),
                (b'b' | b'x', Some(b'\''), _) => return self.string(State::Digits, 2),
                (b'u', Some(b'&'), Some(b'\'')) => return self.string(State::Quote, 3),
                (b'u', Some(b'&'), Some(b'"')) => return self.string(State::Identifier, 3),
                // National characters: psql reads the letter by itself, and the string like any other.
                (b'n', Some(b'\''), _) => return (Token::Other, 1),
                _ => {}
            }
        }
        let word = &rest[..length];
        self.count(word);
        (Token::Word(word), length)
    }

    fn string<'a>(&mut self, state: State, length: usize) -> (Token<'a>, usize) {
        self.state = state;
        (Token::Other, length)
    }

    /// An SQL body exists only directly after `CREATE [OR REPLACE] FUNCTION|PROCEDURE`, outside of parentheses.
    fn count(&mut self, word: &[u8]) {
        let is = |other: &str| word.eq_ignore_ascii_case(other.as_bytes());
        if self.identifiers == 0 {
            self.head = [0; 4];
        }
        if self.identifiers < self.head.len() && ["create", "function", "procedure", "or", "replace"].iter().any(|other| is(other)) {
            self.head[self.identifiers] = word[0].to_ascii_lowercase();
        }
        self.identifiers += 1;
        let routine = matches!(self.head, [b'c', b'f' | b'p', ..] | [b'c', b'o', b'r', b'f' | b'p']);
        if !routine || self.parentheses > 0 {
            return;
        }
        if is("begin") || is("case") && self.blocks > 0 {
            self.blocks += 1;
        } else if is("end") {
            self.blocks = self.blocks.saturating_sub(1);
        }
    }

    fn in_string(&mut self, rest: &[u8], escapes: bool) -> usize {
        match rest {
            [b'\\', _, ..] if escapes => 2,
            [b'\'', b'\'', ..] => 2,
            [b'\'', ..] => {
                self.state = State::Initial;
                1
            }
            _ => rest.iter().skip(1).position(|byte| matches!(byte, b'\'' | b'\\')).map_or(rest.len(), |found| found + 1),
        }
    }

    fn until(&mut self, rest: &[u8], end: u8) -> usize {
        match rest.iter().position(|byte| *byte == end) {
            Some(found) => {
                self.state = State::Initial;
                found + 1
            }
            None => rest.len(),
        }
    }

    fn in_comment(&mut self, rest: &[u8]) -> usize {
        let State::Comment(depth) = &mut self.state else { return 1 };
        if rest.starts_with(b"/*") {
            *depth += 1;
            2
        } else if rest.starts_with(b"*/") {
            match depth.checked_sub(1) {
                Some(less) => *depth = less,
                None => self.state = State::Initial,
            }
            2
        } else {
            rest.iter().skip(1).position(|byte| matches!(byte, b'*' | b'/')).map_or(rest.len(), |found| found + 1)
        }
    }
}

/// The length of a cast, of a reference to a psql variable, or of the colon alone.
fn colon(rest: &[u8]) -> usize {
    let name = |from: usize| from + rest[from..].iter().take_while(|byte| begins_word(**byte) || byte.is_ascii_digit()).count();
    match rest {
        [b':', b':' | b'=', ..] => 2,
        [b':', quote @ (b'\'' | b'"'), ..] => {
            let end = name(2);
            if end > 2 && rest.get(end) == Some(quote) { end + 1 } else { 1 }
        }
        [b':', b'{', b'?', ..] => {
            let end = name(3);
            if end > 3 && rest.get(end) == Some(&b'}') { end + 1 } else { 1 }
        }
        _ => name(1),
    }
}

/// `$$` or `$tag$`, but not a parameter such as `$1`.
fn dollar_tag(text: &[u8]) -> Option<&[u8]> {
    let end = 1 + text.iter().skip(1).position(|byte| !begins_word(*byte) && !byte.is_ascii_digit())?;
    (text[end] == b'$' && !text[1].is_ascii_digit()).then_some(&text[..=end])
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}

/// A line in an encoding whose characters contain bytes that look like ASCII, with those bytes masked.
///
/// psql does the same for encodings that no database can have.
pub(super) fn masked(line: &[u8], encoding: &str) -> Option<Vec<u8>> {
    let encoding = encoding.to_ascii_lowercase().replace(['-', '_', ' '], "");
    let four_bytes = encoding == "gb18030";
    let unsafe_ones =
        ["sjis", "shiftjis", "mskanji", "win932", "windows932", "shiftjis2004", "big5", "win950", "windows950", "gbk", "win936"];
    let more = ["windows936", "uhc", "win949", "windows949", "johab"];
    if !four_bytes && !unsafe_ones.contains(&encoding.as_str()) && !more.contains(&encoding.as_str()) {
        return None;
    }
    let half_width = encoding.contains("jis") || encoding.ends_with("932") || encoding == "mskanji";
    let mut line = line.to_vec();
    let mut at = 0;
    while at < line.len() {
        let byte = line[at];
        let length = match byte {
            0..0x80 => 1,
            0xa1..=0xdf if half_width => 1,
            _ if four_bytes && line.get(at + 1).is_some_and(u8::is_ascii_digit) => 4,
            _ => 2,
        };
        let end = (at + length).min(line.len());
        for trailing in &mut line[at + 1..end] {
            if !matches!(trailing, b'\r' | b'\n') {
                *trailing = 0xff;
            }
        }
        at = end;
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words outside of quotes, with `;` for each end of a statement, and the state at the end.
    fn lexed(text: &str, standard_strings: bool) -> (String, State) {
        let (mut lexer, mut words) = (Lexer::default(), Vec::new());
        for line in text.split_inclusive('\n') {
            let mut at = 0;
            while at < line.len() {
                let (token, length) = lexer.next(line.as_bytes(), at, standard_strings);
                match token {
                    Token::Word(word) => words.push(String::from_utf8_lossy(word).into_owned()),
                    Token::Semicolon => words.push(";".into()),
                    Token::Divider => words.push("|".into()),
                    Token::Backslash => words.push("\\".into()),
                    Token::Other | Token::Space(_) => {}
                }
                at += length;
            }
        }
        (words.join(" "), lexer.state)
    }

    #[test]
    fn strings_comments_and_bodies_are_divided_as_psql_divides_them() {
        for (text, wanted) in [
            ("select 'a;b', \"c;d\", $$e;f$$, $x$ $y$ ; $x$;", "select ;"),
            ("select 'it''s; ', E'\\';', e'\\\\';", "select ;"),
            ("select b'0', x'1f;', n'a;', u&'\\0061;', U&\"d;\" uescape '!';", "select uescape ;"),
            ("/* a /* ; */ ; */ select 1 -- ; \n ;", "select ;"),
            ("select a--b;\n;", "select a ;"),
            ("select 1 +/* ; */ 2;", "select ;"),
            ("select foo$1$bar;", "select foo$1$bar ;"),
            ("select $1;", "select ;"),
            ("select a::text, :name, :'it', :\"col\", :{?x}, b[1:2];", "select a text b ;"),
            ("select :'open ; '", "select"),
            ("select 'a' 'b;';", "select ;"),
            ("create table t (begin int, atomic int); select 1;", "create table t begin int atomic int ; select ;"),
            ("create function f(begin int) returns int as $$;$$; x;", "create function f begin int returns int as ; x ;"),
            (
                "create function f() begin atomic select 1; select case when a then 1 end; end; y;",
                "create function f begin atomic select select case when a then end end ; y ;",
            ),
            ("create or replace procedure p() begin atomic a; end; z;", "create or replace procedure p begin atomic a end ; z ;"),
            ("create function \"begin\"() as 'x'; y;", "create function as ; y ;"),
            ("create index begin on t (a); y;", "create index begin on t a ; y ;"),
            ("create function f() returns int return begin; y;", "create function f returns int return begin y"),
            ("create rule r as on insert to t do (a; b); c;", "create rule r as on insert to t do a b ; c ;"),
            ("select (1;2); x;", "select ; x ;"),
            ("select ); x;", "select ; x ;"),
            ("begin\\; select 1\\; commit;", "begin | select | commit ;"),
            ("select 1 \\g\n", "select \\ g"),
            ("nation'x;' t", "nation t"),
        ] {
            assert_eq!(lexed(text, true).0, wanted, "{text}");
        }
    }

    #[test]
    fn an_open_end_is_known_by_its_state() {
        for (text, wanted) in [
            ("select 'a", State::Quote),
            ("select e'a\\'", State::Escape),
            ("select \"a", State::Identifier),
            ("select $a$ $b$", State::Dollar(b"$a$".to_vec())),
            ("/* /* */", State::Comment(0)),
            ("select x'1", State::Digits),
            ("select 'C:\\';", State::Initial),
        ] {
            assert_eq!(lexed(text, true).1, wanted, "{text}");
        }
        assert_eq!(lexed("select 'it\\'s; ';", false), ("select ;".into(), State::Initial));
        assert_eq!(lexed("select 'C:\\';", false).1, State::Escape);
    }

    #[test]
    fn bytes_of_a_character_are_no_quotes() {
        // The second byte of this Shift JIS character is a backslash.
        assert_eq!(masked(b"E'\x95\x5c'", "SJIS"), Some(b"E'\x95\xff'".to_vec()));
        assert_eq!(masked(b"\xb1'", "sjis"), Some(b"\xb1'".to_vec()));
        assert_eq!(masked(b"\x81\x30\x81\x30'", "GB18030"), Some(b"\x81\xff\xff\xff'".to_vec()));
        assert_eq!(masked(b"\x81\x5c'", "UTF8"), None);
    }
}
