//! Decides when to read touched files. Pure: time is a parameter.
//!
//! A single file that was closed after writing is read after a short quiet period. The period is longer while a file is
//! still open, is gone (it often comes back at once) or when there are many; and the wait has a limit however busy the writer is.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The quiet period of a single file that was closed.
const SHORT: Duration = Duration::from_millis(20);
/// Added for each further file.
const EACH: Duration = Duration::from_millis(5);
/// The quiet period if a file is open or gone, or if there are several files.
const LONG: Duration = Duration::from_millis(45);
/// More files come from a tool (a checkout, a copy), not from a person. Such a tool pauses now and then, so each file beyond
/// these adds a little, up to a limit that it does not notice.
const SEVERAL: usize = 8;
const EACH_OF_MANY: Duration = Duration::from_millis(1);
const MANY: Duration = Duration::from_millis(250);
/// The longest wait, however busy the writer is.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What the last event reported about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Closed: nobody is writing it.
    Settled,
    /// Written to, and not closed yet.
    Open,
    Gone,
}

#[derive(Debug, Default)]
pub(super) struct Debounce {
    pending: HashMap<PathBuf, Mark>,
    unsettled: usize,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Debounce {
    pub(super) fn touch(&mut self, now: Instant, path: PathBuf, mark: Mark) {
        let before = self.pending.insert(path, mark);
        self.unsettled += usize::from(mark != Mark::Settled);
        self.unsettled -= usize::from(before.is_some_and(|before| before != Mark::Settled));
        self.first.get_or_insert(now);
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
    }

    /// When the touched files are due, if there are any.
    pub(super) fn due(&self) -> Option<Instant> {
        let (first, last) = (self.first?, self.last?);
        let times = |each: Duration, count: usize| each.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        let few = if self.unsettled > 0 { LONG } else { SHORT.saturating_add(times(EACH, self.pending.len().saturating_sub(1))) };
        let many = times(EACH_OF_MANY, self.pending.len().saturating_sub(SEVERAL));
        let quiet = few.min(LONG).saturating_add(many).min(MANY);
        Some((last + quiet).min(first + LONGEST_WAIT))
    }

    /// The writer is not finished: restarts the quiet period.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.last = self.last.map(|last| last.max(now));
    }

    /// Whether the wait has lasted this long.
    pub(super) fn waited(&self, now: Instant, time: Duration) -> bool {
        self.first.is_some_and(|first| now.saturating_duration_since(first) >= time)
    }

    /// When the first of the touched paths was touched.
    pub(super) fn began(&self) -> Option<Instant> {
        self.first
    }

    /// The paths that are being written right now, if they are few.
    pub(super) fn open(&self) -> impl Iterator<Item = &Path> {
        let few = self.pending.len() <= 16;
        self.pending.iter().filter(move |(_, mark)| few && **mark == Mark::Open).map(|(path, _)| path.as_path())
    }

    pub(super) fn take(&mut self) -> Vec<PathBuf> {
        self.unsettled = 0;
        self.first = None;
        self.last = None;
        let mut paths: Vec<PathBuf> = std::mem::take(&mut self.pending).into_keys().collect();
        paths.sort_unstable();
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events as (milliseconds, path, mark). Returns when the files are due.
    fn due(events: &[(u64, &str, Mark)]) -> Option<u128> {
        let (start, mut debounce) = (Instant::now(), Debounce::default());
        for (at, path, mark) in events {
            debounce.touch(start + Duration::from_millis(*at), PathBuf::from(path), *mark);
        }
        debounce.due().map(|due| (due - start).as_millis())
    }

    #[test]
    fn the_quiet_period_adapts_to_the_writer() {
        use Mark::{Gone, Open, Settled};
        assert_eq!(due(&[]), None);
        assert_eq!(due(&[(0, "a", Settled)]), Some(20), "a file that was closed");
        assert_eq!(due(&[(0, "a", Open)]), Some(45), "still being written");
        assert_eq!(due(&[(0, "a", Open), (10, "a", Open), (12, "a", Settled)]), Some(32), "closed at last");
        assert_eq!(due(&[(0, "a", Gone)]), Some(45), "gone, perhaps to come back");
        assert_eq!(due(&[(0, "a", Gone), (1, "a", Settled)]), Some(21), "and back");
        assert_eq!(due(&[(0, "a", Settled), (1, "b", Settled), (2, "c", Settled)]), Some(32), "three files");
        let burst: Vec<_> = (0..3000).map(|at| (at, if at % 2 == 0 { "a" } else { "b" }, Settled)).collect();
        assert_eq!(due(&burst), Some(2999 + 25), "as long as it goes on");
        let names: Vec<String> = (0..1000).map(|name| name.to_string()).collect();
        let checkout: Vec<_> = names.iter().map(|name| (0, name.as_str(), Settled)).collect();
        assert_eq!(due(&checkout[..8]), Some(45), "several files");
        assert_eq!(due(&checkout[..50]), Some(45 + 42), "a tool at work");
        assert_eq!(due(&checkout), Some(250), "at most");
        let endless: Vec<_> = (0..20_000).map(|at| (at, "a", Open)).collect();
        assert_eq!(due(&endless), Some(10_000), "but not for ever");
    }

    #[test]
    fn a_drained_debounce_is_empty() {
        let mut debounce = Debounce::default();
        let now = Instant::now();
        debounce.touch(now, PathBuf::from("b"), Mark::Gone);
        debounce.touch(now, PathBuf::from("a"), Mark::Open);
        assert_eq!(debounce.open().count(), 1);
        assert_eq!(debounce.take(), [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!((debounce.due(), debounce.began()), (None, None));
    }
}
