//! The kernel's watches: assigns them to directories, and explains what to do when there are no more.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::Limited;

/// Watches on directories, each shared by all rules that need it.
pub(super) struct Watches {
    /// `None` if the kernel refused even the first.
    kernel: Option<RecommendedWatcher>,
    holders: HashMap<PathBuf, usize>,
    polled: HashSet<PathBuf>,
    limit: Option<usize>,
    setting: &'static str,
}

impl Watches {
    pub(super) fn new(events: impl notify::EventHandler, limit: Option<usize>) -> Self {
        let kernel = notify::recommended_watcher(events).inspect_err(|error| tracing::warn!(%error, "Polling for file changes.")).ok();
        let setting = if kernel.is_some() { "max_user_watches" } else { "max_user_instances" };
        Self { kernel, holders: HashMap::new(), polled: HashSet::new(), limit, setting }
    }

    /// One more needs this directory.
    pub(super) fn add(&mut self, directory: &Path) {
        *self.holders.entry(directory.to_owned()).or_default() += 1;
        self.renew(directory);
    }

    /// Another directory may have taken its place, or a watch may be free again. The kernel drops a watch with its
    /// directory, and a new directory may get the inode of the one that was removed.
    pub(super) fn renew(&mut self, directory: &Path) {
        let has_one = self.holders.contains_key(directory) && !self.polled.contains(directory);
        let others = self.holders.len() - self.polled.len() - usize::from(has_one);
        let allowed = self.limit.is_none_or(|limit| others < limit);
        let result = match &mut self.kernel {
            Some(kernel) if allowed => kernel.watch(directory, RecursiveMode::NonRecursive),
            Some(_) | None => Err(notify::Error::new(ErrorKind::MaxFilesWatch)),
        };
        match result.map_err(|error| error.kind) {
            Ok(()) => {
                self.polled.remove(directory);
            }
            Err(ErrorKind::PathNotFound) => {}
            Err(_) => {
                self.polled.insert(directory.to_owned());
            }
        }
    }

    /// Returns when all pending events of the kernel have been handled. Its thread takes requests and events in
    /// any order, but handles all of both in each round: after a second request, all earlier events have been sent.
    pub(super) fn drain(&mut self) {
        let Some(watched) = self.holders.keys().find(|path| !self.polled.contains(*path)).cloned() else { return };
        self.renew(&watched);
        self.renew(&watched);
    }

    pub(super) fn remove(&mut self, directory: &Path) {
        let Some(holders) = self.holders.get_mut(directory) else { return };
        *holders -= 1;
        if *holders == 0 {
            self.holders.remove(directory);
            self.polled.remove(directory);
            if let Some(kernel) = &mut self.kernel {
                // The directory may be gone by now.
                let _ = kernel.unwatch(directory);
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.holders.len()
    }

    pub(super) fn polled(&self) -> &HashSet<PathBuf> {
        &self.polled
    }

    /// `None` if every directory has a watch.
    pub(super) fn limited(&self) -> Option<Limited> {
        if self.polled.is_empty() {
            return None;
        }
        let limit = fs::read_to_string(format!("/proc/sys/fs/inotify/{}", self.setting)).ok().and_then(|text| text.trim().parse().ok());
        let wanted = if self.kernel.is_some() { 524_288_u64.max(limit.unwrap_or(0) * 2) } else { 1024.max(limit.unwrap_or(0) * 2) };
        Some(Limited {
            watched: self.holders.len() - self.polled.len(),
            polled: self.polled.len(),
            setting: self.setting,
            limit,
            fix: format!("sudo sysctl fs.inotify.{}={wanted}", self.setting),
        })
    }
}
