//! The format of a line in a segment: `2026-11-03T09:19:50.123456789Z 3 o text`.
//!
//! The time has a fixed width, so that comparing times is comparing bytes. Nanoseconds are kept because a container's
//! log is continued from its engine's nanosecond time stamps; people and scripts get microseconds.

use devenv_api::{LogLine, LogStream};
use jiff::Timestamp;

/// The length of a stored time.
const TIME: usize = 30;

/// A stored time; orders as time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StoredTime([u8; TIME]);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) time: StoredTime,
    pub(super) run: u32,
    pub(super) stream: LogStream,
    /// Without the newline; not always UTF-8.
    pub(super) text: Vec<u8>,
}

impl StoredTime {
    pub(super) fn of(time: Timestamp) -> Self {
        let mut stamper = Stamper::default();
        stamper.stamp(time)
    }

    pub(super) fn timestamp(&self) -> Option<Timestamp> {
        std::str::from_utf8(&self.0).ok()?.parse().ok()
    }
}

/// Formats times. The calendar date is computed once a second only.
#[derive(Debug, Default)]
pub(super) struct Stamper {
    second: Option<i64>,
    stored: [u8; TIME],
}

impl Stamper {
    pub(super) fn stamp(&mut self, time: Timestamp) -> StoredTime {
        let (second, nanosecond) = (time.as_nanosecond().div_euclid(1_000_000_000), time.as_nanosecond().rem_euclid(1_000_000_000));
        if self.second != Some(second as i64) {
            self.second = Some(second as i64);
            let calendar = time.strftime("%Y-%m-%dT%H:%M:%S.").to_string();
            let length = calendar.len().min(20);
            self.stored = *b"0000-00-00T00:00:00.000000000Z";
            self.stored[..length].copy_from_slice(&calendar.as_bytes()[..length]);
        }
        let mut rest = nanosecond as u32;
        for digit in self.stored[20..29].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        StoredTime(self.stored)
    }
}

/// Appends one record to `out`.
pub(super) fn write(out: &mut Vec<u8>, time: &StoredTime, run: u32, stream: LogStream, text: &[u8]) {
    out.extend_from_slice(&time.0);
    out.push(b' ');
    out.extend_from_slice(run.to_string().as_bytes());
    out.extend_from_slice(match stream {
        LogStream::Stdout => b" o ",
        LogStream::Stderr => b" e ",
    });
    out.extend_from_slice(text);
    out.push(b'\n');
}

impl Record {
    /// `None` for a line that is not a record, such as the truncated last line of a writer that was killed.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let (time, rest) = line.split_at_checked(TIME)?;
        if time[TIME - 1] != b'Z' || time[10] != b'T' {
            return None;
        }
        let rest = rest.strip_prefix(b" ")?;
        let digits = rest.iter().position(|byte| *byte == b' ')?;
        let run = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        let (stream, text) = rest[digits + 1..].split_at_checked(2)?;
        let stream = match stream {
            b"o " => LogStream::Stdout,
            b"e " => LogStream::Stderr,
            _ => return None,
        };
        Some(Self { time: StoredTime(time.try_into().ok()?), run, stream, text: text.to_vec() })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write(out, &self.time, self.run, self.stream, &self.text);
    }

    pub(super) fn to_line(&self, service: &str) -> LogLine {
        let mut time = String::from_utf8_lossy(&self.time.0[..26]).into_owned();
        time.push('Z');
        LogLine {
            time,
            service: service.to_owned(),
            stream: self.stream,
            text: String::from_utf8_lossy(&self.text).into_owned(),
            run: self.run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let time: Timestamp = "2026-11-03T09:19:50.000456789Z".parse().unwrap();
        let mut out = Vec::new();
        write(&mut out, &StoredTime::of(time), 12, LogStream::Stderr, b"a  b \x1b[1m\r");
        assert_eq!(String::from_utf8_lossy(&out), "2026-11-03T09:19:50.000456789Z 12 e a  b \x1b[1m\r\n");
        let record = Record::parse(out.strip_suffix(b"\n").unwrap()).unwrap();
        assert_eq!(record.time.timestamp(), Some(time));
        let line = record.to_line("api");
        assert_eq!((line.time.as_str(), line.run, line.text.as_str()), ("2026-11-03T09:19:50.000456Z", 12, "a  b \x1b[1m\r"));
    }

    #[test]
    fn a_stamper_follows_the_clock_over_the_second_and_back() {
        let mut stamper = Stamper::default();
        for text in ["2026-11-03T09:19:59.999999999Z", "2026-11-03T09:20:00.000000000Z", "2026-11-03T09:19:59.000000001Z"] {
            assert_eq!(stamper.stamp(text.parse().unwrap()).0, *text.as_bytes());
        }
    }

    #[test]
    fn a_line_that_is_no_record_is_skipped() {
        for line in
            [&b""[..], b"2026-11-03T09:19:50.0004567", b"2026-11-03T09:19:50.000456789Z 12 x a", b"2026-11-03T09:19:50.000456789Z a o b"]
        {
            assert_eq!(Record::parse(line), None);
        }
    }
}
