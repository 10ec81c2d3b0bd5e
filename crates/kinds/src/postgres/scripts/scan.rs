//! PURE: reads a psql script as psql does, to find out whether it can run in one transaction, where its COPY data is, and
//! which files it includes.
//!
//! The result is a first guess: a script that is taken for one transaction runs where no other can be committed, and
//! runs outside of a transaction if the server or psql refuses that.

mod found;

use std::ops::Range;

use super::{
    authority,
    lexer::{Lexer, State, Token, masked},
    meta_command::{self, CopySource, MetaCommand},
    statement::{Kind, classify, setting, takes_rows, writes_control},
};
use crate::script::sections;

pub(crate) use found::{End, Named, Role, Scan, Session};

/// Fed with the script's lines, each with its line end.
#[derive(Default)]
pub(crate) struct Scanner {
    lexer: Lexer,
    /// At the beginning of the script.
    initial: Session,
    /// For the current line: psql evaluates it at a line's beginning.
    session: Session,
    next_session: Session,
    line: u64,
    offset: u64,
    words: Vec<String>,
    /// The beginning of the statement, as written.
    text: Vec<u8>,
    start: Option<(u64, u64)>,
    /// The line of the COPY whose data is being read.
    rows_from: Option<u64>,
    /// The number of COPYs of this line that wait for their data.
    rows_next: u32,
    conditions: Vec<u64>,
    conditional: bool,
    quits: bool,
    /// The parts of a statement that `\;` divides.
    compound: Option<Kind>,
    first: Option<(Kind, Range<u64>)>,
    last: Option<(Kind, Range<u64>)>,
    controls: u64,
    control: Option<(u64, String)>,
    local: Option<(u64, String)>,
    /// The line of an unfinished transaction of the script's own.
    begun: Option<u64>,
    /// Statements in it, which psql takes back if it stays unfinished.
    in_begun: bool,
    /// It has taken another role, from which it may return.
    has_taken_role: bool,
    /// The former line ends with `\r\n`.
    windows: bool,
    scan: Scan,
}

const WORDS_KEPT: usize = 48;
const TEXT_KEPT: usize = 400;
const COPIES_KEPT: usize = 100_000;
const FILES_KEPT: usize = 10_000;

impl Scanner {
    pub(crate) fn new(session: Session) -> Self {
        Self { initial: session.clone(), session: session.clone(), next_session: session, ..Self::default() }
    }

