//! Follows log lines as they are written, by any process.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use devenv_api::LogLine;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

use super::{Query, reader::Merge};

/// Lines handed on at a time.
const BATCH: usize = 1000;
/// Where the kernel has no more watches to give, looking now and then has to do.
const WITHOUT_NOTICE: Duration = Duration::from_millis(50);

/// Signals that something was written in a log directory.
#[derive(Debug)]
pub(super) struct Changes {
    changed: watch::Sender<u64>,
    /// Nothing if the kernel refused.
    watcher: Option<RecommendedWatcher>,
}

impl Changes {
    pub(super) fn of(directory: &Path) -> Arc<Self> {
        let changed = watch::Sender::new(0);
        let sender = changed.clone();
        let watcher = std::fs::create_dir_all(directory)
            .map_err(notify::Error::io)
            .and_then(|()| {
                let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                    // Our own reading causes access events.
                    if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                        sender.send_modify(|count| *count += 1);
                    }
                })?;
                watcher.watch(directory, RecursiveMode::NonRecursive)?;
                Ok(watcher)
            })
            .inspect_err(|error| tracing::warn!(%error, "Polling the logs."))
            .ok();
        Arc::new(Self { changed, watcher })
    }
}

/// A service's or several services' lines: those that are there, then those that come.
#[derive(Debug)]
pub struct Follower {
    directory: PathBuf,
    merge: Merge,
    changes: Arc<Changes>,
    changed: watch::Receiver<u64>,
    in_history: bool,
}

impl Follower {
    pub(super) fn open(directory: &Path, query: Query, changes: Arc<Changes>) -> io::Result<Self> {
        // Before the first look at the files, so that no write falls between look and notice.
        let mut changed = changes.changed.subscribe();
        changed.mark_changed();
        let merge = Merge::open(directory, query)?;
        Ok(Self { directory: directory.to_owned(), merge, changes, changed, in_history: true })
    }

    /// The next lines, at least one; waits until there are any. Cancel-safe: what was read is what was returned.
    pub async fn next(&mut self) -> io::Result<Vec<LogLine>> {
        loop {
            self.merge.refresh();
            let mut lines = Vec::new();
            while lines.len() < BATCH
                && let Some(line) = self.merge.next()?
            {
                lines.push(line);
            }
            if !lines.is_empty() {
                return Ok(lines);
            }
            if self.in_history {
                self.in_history = false;
                self.merge.cursors.iter_mut().for_each(super::reader::Cursor::unbind);
                continue;
            }
            if self.changes.watcher.is_some() {
                // Cannot fail: the sender lives in `changes`.
                let _ = self.changed.changed().await;
            } else {
                tokio::time::sleep(WITHOUT_NOTICE).await;
            }
            for index in self.merge.discover(&self.directory)? {
                self.merge.cursors[index].unbind();
            }
        }
    }

    /// Whether all that was there at the beginning has been returned.
    #[cfg(test)]
    pub fn is_live(&self) -> bool {
        !self.in_history
    }
}
