//! Assembles lines from the chunks in which output arrives.

/// In bytes. A longer line is cut into parts of this length, each marked as a part.
const LONGEST: usize = 1024 * 1024;

/// The beginning of a line whose end has not arrived yet.
#[derive(Debug, Default)]
pub struct Assembler {
    partial: Vec<u8>,
    /// How many parts of the line have been returned.
    parts: usize,
}

impl Assembler {
    /// Returns each line that `bytes` completes, and each full part of a line that is longer than [`LONGEST`].
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            if self.partial.is_empty() && self.parts == 0 && end <= LONGEST {
                line(&bytes[..end]);
            } else {
                self.extend(&bytes[..end], &mut line);
                self.end(&mut line);
            }
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, &mut line);
    }

    /// Returns the last line, if it has no newline.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            self.end(&mut line);
        }
    }

    fn extend(&mut self, mut bytes: &[u8], line: &mut impl FnMut(&[u8])) {
        while self.partial.len() + bytes.len() > LONGEST {
            let (now, later) = bytes.split_at(LONGEST - self.partial.len());
            self.partial.extend_from_slice(now);
            self.part(line);
            bytes = later;
        }
        self.partial.extend_from_slice(bytes);
    }

    /// The line ends here.
    fn end(&mut self, line: &mut impl FnMut(&[u8])) {
        if self.parts == 0 {
            line(&self.partial);
        } else {
            self.part(line);
        }
        // Release the buffer of an exceptionally long line.
        self.partial = Vec::new();
        self.parts = 0;
    }

    fn part(&mut self, line: &mut impl FnMut(&[u8])) {
        self.parts += 1;
        let mut text = format!("[part {} of a line of more than 1 MiB] ", self.parts).into_bytes();
        text.append(&mut self.partial);
        line(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assembled(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut assembler, mut lines) = (Assembler::default(), Vec::new());
        for piece in pieces {
            assembler.push(piece, |line| lines.push(line.to_vec()));
        }
        assembler.finish(|line| lines.push(line.to_vec()));
        lines
    }

    #[test]
    fn lines_are_put_together_from_pieces_of_any_size() {
        let text = b"one\n\nthree\nlast without end";
        for size in 1..text.len() {
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(assembled(&pieces), [&b"one"[..], b"", b"three", b"last without end"], "pieces of {size}");
        }
    }

    #[test]
    fn a_line_of_more_than_1_mib_is_split_into_marked_parts_without_loss() {
        let long: Vec<u8> = (0..2_500_000_u32).map(|at| b'a' + (at % 26) as u8).collect();
        for size in [1000, 8192, 262_144, 3_000_000] {
            let pieces: Vec<&[u8]> = long.chunks(size).chain([&b"\nnext\n"[..]]).collect();
            let lines = assembled(&pieces);
            assert_eq!(lines.len(), 4, "pieces of {size}");
            assert_eq!(lines[3], b"next");
            let mut whole = Vec::new();
            for (index, line) in lines[..3].iter().enumerate() {
                let mark = format!("[part {} of a line of more than 1 MiB] ", index + 1);
                whole.extend_from_slice(line.strip_prefix(mark.as_bytes()).unwrap_or_else(|| panic!("part {index} says nothing")));
            }
            assert!(whole == long, "pieces of {size}");
        }
    }

    #[test]
    fn a_line_of_exactly_1_mib_is_one_line_and_an_unended_one_has_all_its_parts() {
        for length in [LONGEST - 1, LONGEST] {
            let line = vec![b'x'; length];
            assert!(assembled(&[&line, b"\n"]).concat() == line && assembled(&[&line, b"\n"]).len() == 1);
            assert!(assembled(&[&line]).concat() == line && assembled(&[&line]).len() == 1);
        }
        let lines = assembled(&[&vec![b'x'; LONGEST + 1]]);
        assert!(lines.len() == 2 && lines[1].ends_with(b"1 MiB] x") && lines[0].starts_with(b"[part 1 "));
    }
}
