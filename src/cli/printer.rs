//! The only place that prints: data to stdout, talk to stderr.
//!
//! Colours are left out by themselves where the output is no terminal or `NO_COLOR` is set, and never carry meaning
//! alone. With `--json` stdout carries nothing but documents.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    io::{self, BufWriter, IsTerminal, Stdout, Write},
    path::{Path, PathBuf},
};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use devenv_api::{ApiError, ErrorDocument, Problem, Severity};
use serde::Serialize;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();

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

    /// Whether talk goes to somebody who looks at it as it happens.
    pub(crate) fn talks_to_terminal() -> bool {
        let ci = std::env::var_os(crate::paths::CI).is_some_and(|value| !value.is_empty() && value != "false" && value != "0");
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        !ci && !dumb && io::stderr().is_terminal()
    }

    /// A piece of the result, for a person.
    pub(crate) fn data(&self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(self.stdout.borrow_mut(), "{text}")
    }

    /// The result, or one of many, for a program.
    pub(crate) fn document(&self, document: &impl Serialize) -> io::Result<()> {
        let mut stdout = self.stdout.borrow_mut();
        serde_json::to_writer(&mut *stdout, document)?;
        stdout.write_all(b"\n")
    }

    /// Either: the document with `--json`, else the words.
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

    /// What was printed is buffered until here: streams call it when nothing more is at hand, the end of a command once.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.stdout.borrow_mut().flush()
    }

    /// Talk that `--quiet` silences.
    pub(crate) fn say(&self, text: impl fmt::Display) {
        if !self.quiet {
            talk(text);
        }
    }

    /// A failure: always told to a person, and as a document where one was asked for.
    pub(crate) fn failure(&self, error: &ApiError, project: Option<&Path>) {
        for problem in &error.problems {
            talk(render_problem(problem, project));
        }
        talk(format_args!("{}: {}", paint(BAD, "error"), error.message));
        if let Some(hint) = &error.hint {
            talk(format_args!("{}: {hint}", paint(NAME, "hint")));
        }
        if self.json {
            // Whoever closed stdout does not want the document.
            let _ = self.document(&ErrorDocument { error: error.clone() });
        }
    }

    /// Problems that do not stop anything, and those of `validate`.
    pub(crate) fn problems(&self, problems: &[Problem], project: Option<&Path>) {
        for problem in problems {
            if problem.severity == Severity::Error || !self.quiet {
                talk(render_problem(problem, project));
            }
        }
    }
}

/// A closed stderr is no reason to fail.
fn talk(text: impl fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

fn render_problem(problem: &Problem, project: Option<&Path>) -> String {
    let path = PathBuf::from(&problem.file);
    let path = match project {
        Some(project) if path.is_relative() && !path.exists() => project.join(path),
        _ => path,
    };
    // Not UTF-8 is one of the problems that are told, so it must not keep the line from being quoted.
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    problem_with_quote(problem, &text)
}

/// The problem as compilers tell it: place, line, a mark under the column, hint.
pub(crate) fn problem_with_quote(problem: &Problem, source: &str) -> String {
    let (word, style) = match problem.severity {
        Severity::Error => ("error", BAD),
        Severity::Warning => ("warning", WARN),
    };
    let Problem { file, line, column, code, message, .. } = problem;
    let mut text = format!("{}: {message}", paint(style, format_args!("{word}[{code}]")));
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let _ = write!(text, "\n{margin}{} {file}:{line}:{column}", paint(DIM, "-->"));
    if let Some(quoted) = source.lines().nth(line.saturating_sub(1) as usize) {
        // A tab takes one column in the count and many on a screen.
        let quoted: String = quoted.chars().take(160).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let place = (column.saturating_sub(1) as usize).min(quoted.chars().count());
        let bar = paint(DIM, "|");
        let _ = write!(text, "\n{margin} {bar}\n{} {bar} {}", paint(DIM, number), quoted.trim_end());
        let _ = write!(text, "\n{margin} {bar} {}{}", " ".repeat(place), paint(style, "^"));
    }
    if let Some(hint) = &problem.hint {
        let _ = write!(text, "\n{margin} {} {hint}", paint(NAME, "= hint:"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: u32, column: u32) -> Problem {
        Problem {
            file: "profiles/shop.yaml".to_owned(),
            line,
            column,
            severity: Severity::Error,
            code: "unknown-field".to_owned(),
            message: "`redis` has no field `maxmemroy`".to_owned(),
            hint: Some("did you mean `maxmemory`?".to_owned()),
        }
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_problem_quotes_its_line_and_marks_its_column() {
        let source = "services:\n  cache:\n    redis: { maxmemroy: 64MiB }\n";
        insta::assert_snapshot!(plain(&problem_with_quote(&problem(3, 14), source)), @"
        error[unknown-field]: `redis` has no field `maxmemroy`
         --> profiles/shop.yaml:3:14
          |
        3 |     redis: { maxmemroy: 64MiB }
          |              ^
          = hint: did you mean `maxmemory`?
        ");
    }

    #[test]
    fn a_problem_beyond_the_file_is_told_without_a_quote() {
        insta::assert_snapshot!(plain(&problem_with_quote(&problem(12, 1), "one line")), @"
        error[unknown-field]: `redis` has no field `maxmemroy`
          --> profiles/shop.yaml:12:1
           = hint: did you mean `maxmemory`?
        ");
    }

    #[test]
    fn tabs_and_columns_beyond_the_line_do_not_move_the_mark_away() {
        let text = plain(&problem_with_quote(&problem(1, 400), "\tdb:"));
        assert!(text.contains("1 |  db:\n  |     ^"), "{text}");
    }
}
