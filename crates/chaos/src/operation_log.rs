//! The log of each client's operations and their outcomes, in a file outside of the services under test.
//!
//! A line is written before an operation is sent and one after its answer, each by one write to the file, so the
//! log survives this process. Acknowledged operations are read from the file, not from memory.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// The log of one workload. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct OperationLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    file: Mutex<File>,
    began: Instant,
    /// A line could not be written: no conclusion may be drawn from this log.
    torn: AtomicBool,
}

/// What is written about an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// About to be sent.
    Invoked,
    Acknowledged,
    /// Refused for certain.
    Failed,
    /// Sent, and its outcome is unknown.
    Unknown,
    /// For a job: completed by a worker. Once for each completion.
    Done,
}

/// An operation as read from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub client: u32,
    pub sequence: u64,
    pub invoked_us: u64,
    pub outcome: Outcome,
    /// How often a worker completed it.
    pub done: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acknowledged {
        at_us: u64,
    },
    Failed,
    /// Answered with an error, or not answered before the run ended.
    Unknown,
}

impl OperationLog {
    pub(crate) fn create(path: &Path, began: Instant) -> io::Result<Self> {
        let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(path)?;
        Ok(Self { shared: Arc::new(Shared { path: path.to_owned(), file: Mutex::new(file), began, torn: AtomicBool::new(false) }) })
    }

    pub(crate) fn write(&self, client: u32, sequence: u64, entry: Entry) {
        let at = self.shared.began.elapsed().as_micros() as u64;
        let line = format!("{} {client} {sequence} {at}\n", entry.letter());
        let written = self.shared.file.lock().expect("no code panics while it holds this lock").write_all(line.as_bytes());
        if written.is_err() {
            self.shared.torn.store(true, Ordering::Relaxed);
        }
    }

    /// All operations in the file, ordered by client and sequence.
    pub(crate) fn operations(&self) -> io::Result<Vec<Operation>> {
        if self.shared.torn.load(Ordering::Relaxed) {
            return Err(io::Error::other("cannot write a line"));
        }
        read(BufReader::new(File::open(&self.shared.path)?))
    }
}

fn read(lines: impl BufRead) -> io::Result<Vec<Operation>> {
    let mut operations: BTreeMap<(u32, u64), Operation> = BTreeMap::new();
    for line in lines.lines() {
        let line = line?;
        // A truncated line belongs to an operation that was never sent.
        let Some((entry, client, sequence, at)) = parse(&line) else { continue };
        let operation = operations.entry((client, sequence)).or_insert(Operation {
            client,
            sequence,
            invoked_us: at,
            outcome: Outcome::Unknown,
            done: 0,
        });
        match entry {
            Entry::Invoked => operation.invoked_us = at,
            Entry::Acknowledged => operation.outcome = Outcome::Acknowledged { at_us: at },
            Entry::Failed => operation.outcome = Outcome::Failed,
            Entry::Unknown => operation.outcome = Outcome::Unknown,
            Entry::Done => operation.done += 1,
        }
    }
    Ok(operations.into_values().collect())
}

fn parse(line: &str) -> Option<(Entry, u32, u64, u64)> {
    let mut words = line.split(' ');
    let entry = Entry::of(words.next()?)?;
    Some((entry, words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

impl Entry {
    fn letter(self) -> &'static str {
        match self {
            Self::Invoked => "i",
            Self::Acknowledged => "a",
            Self::Failed => "f",
            Self::Unknown => "u",
            Self::Done => "d",
        }
    }

    fn of(letter: &str) -> Option<Self> {
        [Self::Invoked, Self::Acknowledged, Self::Failed, Self::Unknown, Self::Done].into_iter().find(|entry| entry.letter() == letter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_read_back_and_an_operation_without_an_end_is_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let log = OperationLog::create(&directory.path().join("l"), Instant::now()).unwrap();
        for (client, sequence, entry) in [
            (1, 1, Entry::Invoked),
            (0, 1, Entry::Invoked),
            (0, 1, Entry::Acknowledged),
            (0, 2, Entry::Invoked),
            (0, 2, Entry::Failed),
            (0, 1, Entry::Done),
            (0, 1, Entry::Done),
        ] {
            log.write(client, sequence, entry);
        }
        let operations = log.operations().unwrap();
        let recorded: Vec<_> = operations
            .iter()
            .map(|one| (one.client, one.sequence, matches!(one.outcome, Outcome::Acknowledged { .. }), one.done))
            .collect();
        assert_eq!(recorded, [(0, 1, true, 2), (0, 2, false, 0), (1, 1, false, 0)]);
        assert_eq!(operations[2].outcome, Outcome::Unknown);
    }

    #[test]
    fn a_line_that_was_cut_off_is_no_operation() {
        let operations = read("i 0 1 5\na 0 1 9\ni 0 2".as_bytes()).unwrap();
        assert_eq!(operations, [Operation { client: 0, sequence: 1, invoked_us: 5, outcome: Outcome::Acknowledged { at_us: 9 }, done: 0 }]);
    }
}
