//! PURE: reads a psql script just closely enough to know whether it can run in one transaction, and where its
//! statements and its COPY data are.
//!
//! A cheap scan, no parser: what it misses is caught by the server (`cannot run inside a transaction block`) and by the
//! ledger, whose row is refused if the script has ended the transaction that it ran in.

use std::ops::Range;

/// What was found in a whole script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The first thing that cannot run in a transaction of ours: its line and its words.
    pub refuses: Option<(u64, String)>,
    /// A `BEGIN;` first and a `COMMIT;` last with no other transaction between: the bytes of both.
    pub wrapper: Option<[Range<u64>; 2]>,
    /// The lines of `COPY … FROM stdin` and of the end of its data.
    pub copies: Vec<Range<u64>>,
    /// In what it ends, if not between statements.
    pub open: Option<&'static str>,
    /// The last statement lacks its semicolon, which psql forgives at the end of a file.
    pub unfinished: bool,
    pub lines: u64,
    /// After decompression.
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Plain,
    Single { escapes: bool },
    Double,
    Dollar(Vec<u8>),
    Comment { depth: u32 },
    Copy { from: u64 },
}

/// Fed with the script's lines, each with its line end.
pub(crate) struct Scanner {
    mode: Mode,
    line: u64,
    offset: u64,
    parentheses: u32,
    /// Depth of `BEGIN ATOMIC … END` and `CASE … END` in a routine's body.
    blocks: u32,
    words: Vec<String>,
    start: Option<(u64, u64)>,
    copy_next: bool,
    first: Option<(Kind, Range<u64>)>,
    last: Option<(Kind, Range<u64>)>,
    statements: u64,
    controls: u64,
    control_line: Option<(u64, String)>,
    scan: Scan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ordinary,
    /// `BEGIN` with nothing special about it.
    Begin,
    /// `COMMIT` with nothing special about it.
    Commit,
    /// Any other word that steers a transaction.
    Control,
    /// Refused by the server inside of a transaction.
    Alone,
}

const WORDS_KEPT: usize = 48;
const COPIES_KEPT: usize = 100_000;

impl Default for Scanner {
    fn default() -> Self {
        Self {
            mode: Mode::Plain,
            line: 0,
            offset: 0,
            parentheses: 0,
            blocks: 0,
            words: Vec::new(),
            start: None,
            copy_next: false,
            first: None,
            last: None,
            statements: 0,
            controls: 0,
            control_line: None,
            scan: Scan::default(),
        }
    }
}

