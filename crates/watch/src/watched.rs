//! The files of one watch rule: which exist, which were touched, and which have changed since they last counted.
//!
//! The thread of `source.rs` owns one for each rule and calls it for each event. It reports nothing itself.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    Rule,
    breaker::Breaker,
    debounce::{Debounce, Mark},
    filter::Filter,
    limits::Watches,
    tree::Tree,
};

/// A file that is empty and open is about to be written, but some stay empty.
const EMPTY: Duration = Duration::from_millis(500);
/// An older git lock was left behind by a git that died.
const STALE_LOCK: Duration = Duration::from_secs(30);

pub(super) struct Watched {
    pub(super) rule: Rule,
    filter: Filter,
    pub(super) tree: Tree,
    pub(super) debounce: Debounce,
    pub(super) breaker: Breaker,
    /// Roots that do not exist now.
    missing: Vec<PathBuf>,
    project: PathBuf,
    /// Directories above roots, watched so that roots are noticed when they appear or move.
    above: HashSet<PathBuf>,
    /// An ignore file changed.
    stale_filter: bool,
}

impl Watched {
    pub(super) fn new(project: &Path, rule: Rule, watches: &mut Watches) -> Self {
        let filter = Filter::new(project, &rule);
        let mut watched = Self {
            rule,
            filter,
            tree: Tree::default(),
            debounce: Debounce::default(),
            breaker: Breaker::default(),
            missing: Vec::new(),
            project: project.to_owned(),
            above: HashSet::new(),
            stale_filter: false,
        };
        watched.missing.clone_from(&watched.rule.paths);
        let found = watched.find_roots(watches);
        watched.tree.note(found);
        watched
    }

    /// Adds the roots that exist by now.
    fn find_roots(&mut self, watches: &mut Watches) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for root in std::mem::take(&mut self.missing) {
            self.watch_above(&root, watches);
            if fs::symlink_metadata(&root).is_ok() {
                found.extend(self.tree.add_root(&root, &mut self.filter, watches));
            } else {
                self.missing.push(root);
            }
        }
        found
    }

    /// A root appears and disappears with the directories above it.
    fn watch_above(&mut self, root: &Path, watches: &mut Watches) {
        let existing: Vec<&Path> = root.ancestors().skip(1).filter(|above| above.is_dir()).collect();
        let nearest = existing.first().copied();
        for above in existing.into_iter().filter(|above| Some(*above) == nearest || above.starts_with(&self.project)) {
            if self.above.insert(above.to_owned()) {
                watches.add(above);
            } else {
                watches.renew(above);
            }
        }
    }

    pub(super) fn touch(&mut self, path: &Path, mark: Mark, at: Instant, may_be_directory: bool, watches: &mut Watches) {
        if self.rule.paths.iter().any(|root| root.starts_with(path)) {
            self.touch_roots(path, mark, at, watches);
        }
        if path.file_name().is_some_and(Filter::is_ignore_file) {
            self.stale_filter = true;
            self.debounce.touch(at, path.to_owned(), mark);
            return;
        }
        let Some(path) = self.tree.known_as(path, &self.filter) else { return };
        // A new directory gets its watch now; files that it already holds are found by a scan.
        if may_be_directory && path.is_dir() {
            for file in self.tree.scan(&path, &mut self.filter, watches) {
                self.debounce.touch(at, file, Mark::Settled);
            }
        }
        self.debounce.touch(at, path, mark);
    }

    /// Something happened to a root, or above it.
    fn touch_roots(&mut self, path: &Path, mark: Mark, at: Instant, watches: &mut Watches) {
        let mut touched = self.find_roots(watches);
        for root in self.rule.paths.clone().into_iter().filter(|root| root.starts_with(path)) {
            if self.tree.has_directory(&root) {
                if root.is_dir() {
                    self.watch_above(&root, watches);
                    touched.extend(self.tree.scan(&root, &mut self.filter, watches));
                }
                self.debounce.touch(at, root, mark);
            }
        }
        for file in touched {
            self.debounce.touch(at, file, Mark::Settled);
        }
    }

    /// Scans for changes that no event reported, in all directories or in some.
    pub(super) fn rescan(&mut self, now: Instant, watches: &mut Watches, some: Option<&[PathBuf]>) {
        let directories: Vec<PathBuf> = match some {
            Some(some) => some.iter().filter(|path| self.tree.has_directory(path)).cloned().collect(),
            None => self.tree.directories().cloned().collect(),
        };
        let mut touched = self.find_roots(watches);
        for directory in directories {
            if directory.is_dir() {
                touched.extend(self.tree.scan_one(&directory, &mut self.filter, watches));
            } else {
                touched.push(directory);
            }
        }
        for path in touched {
            self.debounce.touch(now, path, Mark::Settled);
        }
    }

    /// Whether the writer shows signs of not being finished, which outweighs the quiet.
    pub(super) fn is_unfinished(&self, now: Instant) -> bool {
        let empty = |path: &Path| fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() == 0);
        if !self.debounce.waited(now, EMPTY) && self.debounce.open().any(empty) {
            return true;
        }
        let lock = self.filter.git_lock.as_ref().and_then(|lock| fs::metadata(lock).ok()?.modified().ok());
        !self.debounce.waited(now, STALE_LOCK) && lock.is_some_and(|at| at.elapsed().is_ok_and(|age| age < STALE_LOCK))
    }

    /// What differs from before among the touched paths.
    pub(super) fn changes(&mut self, watches: &mut Watches) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for path in self.debounce.take() {
            if !path.file_name().is_some_and(Filter::is_ignore_file) {
                changed.extend(self.tree.look(&path, &mut self.filter, watches));
            }
        }
        for root in &self.rule.paths {
            // A root that is gone is waited for.
            if !self.missing.contains(root) && !root.exists() {
                self.missing.push(root.clone());
            }
        }
        if !self.missing.is_empty() {
            for file in self.find_roots(watches) {
                changed.extend(self.tree.look(&file, &mut self.filter, watches));
            }
        }
        if std::mem::take(&mut self.stale_filter) {
            self.refilter(watches);
        }
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// The ignore rules changed. Other files count from now on; that itself is no change of the files.
    fn refilter(&mut self, watches: &mut Watches) {
        self.filter = Filter::new(&self.project, &self.rule);
        let mut old = std::mem::take(&mut self.tree);
        self.missing.clone_from(&self.rule.paths);
        let found = self.find_roots(watches);
        self.tree.note(found);
        self.tree.inherit(&old);
        old.release(watches);
    }
}
