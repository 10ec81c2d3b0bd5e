//! The entries of a directory and everything below, read once, in a fixed order, without following links.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// One thing in a tree.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// From the root of the tree; empty for the root itself.
    pub(super) path: PathBuf,
    pub(super) metadata: fs::Metadata,
}

/// The root and everything below it, each directory before what is in it, sorted by path.
pub(super) fn walk(root: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = vec![Entry { path: PathBuf::new(), metadata: fs::symlink_metadata(root)? }];
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            let metadata = fs::symlink_metadata(entry.path())?;
            if metadata.is_dir() {
                pending.push(path.clone());
            }
            entries.push(Entry { path, metadata });
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Bytes of files below the root that can be read.
pub fn size_of(root: &Path) -> u64 {
    walk(root).map_or(0, |entries| entries.iter().filter(|entry| entry.metadata.is_file()).map(|entry| entry.metadata.len()).sum())
}

impl Entry {
    /// Identifies the file: an entry with the same identity is a hard link to it.
    pub(super) fn inode(&self) -> (u64, u64) {
        (self.metadata.dev(), self.metadata.ino())
    }
}

/// Runs `work` on every item with a few threads; the first error ends it.
pub(super) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> io::Result<R> + Sync) -> io::Result<Vec<R>> {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    const MOST: usize = 8;
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, MOST);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let run = || {
        let mut done = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { break };
            match work(item) {
                Ok(result) => done.push((index, result)),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(done)
    };
    let mut results = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let joined = handles.into_iter().map(|handle| handle.join().unwrap_or_else(|_| Err(io::Error::other("a copying thread panicked"))));
        joined.collect::<io::Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}