impl Scanner {
    pub(crate) fn line(&mut self, line: &[u8]) {
        self.line += 1;
        if let Mode::Copy { from } = self.mode {
            if line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line)) == b"\\." {
                self.end_copy(from);
            }
        } else {
            self.plain_line(line);
            if self.copy_next && self.mode == Mode::Plain {
                self.copy_next = false;
                self.mode = Mode::Copy { from: self.line };
            }
        }
        self.offset += line.len() as u64;
    }

    pub(crate) fn finish(mut self) -> Scan {
        self.scan.open = match &self.mode {
            Mode::Plain => None,
            Mode::Single { .. } => Some("a string"),
            Mode::Double => Some("a quoted name"),
            Mode::Dollar(_) => Some("a dollar-quoted string"),
            Mode::Comment { .. } => Some("a comment"),
            // As psql does: the end of the file ends the data.
            Mode::Copy { from } => {
                self.end_copy(*from);
                Some("COPY data: the line `\\.` is missing")
            }
        };
        if self.start.is_some() && self.mode == Mode::Plain {
            self.scan.unfinished = true;
            self.end_statement(self.offset);
        }
        if self.controls > 0 && self.scan.refuses.is_none() {
            match (self.first.take(), self.last.take()) {
                (Some((Kind::Begin, begin)), Some((Kind::Commit, commit))) if self.controls == 2 => {
                    self.scan.wrapper = Some([begin, commit]);
                }
                _ => self.scan.refuses = self.control_line.take(),
            }
        }
        self.scan.lines = self.line;
        self.scan.bytes = self.offset;
        self.scan
    }

    fn end_copy(&mut self, from: u64) {
        if self.scan.copies.len() < COPIES_KEPT {
            self.scan.copies.push(from..self.line);
        }
        self.mode = Mode::Plain;
    }

    fn plain_line(&mut self, line: &[u8]) {
        let mut at = 0;
        while at < line.len() {
            let rest = &line[at..];
            let step = match &mut self.mode {
                Mode::Single { escapes } => match rest[0] {
                    b'\\' if *escapes => 2,
                    b'\'' if rest.get(1) == Some(&b'\'') => 2,
                    b'\'' => {
                        self.mode = Mode::Plain;
                        1
                    }
                    _ => 1,
                },
                Mode::Double => {
                    if rest[0] == b'"' {
                        self.mode = Mode::Plain;
                    }
                    1
                }
                Mode::Dollar(tag) => {
                    if rest.starts_with(tag) {
                        let length = tag.len();
                        self.mode = Mode::Plain;
                        length
                    } else {
                        1
                    }
                }
                Mode::Comment { depth } => {
                    if rest.starts_with(b"*/") {
                        *depth -= 1;
                        if *depth == 0 {
                            self.mode = Mode::Plain;
                        }
                        2
                    } else if rest.starts_with(b"/*") {
                        *depth += 1;
                        2
                    } else {
                        1
                    }
                }
                Mode::Plain => self.plain(line, at),
                Mode::Copy { .. } => rest.len(),
            };
            at += step;
        }
    }

    /// One token between statements or in one; how many bytes it has.
    fn plain(&mut self, line: &[u8], at: usize) -> usize {
        let rest = &line[at..];
        if rest.starts_with(b"--") {
            return rest.len();
        }
        if rest.starts_with(b"/*") {
            self.mode = Mode::Comment { depth: 1 };
            return 2;
        }
        let byte = rest[0];
        if byte.is_ascii_whitespace() {
            return 1;
        }
        if byte == b'\\' {
            return self.meta_command(rest, at);
        }
        if byte == b';' && self.parentheses == 0 && self.blocks == 0 {
            if self.start.is_some() {
                self.end_statement(self.offset + at as u64 + 1);
            }
            return 1;
        }
        self.start.get_or_insert((self.line, self.offset + at as u64));
        match byte {
            b'\'' => self.mode = Mode::Single { escapes: false },
            b'"' => self.mode = Mode::Double,
            b'(' => self.parentheses += 1,
            b')' => self.parentheses = self.parentheses.saturating_sub(1),
            b'$' => {
                if let Some(tag) = dollar_tag(rest) {
                    self.mode = Mode::Dollar(tag.to_vec());
                    return tag.len();
                }
            }
            _ if is_word(byte) => {
                let length = rest.iter().position(|byte| !is_word(*byte) && *byte != b'$').unwrap_or(rest.len());
                if length == 1 && matches!(byte, b'e' | b'E') && rest.get(1) == Some(&b'\'') {
                    self.mode = Mode::Single { escapes: true };
                    return 2;
                }
                self.word(&rest[..length]);
                return length;
            }
            _ => {}
        }
        1
    }

    fn word(&mut self, word: &[u8]) {
        let word = String::from_utf8_lossy(word).to_ascii_uppercase();
        // A routine's body in SQL holds semicolons that end no statement.
        if self.words.first().is_some_and(|first| first == "CREATE")
            && self.words.iter().any(|word| word == "FUNCTION" || word == "PROCEDURE")
        {
            match word.as_str() {
                "BEGIN" => self.blocks += 1,
                "CASE" if self.blocks > 0 => self.blocks += 1,
                "END" => self.blocks = self.blocks.saturating_sub(1),
                _ => {}
            }
        }
        if self.parentheses == 0 && self.words.len() < WORDS_KEPT {
            self.words.push(word);
        }
    }

    fn meta_command(&mut self, rest: &[u8], at: usize) -> usize {
        let text = String::from_utf8_lossy(rest);
        let mut parts = text[1..].split_whitespace();
        let name = parts.next().unwrap_or_default().to_owned();
        match name.as_str() {
            "c" | "connect" => self.refuse(self.line, format!("\\{name}")),
            "copy" => {
                let text = text.to_ascii_lowercase();
                self.copy_next = text.contains(" from stdin") || text.contains(" from pstdin");
            }
            _ if name.starts_with('g') && self.start.is_some() => self.end_statement(self.offset + at as u64),
            _ if name.starts_with(';') => return 2,
            _ => {}
        }
        rest.len()
    }

    fn refuse(&mut self, line: u64, what: String) {
        self.scan.refuses.get_or_insert((line, what));
    }

    fn end_statement(&mut self, end: u64) {
        let (line, start) = self.start.take().unwrap_or((self.line, end));
        let words = std::mem::take(&mut self.words);
        self.parentheses = 0;
        self.blocks = 0;
        self.statements += 1;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let kind = classify(&words);
        match kind {
            Kind::Ordinary => {
                self.copy_next = words.first() == Some(&"COPY") && words.windows(2).any(|pair| pair == ["FROM", "STDIN"]);
            }
            Kind::Alone => self.refuse(line, words.iter().take(4).copied().collect::<Vec<_>>().join(" ")),
            Kind::Begin | Kind::Commit | Kind::Control => {
                self.controls += 1;
                self.control_line.get_or_insert((line, words.first().copied().unwrap_or_default().to_owned()));
            }
        }
        let found = (kind, start..end);
        self.first.get_or_insert_with(|| found.clone());
        self.last = Some(found);
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// `$$` or `$tag$`, and no parameter such as `$1`.
fn dollar_tag(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().skip(1).position(|byte| *byte == b'$')? + 1;
    let tag = &text[1..end];
    (tag.iter().all(|byte| is_word(*byte)) && !tag.first().is_some_and(u8::is_ascii_digit)).then_some(&text[..=end])
}

fn classify(words: &[&str]) -> Kind {
    let has = |word: &str| words.contains(&word);
    match words {
        ["BEGIN"] | ["BEGIN" | "START", "TRANSACTION"] | ["BEGIN", "WORK"] => Kind::Begin,
        ["COMMIT" | "END"] | ["COMMIT" | "END", "TRANSACTION" | "WORK"] => Kind::Commit,
        ["ROLLBACK", rest @ ..] if rest.contains(&"TO") => Kind::Ordinary,
        ["BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "ABORT", ..] | ["START" | "PREPARE", "TRANSACTION", ..] => Kind::Control,
        ["VACUUM", ..]
        | ["CREATE" | "DROP", "DATABASE" | "TABLESPACE" | "SUBSCRIPTION", ..]
        | ["ALTER", "SYSTEM", ..]
        | ["CLUSTER"]
        | ["REINDEX", "DATABASE" | "SYSTEM" | "SCHEMA", ..] => Kind::Alone,
        ["ALTER", "DATABASE", ..] if has("TABLESPACE") => Kind::Alone,
        ["CREATE" | "DROP" | "REINDEX" | "ALTER", ..] if has("CONCURRENTLY") => Kind::Alone,
        _ => Kind::Ordinary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Scan {
        let mut scanner = Scanner::default();
        for line in text.split_inclusive('\n') {
            scanner.line(line.as_bytes());
        }
        scanner.finish()
    }

    fn refuses(text: &str) -> Option<u64> {
        scan(text).refuses.map(|(line, _)| line)
    }

    #[test]
    fn what_cannot_run_in_a_transaction_is_found_at_its_line() {
        assert_eq!(scan("-- x\nCREATE INDEX CONCURRENTLY i ON t (a);\n").refuses, Some((2, "CREATE INDEX CONCURRENTLY I".into())));
        for text in [
            "vacuum;",
            "CREATE DATABASE x;",
            "alter system set a = 1;",
            "create unique index concurrently a on b(c)",
            "\\c other\n",
            "BEGIN; SELECT 1; COMMIT; SELECT 2;",
            "ROLLBACK;",
            "REINDEX TABLE CONCURRENTLY t;",
        ] {
            assert_eq!(refuses(text), Some(1), "{text}");
        }
    }

    #[test]
    fn words_in_strings_comments_data_and_bodies_count_for_nothing() {
        for text in [
            "INSERT INTO t VALUES ('; VACUUM; ''; COMMIT;');\n",
            "/* ; VACUUM; /* COMMIT; */ BEGIN; */ SELECT 1;",
            "SELECT E'\\'; VACUUM; '; SELECT 1;",
            "DO $$ BEGIN PERFORM 1; END; $$;\n",
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $body$\nBEGIN\nRETURN 1;\nEND;\n$body$;\n",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;\nSELECT 1;",
            "COPY note FROM stdin;\n;VACUUM;\nCOMMIT;\n\\.\nSELECT 1;\n",
            "CREATE TABLE \"vacuum;\" (a int);",
            "SAVEPOINT a; ROLLBACK TO SAVEPOINT a;",
            "\\echo VACUUM; COMMIT;\nselect 1;",
            "SELECT $1; PREPARE p AS SELECT $1;",
        ] {
            assert_eq!(refuses(text), None, "{text}");
        }
    }

    #[test]
    fn a_script_that_is_one_transaction_of_its_own_gives_it_up() {
        let text = "-- head\nBEGIN;\nSELECT 1;\nCOMMIT;\n";
        let found = scan(text);
        let [begin, commit] = found.wrapper.unwrap();
        assert_eq!(&text[begin.start as usize..begin.end as usize], "BEGIN;");
        assert_eq!(&text[commit.start as usize..commit.end as usize], "COMMIT;");
        assert_eq!(found.refuses, None);
        assert_eq!(scan("BEGIN ISOLATION LEVEL SERIALIZABLE;\nCOMMIT;").wrapper, None);
    }

    #[test]
    fn copy_data_is_known_by_its_lines_and_an_open_end_by_its_name() {
        let found = scan("SELECT 1;\nCOPY a (b, c)\n FROM stdin;\n1\n2\n\\.\nCOPY b FROM stdin;\nx\n");
        assert_eq!(found.copies, [3..6, 7..8]);
        assert_eq!(found.open, Some("COPY data: the line `\\.` is missing"));
        assert_eq!(scan("SELECT 'a").open, Some("a string"));
        assert_eq!((scan("SELECT 1").open, scan("SELECT 1").unfinished, scan("SELECT 1; -- x").unfinished), (None, true, false));
        assert_eq!(scan("SELECT $a$ $b$").open, Some("a dollar-quoted string"));
    }
}
