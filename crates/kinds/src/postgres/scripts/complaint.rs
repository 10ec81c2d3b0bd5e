//! PURE except for reading the script again: psql's error, at the failing line of the file.

use std::{
    io::{BufRead, BufReader},
    ops::Range,
    path::Path,
};

use super::{csv::copy_line, included, scan::Scan};
use crate::script::{Script, ScriptError, source};

/// The first error that psql printed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The file, if it is not psql's input.
    pub(super) file: Option<String>,
    pub(super) line: Option<u64>,
    /// The server's five-character error code; psql's own errors have none.
    pub(super) code: Option<String>,
    pub(super) message: String,
    hint: Option<String>,
    excerpt: Option<String>,
    copy_row: Option<u64>,
}

impl Complaint {
    /// The first error among notices, with its details.
    pub(super) fn read(said: &str) -> Option<Self> {
        let mut lines = said.lines();
        let is_error = |text: &str| {
            ["ERROR:", "FATAL:", "error:"]
                .iter()
                .find_map(|word| text.split_once(word).map(|(before, rest)| (before.to_owned(), rest.trim().to_owned())))
        };
        let (before, message) = lines.by_ref().find_map(is_error)?;
        let (file, line) = place(&before);
        let (code, message) = match message.split_once(": ") {
            Some((code, rest)) if code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) => {
                (Some(code.to_owned()), rest.trim().to_owned())
            }
            _ => (None, message),
        };
        let mut found = Self { file, line, code, message, ..Self::default() };
        for line in lines {
            if line.starts_with("psql:") {
                break;
            } else if let Some(detail) = line.strip_prefix("DETAIL:") {
                found.message = format!("{} ({})", found.message, detail.trim());
            } else if let Some(hint) = line.strip_prefix("HINT:") {
                found.hint = Some(hint.trim().to_owned());
            } else if let Some(context) = line.strip_prefix("CONTEXT:") {
                found.copy_row = copy_line(context);
            } else if let Some((_, excerpt)) = line.strip_prefix("LINE ").and_then(|line| line.split_once(": ")) {
                found.excerpt = Some(excerpt.trim().trim_start_matches("...").trim_end_matches("...").to_owned());
            }
        }
        Some(found)
    }

    /// Whether the server or psql refused the script because it ran in one transaction.
    pub(super) fn needs_no_transaction(&self) -> bool {
        match self.code.as_deref() {
            // An enum value that was added and used, COMMIT in a routine, a statement that must run alone, a transaction that was ended
            // so that the next one can only read, and too many locks for one transaction.
            Some("55P04" | "2D000" | "25001" | "25006" | "53200" | super::ledger::ENDED_TRANSACTION) => true,
            Some("55006") => self.message.contains("pending trigger events"),
            Some(_) => false,
            None => {
                self.message.contains("cannot run inside a transaction block")
                    || self.message.contains("cannot be executed from a function or multi-command string")
            }
        }
    }
}

/// `psql:init/a.sql:3: `, with `<stdin>` for psql's input.
fn place(before: &str) -> (Option<String>, Option<u64>) {
    let Some((file, line)) = before.trim_end().trim_end_matches(':').rsplit_once(':') else { return (None, None) };
    let Ok(line) = line.trim().parse() else { return (None, None) };
    let file = file.split_once("psql:").map_or(file, |(_, file)| file);
    ((file != "<stdin>" && !file.starts_with("/tmp/devenv.")).then(|| file.to_owned()), Some(line))
}

/// psql's error, at the failing line of the script or of the file that it includes.
pub(super) fn explained(script: &Script, said: &str, scan: &Scan, project: &Path) -> ScriptError {
    let Some(found) = Complaint::read(said) else {
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("psql failed without an error message");
        return ScriptError::of(&script.path, last);
    };
    let mut error = match found.file.as_deref().filter(|file| *file != script.path) {
        Some(file) => {
            let path = project.join(file);
            let scan = included::scanned(&path, &super::scan::Session::default()).unwrap_or_default();
            let line = found.place_in(&scan, || {
                devenv_files::TimedReader::open(&path).map(|file| Box::new(file) as Box<dyn std::io::Read>).map_err(Into::into)
            });
            ScriptError::of(file, format!("{} (read by {})", found.message, script.path)).at(line)
        }
        None => {
            let line = found.place_in(scan, || source::open(script).map(|input| input as Box<dyn std::io::Read>));
            ScriptError::of(&script.path, &found.message).at(line)
        }
    };
    error.hint = advice(&found).or(found.hint);
    error
}

/// Hints for errors that come from where a script was made.
fn advice(found: &Complaint) -> Option<String> {
    let message = found.message.as_str();
    match found.code.as_deref() {
        Some("42501") if message.contains("must be owner of") || message.contains("must be member of") || message.contains("must be able to SET ROLE") => Some(
            "a script runs as the owner of the database: make the dump with `pg_dump --no-owner --no-privileges`, load it with `devenv import`, \
             or list it in `admin_init`, which runs as superuser"
                .to_owned(),
        ),
        Some("42704") if message.contains("role ") => Some(
            "make the dump with `pg_dump --no-owner --no-privileges`, load it with `devenv import`, or create the role in an `admin_init` script".to_owned(),
        ),
        Some("23505") => None,
        None if message.contains("No such file or directory") => Some(
            "`\\ir` looks from the script's directory and `\\i` from the project's; a file whose name a variable or a program gives, \
             and files of a compressed script, are not in the container"
                .to_owned(),
        ),
        None if message.contains("invalid command \\restrict") || message.contains("invalid command \\unrestrict") => Some(
            "the psql of this image is older than the pg_dump that wrote the file: take a newer image, or remove these two lines".to_owned(),
        ),
        _ => None,
    }
}

