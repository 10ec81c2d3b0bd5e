//! Makes lines out of the pieces in which output arrives.

/// Longer lines are cut into several.
const LONGEST: usize = 64 * 1024;

/// The beginning of a line whose end has not arrived yet.
#[derive(Debug, Default)]
pub struct Assembler {
    partial: Vec<u8>,
}

impl Assembler {
    /// Returns each line that `bytes` completes.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            if self.partial.is_empty() {
                cut(&bytes[..end], &mut line);
            } else {
                self.partial.extend_from_slice(&bytes[..end]);
                cut(&self.partial, &mut line);
                self.partial.clear();
            }
            bytes = &bytes[end + 1..];
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() >= LONGEST {
            let whole = self.partial.len() / LONGEST * LONGEST;
            cut(&self.partial[..whole], &mut line);
            self.partial.drain(..whole);
        }
    }

    /// Returns the last line, if it has no newline.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            cut(&self.partial, &mut line);
            self.partial.clear();
        }
    }
}

fn cut(text: &[u8], line: &mut impl FnMut(&[u8])) {
    if text.len() <= LONGEST {
        line(text);
    } else {
        text.chunks(LONGEST).for_each(line);
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
    fn a_very_long_line_is_cut_and_nothing_of_it_lost() {
        let long = vec![b'x'; 150_000];
        for size in [1000, 8192, 150_000] {
            let pieces: Vec<&[u8]> = long.chunks(size).chain([&b"\nnext\n"[..]]).collect();
            let lines = assembled(&pieces);
            assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [65536, 65536, 150_000 - 131_072, 4], "pieces of {size}");
        }
    }
}
