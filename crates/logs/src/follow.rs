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

/// The most lines in one batch.
const BATCH: usize = 1000;
/// The polling interval if the kernel grants no more watches.
const WITHOUT_NOTICE: Duration = Duration::from_millis(50);

/// Signals that something was written in a log directory.
#[derive(Debug)]
pub(super) struct Changes {
    changed: watch::Sender<u64>,
    /// `None` if the kernel refused a watch.
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

/// The lines of one or several services: first those on disk, then those that are written later.
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
        // Set before the first read of the files, so that no write falls between the read and the notification.
        let mut changed = changes.changed.subscribe();
        changed.mark_changed();
        let merge = Merge::open(directory, query)?;
        Ok(Self { directory: directory.to_owned(), merge, changes, changed, in_history: true })
    }

    /// Waits for the next lines and returns at least one. Cancel-safe: every line that was read has been returned.
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

    /// Whether everything that existed when following started has been returned.
    #[cfg(test)]
    pub fn is_live(&self) -> bool {
        !self.in_history
    }
}
