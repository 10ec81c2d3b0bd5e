//! PURE: files of migration tools with an up and a down part: the lines of the down part are left out.
//!
//! The markers are comments for a database's client, so it would run both parts and nothing would be left.

use std::io::{self, BufRead, Read};

/// The part of a file that is examined, long enough for a licence above the first marker.
pub(crate) const HEAD: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Whether a file begins, after blank lines and comments, with a marker of such a tool.
pub(crate) fn is_divided(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    for line in head.split(|byte| *byte == b'\n') {
        if way(line).is_some() {
            return true;
        }
        let line = line.trim_ascii();
        if !line.is_empty() && !line.starts_with(b"--") && !line.starts_with(b"#") {
            return false;
        }
    }
    false
}

/// The marker on a line.
fn way(line: &[u8]) -> Option<Way> {
    if line.len() > 200 || !line.starts_with(b"--") {
        return None;
    }
    let text = String::from_utf8_lossy(line).to_ascii_lowercase();
    let text = text.trim();
    if text == "---- create above / drop below ----" || text.trim_start_matches('-').trim_start().starts_with("//@undo") {
        return Some(Way::Down);
    }
    let words: Vec<&str> = text.trim_start_matches('-').split_whitespace().collect();
    match words.as_slice() {
        ["+goose" | "+migrate" | "+micrate" | "rambler", "up", ..] | ["migrate:up" | "!ups", ..] => Some(Way::Up),
        ["+goose" | "+migrate" | "+micrate" | "rambler", "down", ..] | ["migrate:down" | "!downs", ..] => Some(Way::Down),
        _ => None,
    }
}

/// Whether a comment begins the down part, in a file that does not begin with a marker.
pub(crate) fn begins_way_down(comment: &[u8]) -> bool {
    way(comment) == Some(Way::Down)
}

/// The lines of the up part; the others are empty, so that every line keeps its number.
pub(crate) struct OnlyUp<R> {
    input: R,
    line: Vec<u8>,
    at: usize,
    down: bool,
}

impl<R: BufRead> OnlyUp<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, line: Vec::new(), at: 0, down: false }
    }
}

impl<R: BufRead> Read for OnlyUp<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.line.len() {
            self.line.clear();
            self.at = 0;
            self.input.read_until(b'\n', &mut self.line)?;
            if let Some(way) = way(&self.line) {
                self.down = way == Way::Down;
            }
            if self.down && !self.line.is_empty() {
                self.line.clear();
                self.line.push(b'\n');
            }
        }
        let count = buffer.len().min(self.line.len() - self.at);
        buffer[..count].copy_from_slice(&self.line[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_up_migration_of_a_file_is_kept_with_its_line_numbers() {
        for (up, down) in [
            ("-- +goose Up", "-- +goose Down"),
            ("-- +migrate Up", "-- +migrate Down"),
            ("-- migrate:up", "-- migrate:down"),
            ("-- migrate:up transaction:false", "-- migrate:down"),
            ("-- rambler up", "-- rambler down"),
            ("-- !Ups", "-- !Downs"),
            ("--+goose up", "--+GOOSE DOWN"),
        ] {
            let text = format!("\n-- licence\n{up}\nCREATE TABLE a ();\n{down}\nDROP TABLE a;\n{up}\nSELECT 1;\n");
            assert!(is_divided(text.as_bytes()), "{up}");
            let mut read = String::new();
            OnlyUp::new(text.as_bytes()).read_to_string(&mut read).unwrap();
            assert_eq!(read, format!("\n-- licence\n{up}\nCREATE TABLE a ();\n\n\n{up}\nSELECT 1;\n"));
        }
    }

    #[test]
    fn a_marker_further_down_is_none_of_a_divided_file() {
        assert!(!is_divided(b"CREATE TABLE a ();\n-- +goose Up\n"));
        assert!(!is_divided(b"-- going up\nSELECT 1;"));
        for comment in ["---- create above / drop below ----", "-- //@UNDO", "-- +goose Down", "-- migrate:down"] {
            assert!(begins_way_down(comment.as_bytes()), "{comment}");
        }
        assert!(!begins_way_down(b"-- roll down"));
    }
}
