//! Continues a container's log after the daemon was restarted.
//!
//! The engine keeps that log and stamps each line in nanoseconds. Asked for lines since a time, it repeats the lines of
//! that very time. This module decides line by line which of them are already stored.

use std::{collections::HashMap, io, path::Path};

use devenv_api::LogStream;
use jiff::{SignedDuration, Timestamp};

use super::{
    reader::last_records,
    record::{Stamper, StoredTime},
    segment,
};

/// The engine stamps its two streams before it merges them, so a line may come slightly after a line with a later stamp.
const DISORDER: SignedDuration = SignedDuration::from_secs(1);
/// Enough for the output of one second, at any realistic rate.
const WINDOW: u64 = 16 * 1024 * 1024;

/// The last lines that are already stored.
#[derive(Debug)]
pub struct Resume {
    since: Timestamp,
    /// How many lines of a time are stored, of standard error (true) or output.
    known: HashMap<(StoredTime, bool), usize>,
    stamper: Stamper,
}

impl Resume {
    pub(super) fn of(directory: &Path, service: &str) -> io::Result<Option<Self>> {
        let mut records = Vec::new();
        for number in segment::numbers(directory, service)?.into_iter().rev() {
            records.splice(..0, last_records(&segment::path(directory, service, number), WINDOW, None)?);
            if records.len() > 1000 {
                break;
            }
        }
        let Some(newest) = records.iter().map(|record| record.time).max() else { return Ok(None) };
        let Some(newest) = newest.timestamp() else { return Ok(None) };
        let since = newest.saturating_sub(DISORDER).unwrap_or(newest);
        let oldest = StoredTime::of(since);
        let mut known = HashMap::new();
        for record in records.into_iter().filter(|record| record.time >= oldest) {
            *known.entry((record.time, record.stream == LogStream::Stderr)).or_default() += 1;
        }
        Ok(Some(Self { since, known, stamper: Stamper::default() }))
    }

    /// The time from which to ask the engine for lines.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Whether a line from the engine is not stored yet. Call it once for each line, in order.
    pub fn is_new(&mut self, time: Timestamp, stream: LogStream) -> bool {
        let stored = self.stamper.stamp(time);
        if time < self.since {
            return false;
        }
        match self.known.get_mut(&(stored, stream == LogStream::Stderr)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        }
    }
}
