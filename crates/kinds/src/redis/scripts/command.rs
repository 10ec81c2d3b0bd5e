//! Parses `.redis`: lines as `redis-cli` reads them from its input, and the protocol form as `redis-cli --pipe` does.

use std::io::{self, BufRead, Read};

/// One command of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) line: u64,
    pub(super) words: Vec<Vec<u8>>,
}

impl Command {
    pub(super) fn name(&self) -> String {
        self.words.first().map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).unwrap_or_default()
    }

    /// `name` is in capitals.
    pub(super) fn is(&self, name: &str) -> bool {
        self.words.first().is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.iter().map(Vec::len).sum()
    }
}

/// A problem of a file, with its position.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) line: Option<u64>,
    pub(super) message: String,
}

/// The commands of a file, one by one.
pub(super) struct Commands<R> {
    input: R,
    line: u64,
}

/// Far above what a server accepts.
const MOST_WORDS: usize = 1 << 20;
const LONGEST_WORD: usize = 512 << 20;

impl<R: BufRead> Commands<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: 0 }
    }

    /// `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Command>, Malformed> {
        let mut text = Vec::new();
        loop {
            text.clear();
            if self.read_line(&mut text)? == 0 {
                return Ok(None);
            }
            let line = self.line;
            let mut text = text.trim_ascii();
            if line == 1 {
                text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
            }
            let found = match count(text, b'*') {
                Some(words) => Some(self.packed(words)?),
                None => words(text).map_err(|message| Malformed { line: Some(line), message: message.to_owned() })?,
            };
            if let Some(words) = found.filter(|words| !words.is_empty()) {
                return Ok(Some(Command { line, words }));
            }
        }
    }

    /// The words of `*2`, each after a line such as `$3`.
    fn packed(&mut self, number: usize) -> Result<Vec<Vec<u8>>, Malformed> {
        if number > MOST_WORDS {
            return Err(self.malformed("a command has more words than a server takes"));
        }
        let mut words = Vec::new();
        let mut text = Vec::new();
        for _ in 0..number {
            text.clear();
            self.read_line(&mut text)?;
            let length = count(text.trim_ascii(), b'$').filter(|length| *length <= LONGEST_WORD);
            let length = length.ok_or_else(|| self.malformed("a line such as `$3`, the length of the next word, is expected here"))?;
            let mut word = Vec::new();
            let taken = (&mut self.input).take(length as u64 + 2).read_to_end(&mut word).map_err(|error| unreadable(&error))?;
            if taken < length + 2 || !word.ends_with(b"\r\n") {
                return Err(self.malformed("the word that begins here is not as long as the line before it says, or lacks its CR LF"));
            }
            self.line += word.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
            word.truncate(length);
            words.push(word);
        }
        Ok(words)
    }

    fn read_line(&mut self, text: &mut Vec<u8>) -> Result<usize, Malformed> {
        let read = self.input.read_until(b'\n', text).map_err(|error| unreadable(&error))?;
        self.line += u64::from(read > 0);
        Ok(read)
    }

    fn malformed(&self, message: &str) -> Malformed {
        Malformed { line: Some(self.line), message: message.to_owned() }
    }
}

fn unreadable(error: &io::Error) -> Malformed {
    Malformed { line: None, message: format!("cannot be read: {error}") }
}

/// The number in `*3`.
fn count(text: &[u8], kind: u8) -> Option<usize> {
    let digits = text.strip_prefix(&[kind])?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A command line as `redis-cli` splits it; `None` for a comment.
fn words(line: &[u8]) -> Result<Option<Vec<Vec<u8>>>, &'static str> {
    let bytes = line.trim_ascii();
    if bytes.is_empty() || bytes[0] == b'#' {
        return Ok(None);
    }
    let mut words = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let (word, next) = match bytes[at] {
            b'"' => double_quoted(bytes, at + 1)?,
            b'\'' => single_quoted(bytes, at + 1)?,
            _ => {
                let end = bytes[at..].iter().position(u8::is_ascii_whitespace).map_or(bytes.len(), |end| at + end);
                (bytes[at..end].to_vec(), end)
            }
        };
        if bytes.get(next).is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return Err("a closing quote must be followed by a space");
        }
        words.push(word);
        at = next;
    }
    Ok(Some(words))
}