    pub(crate) fn line(&mut self, line: &[u8]) {
        self.line += 1;
        if let Some(from) = self.rows_from {
            if line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line)) == b"\\." {
                // For psql, one without a line end is data. For the server it depends on the format.
                self.scan.needs_its_end |= !line.ends_with(b"\n");
                self.end_rows(from);
            }
        } else {
            self.session.clone_from(&self.next_session);
            match masked(line, &self.session.encoding) {
                Some(masked) => self.sql_line(&masked),
                None => self.sql_line(line),
            }
            self.begin_rows();
        }
        self.scan.cut_line = !line.ends_with(b"\n");
        // Rows that end with `\r\n` must end so to their last one, and psql knows how.
        self.scan.needs_its_end |= self.scan.cut_line && self.windows && self.rows_from.is_some();
        self.windows = line.ends_with(b"\r\n");
        self.offset += line.len() as u64;
    }

    pub(crate) fn finish(mut self) -> Scan {
        let in_body = self.lexer.blocks > 0;
        if let Some(from) = self.rows_from {
            self.end_rows(from);
            self.scan.end = End::Rows;
        } else if let Some(open) = self.open() {
            self.fault(self.line, format!("the script ends inside {open}"));
        } else if self.start.is_some() {
            // What psql takes for a body may not be one. It sends everything from there on at the end of the file.
            self.scan.needs_its_end |= in_body;
            self.scan.end = End::Statement;
            self.end_statement(self.offset);
        }
        if let Some(line) = self.conditions.first() {
            self.fault(*line, "this `\\if` has no `\\endif`".to_owned());
        }
        if let Some(line) = self.begun.filter(|_| self.in_begun && !self.quits && !in_body) {
            let message = "the transaction that begins here is never committed, so psql takes everything in it back";
            self.fault(line, message.to_owned());
        }
        let wrapped = match (&self.first, &self.last) {
            (Some((Kind::Begin, begin)), Some((Kind::Commit, commit))) if self.controls == 2 && !self.conditional => {
                Some([begin.clone(), commit.clone()])
            }
            _ => None,
        };
        if wrapped.is_none() {
            let found = self.control.take().or(self.local.take());
            self.scan.refuses = self.scan.refuses.take().or(found);
        } else if self.scan.refuses.is_none() {
            self.scan.wrapper = wrapped;
        }
        self.scan.lines = self.line;
        self.scan.bytes = self.offset;
        self.scan
    }

    /// What the script's end is inside of, if not between statements. The content of a branch of `\if` is not known.
    fn open(&self) -> Option<&'static str> {
        let open = match self.lexer.state {
            State::Initial if self.lexer.parentheses > 0 => "parentheses",
            State::Initial => return None,
            State::Quote | State::Escape | State::Digits => "a string",
            State::Identifier => "a quoted name",
            State::Dollar(_) => "a dollar-quoted string",
            State::Comment(_) => "a comment",
        };
        (!self.conditional).then_some(open)
    }

    fn fault(&mut self, line: u64, what: String) {
        self.scan.fault.get_or_insert((line, what));
    }

    fn begin_rows(&mut self) {
        if self.rows_next > 0 {
            self.rows_next -= 1;
            self.rows_from = Some(self.line);
        }
    }

    fn end_rows(&mut self, from: u64) {
        if self.scan.copies.len() < COPIES_KEPT {
            self.scan.copies.push(from..self.line);
        }
        self.rows_from = None;
        self.begin_rows();
    }

    fn sql_line(&mut self, line: &[u8]) {
        let mut at =
            if self.line == 1 && line.starts_with(b"\xef\xbb\xbf") && self.session.encoding.eq_ignore_ascii_case("utf8") { 3 } else { 0 };
        while at < line.len() {
            let (token, length) = self.lexer.next(line, at, self.session.standard_strings);
            match token {
                Token::Space(comment) => {
                    if !comment.is_empty() {
                        self.comment(comment);
                    }
                    self.keep(b" ");
                    at += length;
                    continue;
                }
                Token::Backslash => {
                    let command = meta_command::read(&line[at..]);
                    self.meta_command_reaches(&command, &line[at..]);
                    self.meta_command(&command, at);
                    at += command.length.max(1);
                    continue;
                }
                Token::Semicolon => {
                    if self.start.is_some() {
                        self.end_statement(self.offset + at as u64 + 1);
                    }
                    at += length;
                    continue;
                }
                Token::Word(word) => {
                    if self.lexer.parentheses == 0 && self.words.len() < WORDS_KEPT {
                        self.words.push(String::from_utf8_lossy(word).to_ascii_uppercase());
                    }
                }
                Token::Divider => {
                    let kind = self.end_part();
                    self.compound = Some(self.compound.unwrap_or(kind));
                }
                Token::Other => {}
            }
            self.start.get_or_insert((self.line, self.offset + at as u64));
            self.keep(&line[at..at + length]);
            at += length;
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.start.is_some() {
            let room = TEXT_KEPT.saturating_sub(self.text.len());
            self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    /// Directives in comments for tools that split scripts.
    fn comment(&mut self, comment: &[u8]) {
        if comment.len() > 200 {
            return;
        }
        if sections::begins_way_down(comment) {
            let message = "the way down of a migration begins here, and psql would run it, too".to_owned();
            self.fault(self.line, message);
        }
        let text = String::from_utf8_lossy(comment).to_ascii_lowercase();
        let words: Vec<&str> = text.trim_start_matches('-').split_whitespace().collect();
        let alone = match words.as_slice() {
            ["+goose", "no", "transaction"] | ["no-transaction"] => true,
            ["migrate:up" | "devenv:", rest @ ..] => rest.iter().any(|word| matches!(*word, "transaction:false" | "transaction=off")),
            _ => false,
        };
        if alone {
            self.refuse(String::from_utf8_lossy(comment).trim().to_owned());
        }
    }

    fn meta_command_reaches(&mut self, command: &MetaCommand, rest: &[u8]) {
        let text = String::from_utf8_lossy(&rest[..command.length.min(rest.len())]).trim_end().to_owned();
        let arguments = text.strip_prefix('\\').and_then(|text| text.strip_prefix(&command.name)).unwrap_or_default();
        let shown = || (self.line, text.chars().take(60).collect());
        if authority::command_reaches(&command.name, arguments.trim_end_matches('\\')) {
            self.scan.reaches.get_or_insert_with(shown);
        } else if authority::command_leaves(&command.name) {
            self.scan.leaves.get_or_insert_with(shown);
        }
    }

    fn meta_command(&mut self, command: &MetaCommand, at: usize) {
        let argument = |number: usize| command.arguments.get(number).map(|argument| argument.text.as_str());
        let named = || command.arguments.first().filter(|argument| !argument.computed).map(|argument| argument.text.clone());
        match command.name.as_str() {
            "c" | "connect" | "!" | "startpipeline" => self.refuse(format!("\\{}", command.name)),
            "i" | "include" => self.file(named(), Role::Script),
            "ir" | "include_relative" => self.file(named(), Role::ScriptBeside),
            "copy" => match meta_command::copy_source(argument(0).unwrap_or_default()) {
                CopySource::Script => self.rows_next += 1,
                CopySource::Terminal => self.scan.needs_its_end = true,
                CopySource::File(path) => self.file(Some(path), Role::Rows),
                CopySource::Program => self.refuse("\\copy from program".to_owned()),
                CopySource::None => {}
            },
            "lo_import" => self.file(named(), Role::Rows),
            "encoding" => {
                if let Some(encoding) = named() {
                    self.next_session.encoding = encoding;
                }
            }
            "set" => match (argument(0), argument(1).unwrap_or_default()) {
                (Some("ON_ERROR_STOP"), value) if !is_on(value) => self.refuse("\\set ON_ERROR_STOP off".to_owned()),
                (Some("AUTOCOMMIT"), value) if !is_on(value) => self.refuse("\\set AUTOCOMMIT off".to_owned()),
                (Some(name), value) if value.ends_with(';') && writes_control(value) => self.refuse(format!("\\set {name} {value}")),
                (Some("SINGLELINE"), value) if is_on(value) => self.refuse("\\set SINGLELINE on".to_owned()),
                _ => {}
            },
            "unset" if argument(0) == Some("ON_ERROR_STOP") => self.refuse("\\unset ON_ERROR_STOP".to_owned()),
            "q" | "quit" => self.quits = true,
            "if" => {
                self.conditional = true;
                self.conditions.push(self.line);
            }
            "endif" => drop(self.conditions.pop()),
            "r" | "reset" => {
                self.lexer.reset();
                self.forget();
            }
            "g" | "gx" | "gdesc" | "gexec" | "gset" | "crosstabview" | "watch" if self.start.is_some() => {
                if command.name == "gexec" && writes_control(&String::from_utf8_lossy(&self.text)) {
                    self.refuse("\\gexec of a transaction's command".to_owned());
                }
                self.end_statement(self.offset + at as u64);
            }
            _ => {}
        }
    }

    fn file(&mut self, path: Option<String>, role: Role) {
        if let Some(path) = path.filter(|_| self.scan.files.len() < FILES_KEPT) {
            self.scan.files.push(Named { line: self.line, path, role });
        }
    }

    fn refuse(&mut self, what: String) {
        self.refuse_at(self.line, what);
    }

    fn refuse_at(&mut self, line: u64, what: String) {
        self.scan.refuses.get_or_insert((line, what));
    }

    fn forget(&mut self) {
        self.start = None;
        self.words.clear();
        self.text.clear();
        self.compound = None;
    }

    fn end_statement(&mut self, end: u64) {
        let (_, start) = self.start.unwrap_or((self.line, end));
        let kind = self.end_part();
        // A statement that is sent together with others cannot be separated from them.
        let kind = if self.compound.is_some() && matches!(kind, Kind::Begin | Kind::Commit) { Kind::Control } else { kind };
        self.lexer.end_statement();
        self.forget();
        let found = (kind, start..end);
        self.first.get_or_insert_with(|| found.clone());
        self.last = Some(found);
    }

    /// A statement, or one part of a combined one, is complete.
    fn end_part(&mut self) -> Kind {
        let line = self.start.map_or(self.line, |(line, _)| line);
        let (words, text) = (std::mem::take(&mut self.words), std::mem::take(&mut self.text));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let text = String::from_utf8_lossy(&text);
        self.settings(&text);
        self.has_taken_role |= authority::statement_takes_role(&words);
        if authority::statement_leaves(&words) {
            let found = if self.has_taken_role { &mut self.scan.leaves } else { &mut self.scan.reaches };
            found.get_or_insert((line, words.iter().take(3).copied().collect::<Vec<_>>().join(" ")));
        }
        let kind = classify(&words, &text);
        self.in_begun |= self.begun.is_some() && matches!(kind, Kind::Ordinary | Kind::Local | Kind::Alone);
        let shown = |count: usize| words.iter().take(count).copied().collect::<Vec<_>>().join(" ");
        match kind {
            Kind::Ordinary => self.rows_next += u32::from(takes_rows(&words)),
            Kind::Alone => self.refuse_at(line, shown(4)),
            Kind::Local if self.begun.is_none() => {
                self.local.get_or_insert((line, shown(3)));
            }
            Kind::Local => {}
            Kind::Begin | Kind::Commit | Kind::Control => {
                self.controls += 1;
                self.control.get_or_insert((line, shown(1)));
                match words.first() {
                    Some(&("BEGIN" | "START")) => drop(self.begun.get_or_insert(line)),
                    _ if words.contains(&"CHAIN") && !words.contains(&"NO") => {}
                    _ if words.get(1) == Some(&"PREPARED") => {}
                    _ => (self.begun, self.in_begun) = (None, false),
                }
            }
        }
        kind
    }

    fn settings(&mut self, text: &str) {
        if let Some(value) = setting(text, "standard_conforming_strings") {
            self.next_session.standard_strings = if value.is_empty() { self.initial.standard_strings } else { is_on(&value) };
        }
        if let Some(value) = setting(text, "client_encoding") {
            self.next_session.encoding = if value.is_empty() { self.initial.encoding.clone() } else { value };
        }
    }
}

/// Parses a boolean as psql and the server do.
pub(super) fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "tru" | "tr" | "t" | "yes" | "ye" | "y" | "1" | "2" | "3" | "interactive")
}

#[cfg(test)]
mod tests;
