//! PURE: CSV records as PostgreSQL reads them: their number, their lines, and the same rows in COPY's text format.
//!
//! A server before 18 takes a line `\.` for the end of the data, in quotes or not, and ignores the rest silently. Rows in
//! the text format have no such line.

use std::io::{self, BufRead, Read};

/// A summary of a file, made before any of it is sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    pub(super) header: Vec<u8>,
    /// Without the header.
    pub(super) records: u64,
    /// A line of it is `\.`.
    pub(super) has_end_marker: bool,
    /// The last record has an open quote: the line where that record begins.
    pub(super) open_quote: Option<u64>,
}

const LONGEST_HEADER: usize = 1024 * 1024;

/// A record with its line end, and the line where it begins.
struct Records<R> {
    input: R,
    line: u64,
    /// The first line has been checked for its line end.
    begun: bool,
    has_end_marker: bool,
}

impl<R: BufRead> Records<R> {
    fn new(input: R) -> Self {
        Self { input, line: 0, begun: false, has_end_marker: false }
    }

    /// `None` at the end. The flag shows that a quote is open there.
    fn next(&mut self, record: &mut Vec<u8>) -> io::Result<Option<(u64, bool)>> {
        record.clear();
        let (began, mut quoted) = (self.line + 1, false);
        loop {
            let from = record.len();
            if self.input.read_until(b'\n', record)? == 0 {
                return Ok((!record.is_empty()).then_some((began, quoted)));
            }
            if !self.begun {
                let line = &record[from..];
                let alone = line
                    .iter()
                    .position(|byte| *byte == b'\r')
                    .is_some_and(|at| line.get(at + 1) != Some(&b'\n') && !line[..at].contains(&b'"'));
                if alone {
                    let message = "its lines end with a carriage return alone: save it with line ends of LF or CR LF";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                self.begun = true;
            }
            self.line += 1;
            let line = record[from..].trim_ascii_end();
            self.has_end_marker |= line == b"\\.";
            quoted ^= line.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
            if !quoted {
                return Ok(Some((began, false)));
            }
        }
    }
}

/// Reads all of it once.
pub(super) fn survey(input: impl BufRead) -> io::Result<Survey> {
    let mut records = Records::new(input);
    let (mut survey, mut record, mut count) = (Survey::default(), Vec::new(), 0u64);
    while let Some((line, open)) = records.next(&mut record)? {
        if count == 0 {
            survey.header = record[..record.len().min(LONGEST_HEADER)].to_vec();
        }
        survey.open_quote = open.then_some(line);
        count += 1;
    }
    survey.records = count.saturating_sub(1);
    survey.has_end_marker = records.has_end_marker;
    Ok(survey)
}

/// The line where a record begins, counted without the header.
pub(super) fn line_of(input: impl BufRead, number: u64) -> io::Result<Option<u64>> {
    let mut records = Records::new(input);
    let mut record = Vec::new();
    for _ in 0..number {
        records.next(&mut record)?;
    }
    Ok(records.next(&mut record)?.map(|(line, _)| line))
}

/// The rows in COPY's text format, without the header.
pub(super) struct TextRows<R> {
    records: Records<R>,
    record: Vec<u8>,
    row: Vec<u8>,
    at: usize,
    begun: bool,
}

impl<R: BufRead> TextRows<R> {
    pub(super) fn new(input: R) -> Self {
        Self { records: Records::new(input), record: Vec::new(), row: Vec::new(), at: 0, begun: false }
    }
}

impl<R: BufRead> Read for TextRows<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.begun = true;
            self.records.next(&mut self.record)?;
        }
        if self.at == self.row.len() {
            self.row.clear();
            self.at = 0;
            if self.records.next(&mut self.record)?.is_some() {
                as_text(without_end(&self.record), &mut self.row);
            }
        }
        let count = buffer.len().min(self.row.len() - self.at);
        buffer[..count].copy_from_slice(&self.row[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn without_end(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

fn as_text(record: &[u8], row: &mut Vec<u8>) {
    let (mut quoted, mut was_quoted, mut at, mut began) = (false, false, 0, row.len());
    loop {
        let byte = record.get(at).copied();
        match byte {
            Some(b'"') if quoted && record.get(at + 1) == Some(&b'"') => {
                row.push(b'"');
                at += 1;
            }
            Some(b'"') => {
                quoted = !quoted;
                was_quoted = true;
            }
            None | Some(b',') if byte.is_none() || !quoted => {
                if row.len() == began && !was_quoted {
                    row.extend_from_slice(b"\\N");
                }
                if byte.is_none() {
                    row.push(b'\n');
                    return;
                }
                row.push(b'\t');
                (began, was_quoted) = (row.len(), false);
            }
            Some(b'\\') => row.extend_from_slice(b"\\\\"),
            Some(b'\n') => row.extend_from_slice(b"\\n"),
            Some(b'\r') => row.extend_from_slice(b"\\r"),
            Some(b'\t') => row.extend_from_slice(b"\\t"),
            Some(other) => row.push(other),
            None => return,
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_and_not_lines() {
        for (text, records, has_end_marker, open_quote) in [
            ("", 0, false, None),
            ("id\n", 0, false, None),
            ("id", 0, false, None),
            ("id\n1\n2", 2, false, None),
            ("id,t\r\n1,\"a\r\nb\"\r\n2,c\r\n", 2, false, None),
            ("t\n\\.\nb\n", 2, true, None),
            ("t\n\"a\n\\.\nb\"\nc\n", 2, true, None),
            ("t\n\\.x\n", 1, false, None),
            ("t\n\"\"\"\n\"\nb\n", 2, false, None),
            ("t\na\n\"b\nc\n", 2, false, Some(3)),
            ("\"two\nlines\"\na\n", 1, false, None),
            ("t\n\n", 1, false, None),
        ] {
            let found = survey(text.as_bytes()).unwrap();
            assert_eq!((found.records, found.has_end_marker, found.open_quote), (records, has_end_marker, open_quote), "{text:?}");
        }
        assert!(survey(&b"id,t\r1,a\r2,b\r"[..]).unwrap_err().to_string().contains("carriage return"));
        assert_eq!(line_of(&b"t\n\"a\nb\"\nc\n"[..], 2).unwrap(), Some(4));
    }

    #[test]
    fn rows_mean_the_same_in_both_formats() {
        let csv = "a,b,c\n1,,\"\"\n\"x, \"\"y\"\"\",NULL,\\N\n\"two\r\nlines\",\\.,a\tb\n\\.,ab\"c\"d,\n";
        let mut text = String::new();
        TextRows::new(csv.as_bytes()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "1\t\\N\t\nx, \"y\"\tNULL\t\\\\N\ntwo\\r\\nlines\t\\\\.\ta\\tb\n\\\\.\tabcd\t\\N\n");
    }
}
