//! The output of services on disk: process shims and the daemon write it; the daemon reads it as history and follows it live.
//!
//! Theory of operation. Each service has segment files `<service>.<n>.log` in its environment's log directory; a record
//! is one line of text (`record.rs`). Several programs may append to one service's log at a time (two process shims during a
//! swap, the daemon with a build's output): each batch is one `write` under a file lock, and only the newest segment is
//! ever appended to. So a reader needs no lock: a position is a segment and an offset, and a segment is complete once a
//! newer one exists. Following is reading on from where history ended, woken by the kernel's notice of a write.
//!
//! It knows nothing of processes or containers and never decides what is logged.

mod assemble;
mod follow;
mod reader;
mod record;
mod resume;
mod segment;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
};

use devenv_api::LogLine;
use jiff::Timestamp;
use regex::Regex;

pub use assemble::Assembler;
pub use follow::Follower;
pub use reader::History;
pub use resume::Resume;
pub use writer::Writer;

/// The logs of one environment.
#[derive(Debug, Clone)]
pub struct Logs {
    directory: Arc<Path>,
    /// One watch on the directory for all followers; it exists only while there are followers.
    changes: Arc<Mutex<Weak<follow::Changes>>>,
}

/// Selects lines.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// All that have a log, if empty.
    pub services: Vec<String>,
    pub since: Option<Timestamp>,
    pub grep: Option<Regex>,
}

impl Logs {
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: Arc::from(directory.into()), changes: Arc::default() }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the service has ever written anything.
    pub fn has(&self, service: &str) -> bool {
        segment::numbers(&self.directory, service).is_ok_and(|numbers| !numbers.is_empty())
    }

    /// Appends to a service's log.
    pub fn writer(&self, service: &str) -> io::Result<Writer> {
        Writer::open(&self.directory, service)
    }

    /// Everything written so far: ordered by time across services, in the written order within each.
    pub fn history(&self, query: Query) -> io::Result<History> {
        History::open(&self.directory, query)
    }

    /// The history, and then every line as it is written; no line is lost or repeated in between.
    pub fn follow(&self, query: Query) -> io::Result<Follower> {
        let changes = {
            let mut shared = self.changes.lock().expect("no code panics while it holds the lock");
            shared.upgrade().unwrap_or_else(|| {
                let changes = follow::Changes::of(&self.directory);
                *shared = Arc::downgrade(&changes);
                changes
            })
        };
        Follower::open(&self.directory, query, changes)
    }

    /// The last lines of a service, of one run or of all runs.
    pub fn tail(&self, service: &str, run: Option<u32>, count: usize) -> io::Result<Vec<LogLine>> {
        let records = reader::tail(&self.directory, service, run, count)?;
        Ok(records.iter().map(|record| record.to_line(service)).collect())
    }

    /// The position from which to continue a container's log, which the engine keeps, after the daemon was restarted.
    pub fn resume(&self, service: &str) -> io::Result<Option<Resume>> {
        Resume::of(&self.directory, service)
    }

    /// Keeps the last lines of a run that crashed, even if rotation removes the rest.
    pub fn pin_crash(&self, service: &str, run: u32) -> io::Result<()> {
        let records = reader::tail(&self.directory, service, Some(run), CRASH_LINES)?;
        let mut text = Vec::new();
        for record in &records {
            record.write(&mut text);
        }
        let path = self.directory.join(format!("{service}.crash"));
        devenv_files::write_with(&path, &text, devenv_files::PRIVATE, devenv_files::Durability::Cached)
    }

    /// The last lines of the most recent run that crashed.
    pub fn crash(&self, service: &str) -> io::Result<Vec<LogLine>> {
        match std::fs::read(self.directory.join(format!("{service}.crash"))) {
            Ok(text) => {
                Ok(text.split(|byte| *byte == b'\n').filter_map(record::Record::parse).map(|record| record.to_line(service)).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// How much of a crashed run is kept.
const CRASH_LINES: usize = 200;

#[cfg(test)]
mod tests;
