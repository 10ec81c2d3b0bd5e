//! The only place that prints: data to stdout, messages to stderr.
//!
//! Colours are left out if the output is no terminal or `NO_COLOR` is set, and never carry meaning
//! alone. With `--json` stdout carries only JSON. All text passes [`visible`], because much of it comes from elsewhere.

use std::{
    cell::RefCell,
    fmt,
    io::{self, BufRead, BufWriter, IsTerminal, Stdout, Write},
};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use devenv_api::{ApiError, ErrorDocument};
use serde::Serialize;

use super::terminal::{visible, visible_json};

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();

/// A line typed by a person.
const LONGEST_ANSWER: u64 = 100;

pub(crate) fn paint(style: Style, text: impl fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

pub(crate) struct Printer {
    json: bool,
    quiet: bool,
    stdout: RefCell<BufWriter<AutoStream<Stdout>>>,
}

impl Printer {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, stdout: RefCell::new(BufWriter::new(anstream::stdout())) }
    }

    pub(crate) fn json(&self) -> bool {
        self.json
    }

    pub(crate) fn quiet(&self) -> bool {
        self.quiet
    }

    /// Whether progress goes to a terminal.
    pub(crate) fn talks_to_terminal() -> bool {
        let ci = std::env::var_os(crate::paths::CI).is_some_and(|value| !value.is_empty() && value != "false" && value != "0");
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        !ci && !dumb && io::stderr().is_terminal()
    }

    /// Text of the result, for a person.
    pub(crate) fn data(&self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(self.stdout.borrow_mut(), "{}", visible(&text.to_string()))
    }

    /// Text of the result that another program reads byte by byte. On a terminal it is filtered like everything else.
    pub(crate) fn exact(&self, text: &str) -> io::Result<()> {
        if io::stdout().is_terminal() {
            return self.data(text);
        }
        self.flush()?;
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.write_all(b"\n")
    }

    /// The result, or one of many, for a program.
    pub(crate) fn document(&self, document: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(document)?;
        writeln!(self.stdout.borrow_mut(), "{}", visible_json(&text))
    }

    /// Prints JSON with `--json`, otherwise the text.
    pub(crate) fn result(&self, document: &impl Serialize, words: impl FnOnce() -> String) -> io::Result<()> {
        if self.json {
            return self.document(document);
        }
        let words = words();
        if words.is_empty() { Ok(()) } else { self.data(words) }
    }

    /// Bytes of another program, as they are.
    pub(crate) fn raw_output(bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    pub(crate) fn raw_error(bytes: &[u8]) -> io::Result<()> {
        io::stderr().lock().write_all(bytes)
    }

    /// Output is buffered until this call: streams call it when nothing more is available, and the end of a command once.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.stdout.borrow_mut().flush()
    }

    /// A message that `--quiet` suppresses.
    pub(crate) fn say(&self, text: impl fmt::Display) {
        if !self.quiet {
            talk(text);
        }
    }

    /// Prints an error: always as text, and as a document with `--json`. Problems that were `shown`
    /// already, each with its line, are not repeated.
    pub(crate) fn failure(&self, error: &ApiError, shown: Option<&str>) {
        match shown {
            Some(shown) => self.tell_block(shown),
            None => error.problems.iter().for_each(talk),
        }
        talk(format_args!("{}: {}", paint(BAD, "error"), error.message));
        if let Some(hint) = &error.hint {
            talk(format_args!("{}: {hint}", paint(NAME, "hint")));
        }
        if self.json {
            // The reader has closed stdout and does not want the document.
            let _ = self.document(&ErrorDocument { error: error.clone() });
        }
    }

    /// Writes to a person at the terminal who is to type something.
    pub(crate) fn ask(text: &str) {
        let mut stderr = io::stderr();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }

    /// Asks a person; anything but yes means no.
    pub(crate) fn confirm(question: &str, answers: &mut dyn BufRead) -> bool {
        Self::ask(question);
        let mut line = String::new();
        let read = io::Read::take(answers, LONGEST_ANSWER).read_line(&mut line);
        read.is_ok() && matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    }

    /// Several lines that `--quiet` suppresses, such as warnings.
    pub(crate) fn say_block(&self, text: &str) {
        if !self.quiet {
            self.tell_block(text);
        }
    }

    /// Prints several lines that `--quiet` does not suppress, such as errors.
    #[expect(clippy::unused_self, reason = "a printer exists while commands run")]
    pub(crate) fn tell_block(&self, text: &str) {
        if !text.trim().is_empty() {
            talk(text.trim_end());
        }
    }
}

/// A closed stderr is not an error. Prints above lines of progress, if there are any.
fn talk(text: impl fmt::Display) {
    let text = text.to_string();
    let text = visible(&text);
    if !super::progress::above(&text) {
        let _ = writeln!(anstream::stderr(), "{text}");
    }
}