const UNCLOSED: &str = "unterminated quote";

fn double_quoted(bytes: &[u8], mut at: usize) -> Result<(Vec<u8>, usize), &'static str> {
    let mut word = Vec::new();
    loop {
        match (bytes.get(at).copied().ok_or(UNCLOSED)?, bytes.get(at + 1).copied()) {
            (b'"', _) => return Ok((word, at + 1)),
            (b'\\', Some(b'x')) if bytes.get(at + 2..at + 4).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => {
                let hex = std::str::from_utf8(&bytes[at + 2..at + 4]).unwrap_or("00");
                word.push(u8::from_str_radix(hex, 16).unwrap_or(0));
                at += 4;
            }
            (b'\\', Some(escaped)) => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                at += 2;
            }
            (byte, _) => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

fn single_quoted(bytes: &[u8], mut at: usize) -> Result<(Vec<u8>, usize), &'static str> {
    let mut word = Vec::new();
    loop {
        match bytes.get(at).copied().ok_or(UNCLOSED)? {
            b'\'' => return Ok((word, at + 1)),
            b'\\' if bytes.get(at + 1) == Some(&b'\'') => {
                word.push(b'\'');
                at += 2;
            }
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_split_as_redis_cli_splits_it() {
        let split = |line: &str| {
            words(line.as_bytes())
                .map(|words| words.map(|words| words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>()))
        };
        assert_eq!(split(r#"SET "a b" 'it\'s' "\x41\n""#), Ok(Some(vec!["SET".into(), "a b".into(), "it's".into(), "A\n".into()])));
        assert_eq!(split("# remark"), Ok(None));
        assert_eq!(split("SET a \"b"), Err(UNCLOSED));
        assert_eq!(split("SET \"a\"b c"), Err("a closing quote must be followed by a space"));
        assert_eq!(split("SET a \"\""), Ok(Some(vec!["SET".into(), "a".into(), String::new()])));
    }

    /// The commands with their lines, or the line of an error with its message.
    #[expect(clippy::type_complexity, reason = "of one test helper")]
    fn read(text: &[u8]) -> Result<Vec<(u64, String)>, (Option<u64>, String)> {
        let mut commands = Commands::new(text);
        let mut all = Vec::new();
        loop {
            match commands.next() {
                Ok(None) => return Ok(all),
                Ok(Some(command)) => {
                    let words: Vec<String> = command.words.iter().map(|word| word.escape_ascii().to_string()).collect();
                    all.push((command.line, words.join(" ")));
                }
                Err(Malformed { line, message }) => return Err((line, message)),
            }
        }
    }

    #[test]
    fn bytes_stay_bytes_and_the_protocol_is_read_like_lines() {
        let shown = |line, text: &str| (line, text.to_owned());
        assert_eq!(read(b"SET a \xe9\r\n\n# x\nGET a").unwrap(), [shown(1, "SET a \\xe9"), shown(4, "GET a")]);
        assert_eq!(
            read(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\nx\ny\r\n*1\r\n$4\r\nPING\r\nGET a\r\n").unwrap(),
            [shown(1, "SET a x\\ny"), shown(9, "PING"), shown(12, "GET a")]
        );
        for (text, line) in
            [(&b"*2\r\n$3\r\nGET\r\n"[..], 3), (b"*1\r\n$9\r\nPING\r\n", 2), (b"*1\r\nPING\r\n", 2), (b"GET a\nSET a \"b\n", 2)]
        {
            assert_eq!(read(text).unwrap_err().0, Some(line), "{}", text.escape_ascii());
        }
    }
}
