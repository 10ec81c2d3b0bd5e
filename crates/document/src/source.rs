//! The texts of a profile, and positions in them.

use devenv_api::{Problem, Severity};

/// Which of the [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(usize);

/// A position in a file: bytes `start..end`, with line and column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub file: FileId,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    pub start: usize,
    pub end: usize,
}

/// Every file that was read, by its name in messages.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<Source>,
}

#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    pub text: String,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    /// How many characters begin before each block of [`BLOCK`] bytes: a column in a line of a megabyte is not counted from its start.
    characters: Vec<usize>,
}

/// In bytes.
const BLOCK: usize = 64;

/// A problem at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub span: Span,
    pub severity: Severity,
    /// A stable word such as `unknown-field`.
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
}

/// More problems than this do not help the user.
const MOST: usize = 1000;

/// Collects all problems, so that they are reported at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings(Vec<Finding>);

impl Sources {
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> FileId {
        self.files.push(Source::of(name.into(), text.into()));
        FileId(self.files.len() - 1)
    }

    /// Hides a file's text in all output; positions in it stay.
    pub fn conceal(&mut self, file: FileId) {
        let source = &mut self.files[file.0];
        let hidden = source.text.bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect();
        *source = Source::of(std::mem::take(&mut source.name), hidden);
    }

    pub fn files(&self) -> impl Iterator<Item = (FileId, &Source)> {
        self.files.iter().enumerate().map(|(number, source)| (FileId(number), source))
    }

    pub fn get(&self, file: FileId) -> &Source {
        &self.files[file.0]
    }

    /// The position of some bytes; the end of the file if they are out of range.
    pub fn span(&self, file: FileId, start: usize, end: usize) -> Span {
        let source = self.get(file);
        let Source { text, lines, .. } = source;
        let mut start = start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = end.clamp(start, text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        let line = lines.partition_point(|begin| *begin <= start);
        let column = source.characters_before(start) - source.characters_before(lines[line - 1]) + 1;
        Span { file, line: line as u32, column: column as u32, start, end }
    }

    /// `file:line:column`, as editors and terminals understand it.
    pub fn place(&self, span: Span) -> String {
        format!("{}:{}:{}", self.get(span.file).name, span.line, span.column)
    }

    pub fn slice(&self, span: Span) -> &str {
        self.get(span.file).text.get(span.start..span.end).unwrap_or_default()
    }
}

impl Source {
    fn of(name: String, text: String) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(end, _)| end + 1)).collect();
        let blocks = text.as_bytes().chunks(BLOCK).map(beginning_in);
        let characters = std::iter::once(0)
            .chain(blocks.scan(0, |before, here| {
                *before += here;
                Some(*before)
            }))
            .collect();
        Self { name, text, lines, characters }
    }

    /// The characters that begin before this byte.
    fn characters_before(&self, at: usize) -> usize {
        let block = at / BLOCK;
        self.characters[block] + beginning_in(&self.text.as_bytes()[block * BLOCK..at])
    }
}

/// The characters that begin in these bytes of UTF-8.
fn beginning_in(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| (**byte & 0b1100_0000) != 0b1000_0000).count()
}

impl Findings {
    pub fn error(&mut self, span: Span, code: &'static str, message: impl Into<String>) -> &mut Finding {
        self.push(span, Severity::Error, code, message.into())
    }

    pub fn warning(&mut self, span: Span, code: &'static str, message: impl Into<String>) -> &mut Finding {
        self.push(span, Severity::Warning, code, message.into())
    }

    fn push(&mut self, span: Span, severity: Severity, code: &'static str, message: String) -> &mut Finding {
        self.0.truncate(MOST);
        self.0.push(Finding { span, severity, code, message, hint: None });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Whether a problem was already found at this position.
    pub fn touches(&self, span: Span) -> bool {
        self.0.iter().any(|finding| finding.span == span)
    }

    /// The last line of a file with a problem.
    pub fn last_line(&self, file: FileId) -> Option<u32> {
        self.0.iter().filter(|finding| finding.span.file == file).map(|finding| finding.span.line).max()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops some of those that were added after the first `count`.
    pub fn retain_since(&mut self, count: usize, keep: impl Fn(&Finding) -> bool) {
        let mut later = self.0.split_off(count.min(self.0.len()));
        later.retain(keep);
        self.0.append(&mut later);
    }

    /// Shortens the messages of a file's findings after the first `count`, which may contain secrets.
    pub fn conceal_since(&mut self, count: usize, file: FileId, message: &str) {
        for finding in self.0.iter_mut().skip(count).filter(|finding| finding.span.file == file) {
            message.clone_into(&mut finding.message);
            finding.hint = None;
        }
    }

    /// In the order of the files, without repetitions.
    pub fn sort(&mut self) {
        self.0.sort_by_key(|finding| finding.span);
        self.0.dedup();
    }

    pub fn problems(&self, sources: &Sources) -> Vec<Problem> {
        self.0
            .iter()
            .map(|finding| Problem {
                file: sources.get(finding.span.file).name.clone(),
                line: finding.span.line,
                column: finding.span.column,
                severity: finding.severity,
                code: finding.code.to_owned(),
                message: finding.message.clone(),
                hint: finding.hint.clone(),
            })
            .collect()
    }
}

impl Finding {
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// A hint, if there is one.
    pub fn maybe_hint(&mut self, hint: Option<String>) -> &mut Self {
        self.hint = hint.or(self.hint.take());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_counts_characters_wherever_in_a_long_line_it_is() {
        let text = format!("ä: €\n{}", "aé€😀".repeat(100));
        let mut sources = Sources::default();
        let file = sources.add("x", text.clone());
        let mut expected = (1, 1);
        for (at, char) in text.char_indices() {
            let span = sources.span(file, at, at);
            assert_eq!((span.line, span.column), expected, "byte {at}");
            expected = if char == '\n' { (expected.0 + 1, 1) } else { (expected.0, expected.1 + 1) };
        }
        let end = sources.span(file, text.len(), text.len());
        assert_eq!((end.line, end.column), expected);
        let whole = sources.add("block", "b".repeat(BLOCK));
        assert_eq!(sources.span(whole, BLOCK, BLOCK).column as usize, BLOCK + 1);
    }
}
