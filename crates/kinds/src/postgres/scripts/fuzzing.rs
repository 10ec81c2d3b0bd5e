//! The doors for `fuzz/`, which alone builds with this: a script, a data set, and what psql says of a script.

use std::{io::Read, path::Path};

use super::{
    authority, complaint,
    csv_records::{TextRows, line_of, survey},
    scan::{Scan, Scanner, Session},
};
use crate::script::{
    Script,
    sections::{OnlyUp, is_divided},
};

/// A script as `psql` reads it: whatever is in it, the scan ends, and the places that it names are within the script.
pub fn script(bytes: &[u8]) {
    for encoding in ["UTF8", "SJIS"] {
        let mut scanner = Scanner::new(Session { standard_strings: encoding == "UTF8", encoding: encoding.to_owned() });
        bytes.split_inclusive(|byte| *byte == b'\n').for_each(|line| scanner.line(line));
        let scan = scanner.finish();
        assert_eq!(scan.bytes, bytes.len() as u64);
        let is_line = |line: u64| (1..=scan.lines.max(1)).contains(&line);
        for (line, _) in [&scan.refuses, &scan.reaches, &scan.leaves, &scan.fault].into_iter().flatten() {
            assert!(is_line(*line), "line {line} of {}", scan.lines);
        }
        assert!(scan.files.iter().all(|file| is_line(file.line)));
        for span in scan.wrapper.iter().flatten() {
            assert!(span.start <= span.end && span.end <= scan.bytes, "{span:?} of {}", scan.bytes);
        }
    }
    let text = String::from_utf8_lossy(bytes);
    for (name, rest) in text.lines().filter_map(|line| line.strip_prefix('\\')?.split_once(' ')) {
        let _ = authority::command_reaches(name, rest);
    }
    let _ = is_divided(bytes);
    let mut up = Vec::new();
    OnlyUp::new(bytes).read_to_end(&mut up).expect("bytes in memory can be read");
    // A last line without its end may get one.
    let count = |bytes: &[u8]| bytes.split_inclusive(|byte| *byte == b'\n').count();
    assert_eq!(count(&up), count(bytes), "every line keeps its number");
}

/// A CSV file: its survey agrees with the rows that are sent.
pub fn csv(bytes: &[u8]) {
    let Ok(survey) = survey(bytes) else { return };
    let mut rows = Vec::new();
    TextRows::new(bytes).read_to_end(&mut rows).expect("bytes in memory can be read");
    let _ = line_of(bytes, survey.records / 2);
    if survey.open_quote.is_none() {
        assert_eq!(lines(&rows), survey.records, "a row each");
    }
}

/// What psql says of a script.
pub fn complaint(said: &str, script: &Script) {
    let scan = Scan { lines: 10, copies: vec![1..9], ..Scan::default() };
    let _ = complaint::explained(script, said, &scan, Path::new("/nonexistent"));
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}