impl Complaint {
    fn place_in(&self, scan: &Scan, open: impl FnOnce() -> std::io::Result<Box<dyn std::io::Read>>) -> Option<u64> {
        let line = self.line.filter(|line| *line <= scan.lines)?;
        if let Some(row) = self.copy_row {
            // psql counts to the end of the data; the server counts its rows.
            let copy = scan.copies.iter().rev().find(|copy| copy.start < line);
            return Some(copy.map_or(line, |copy| (copy.start + row).min(copy.end)));
        }
        match &self.excerpt {
            Some(excerpt) => open().ok().and_then(|input| nearest(input, line, excerpt)).or(Some(line)),
            None => Some(line),
        }
    }
}

/// The last line up to `end` that contains the excerpt: psql names the line where the statement ends.
fn nearest(input: impl std::io::Read, end: u64, excerpt: &str) -> Option<u64> {
    const REACH: u64 = 10_000;
    let near: Range<u64> = end.saturating_sub(REACH)..end + 1;
    let mut input = BufReader::with_capacity(256 * 1024, input);
    let (mut line, mut number, mut found) = (Vec::new(), 0, None);
    while number < end && input.read_until(b'\n', &mut line).ok()? > 0 {
        number += 1;
        if near.contains(&number) && String::from_utf8_lossy(&line).contains(excerpt) {
            found = Some(number);
        }
        line.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::scripts::psql;

    #[test]
    fn the_first_error_is_read_from_psqls_output() {
        let said = "psql:<stdin>:2: NOTICE:  00000: table \"x\" does not exist, skipping\nLOCATION: f\npsql:<stdin>:9: ERROR:  42703: column \"oops\" does not exist\nLINE 4:  ('b', oops);\n               ^\nHINT:  Perhaps.\nLOCATION:  errorMissingColumn, parse_relation.c:3716\n";
        assert_eq!(
            Complaint::read(said),
            Some(Complaint {
                file: None,
                line: Some(9),
                code: Some("42703".into()),
                message: "column \"oops\" does not exist".into(),
                hint: Some("Perhaps.".into()),
                excerpt: Some("('b', oops);".into()),
                copy_row: None
            })
        );
        let said = "psql:/tmp/devenv.Ab/script:5: ERROR:  22P02: invalid input syntax for type integer: \"x\"\nCONTEXT:  COPY note, line 2, column n: \"x\"\n";
        let found = Complaint::read(said).unwrap();
        assert_eq!((found.line, found.copy_row, found.file), (Some(5), Some(2), None));
        let found = Complaint::read("psql:db/tables/a.sql:3: ERROR:  P0001: HINT: no\n").unwrap();
        assert_eq!((found.file.as_deref(), found.line, found.message.as_str()), (Some("db/tables/a.sql"), Some(3), "HINT: no"));
        assert_eq!(Complaint::read("psql:<stdin>:1: error: invalid command \\bad\n").unwrap().message, "invalid command \\bad");
        assert_eq!(Complaint::read("psql:<stdin>:1: NOTICE: fine\n"), None);
    }

    #[test]
    fn only_what_a_transaction_forbids_makes_a_script_run_without_one() {
        for (said, wanted) in [
            ("ERROR:  55P04: unsafe use of new value \"archived\" of enum type state", true),
            ("ERROR:  2D000: invalid transaction termination", true),
            ("ERROR:  25001: CREATE DATABASE cannot run inside a transaction block", true),
            ("ERROR:  25006: cannot execute INSERT in a read-only transaction", true),
            ("ERROR:  53200: out of shared memory", true),
            ("ERROR:  DEV01: the script ends the transaction that it runs in", true),
            ("ERROR:  55006: cannot ALTER TABLE \"a\" because it has pending trigger events", true),
            ("ERROR:  55006: database \"a\" is being accessed by other users", false),
            ("ERROR:  42P01: relation \"a\" does not exist", false),
            ("ERROR:  23505: duplicate key value violates unique constraint \"a\"", false),
            ("error: invalid command \\bad", false),
        ] {
            assert_eq!(Complaint::read(said).unwrap().needs_no_transaction(), wanted, "{said}");
        }
    }

    #[test]
    fn an_error_is_placed_at_the_line_of_the_script() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("a.sql"),
            "SELECT 1;\nINSERT INTO t\n VALUES (1),\n ('b', oops),\n (2);\nCOPY note FROM stdin;\na\nb\n\\.\n",
        )
        .unwrap();
        std::fs::write(directory.path().join("b.sql"), "SELECT 1;\nSELECT\n oops;\n").unwrap();
        let script = crate::script::files::tests::file(directory.path(), "a.sql");
        let scan = psql::scan(&script, super::super::scan::Session::default()).unwrap();
        let at = |said: &str| explained(&script, said, &scan, directory.path()).to_string();
        assert_eq!(at("psql:<stdin>:5: ERROR:  42601: no oops\nLINE 3:  ('b', oops),\n"), "a.sql:4: no oops");
        assert_eq!(at("psql:<stdin>:9: ERROR:  22P02: bad\nCONTEXT:  COPY note, line 2: \"b\"\n"), "a.sql:8: bad");
        assert_eq!(at("psql:<stdin>:14: ERROR:  23503: deferred\n"), "a.sql: deferred");
        assert_eq!(at("psql:b.sql:3: ERROR:  42703: no oops\nLINE 2:  oops;\n"), "b.sql:3: no oops (read by a.sql)");
    }
}
