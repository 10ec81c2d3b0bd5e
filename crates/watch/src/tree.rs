//! What the watched files held when they last counted: compared by size, time and identity first, and by their bytes in doubt.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    hash::{DefaultHasher, Hasher},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::{filter::Filter, limits::Watches};

/// Larger files are compared by size, time and identity only.
const HASHED: u64 = 32 * 1024 * 1024;

/// One rule's files.
#[derive(Debug, Default)]
pub(super) struct Tree {
    directories: HashMap<PathBuf, Directory>,
    /// Directories by identity: a link to one that is already known is not followed.
    inodes: HashSet<(u64, u64)>,
    /// Links to files, by their target: a change there is not reported for the link.
    targets: HashMap<PathBuf, PathBuf>,
    /// Directories with files whose bytes have not been read yet.
    unread: VecDeque<PathBuf>,
    /// The unread files of the current directory.
    reading: Vec<PathBuf>,
}

#[derive(Debug)]
struct Directory {
    inode: (u64, u64),
    files: HashMap<Box<OsStr>, Entry>,
    /// Only these names count, if files were named and not their directory.
    only: Option<HashSet<OsString>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    inode: u64,
    size: u64,
    modified: i64,
    /// Of the bytes, or of the target of a broken link. `None` if they have not been read.
    hash: Option<u64>,
}

impl Tree {
    pub(super) fn has_directory(&self, path: &Path) -> bool {
        self.directories.contains_key(path)
    }

    pub(super) fn files(&self) -> usize {
        self.directories.values().map(|directory| directory.files.len()).sum()
    }

    pub(super) fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.directories.keys()
    }

    /// The path under which the path of an event is known here, if it is watched.
    pub(super) fn known_as(&self, path: &Path, filter: &Filter) -> Option<PathBuf> {
        if let Some(link) = self.targets.get(path) {
            return Some(link.clone());
        }
        if self.has_directory(path) {
            return Some(path.to_owned());
        }
        let directory = self.directories.get(path.parent()?)?;
        let name = path.file_name()?;
        let wanted = directory.only.as_ref().is_none_or(|only| only.contains(name));
        (wanted && !filter.ignores(path, path.is_dir())).then(|| path.to_owned())
    }

    /// Adds a root that the user named. Returns the files found.
    pub(super) fn add_root(&mut self, root: &Path, filter: &mut Filter, watches: &mut Watches) -> Vec<PathBuf> {
        if root.is_dir() {
            return self.scan(root, filter, watches);
        }
        let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else { return Vec::new() };
        let Ok(data) = fs::metadata(parent) else { return Vec::new() };
        let directory = self.directories.entry(parent.to_owned()).or_insert_with(|| {
            watches.add(parent);
            Directory { inode: identity(&data), files: HashMap::new(), only: Some(HashSet::new()) }
        });
        if let Some(only) = &mut directory.only {
            only.insert(name.to_owned());
        }
        vec![root.to_owned()]
    }

    pub(super) fn is_read(&self) -> bool {
        self.unread.is_empty() && self.reading.is_empty()
    }

    /// Like [`Tree::scan`], but below the directory it looks only at what is new.
    pub(super) fn scan_one(&mut self, path: &Path, filter: &mut Filter, watches: &mut Watches) -> Vec<PathBuf> {
        watches.renew(path);
        let Ok(listing) = fs::read_dir(path) else { return Vec::new() };
        let listing: Vec<fs::DirEntry> = listing.filter_map(Result::ok).collect();
        let mut below = Vec::new();
        let mut touched = self.compare_listing(path, &listing, filter, watches, &mut below);
        for directory in below {
            if !self.has_directory(&directory) {
                touched.extend(self.scan(&directory, filter, watches));
            }
        }
        touched
    }

    /// Ensures that a directory and everything below have watches, and returns the files that are new, differ at first sight
    /// or are gone. The watch is set before the scan, so that no change is missed.
    pub(super) fn scan(&mut self, top: &Path, filter: &mut Filter, watches: &mut Watches) -> Vec<PathBuf> {
        let mut touched = Vec::new();
        let mut stack = vec![top.to_owned()];
        while let Some(path) = stack.pop() {
            let Ok(data) = fs::metadata(&path) else { continue };
            let inode = identity(&data);
            if let Some(known) = self.directories.get_mut(&path) {
                if path == top {
                    known.only = None;
                }
                self.inodes.remove(&known.inode);
                known.inode = inode;
                self.inodes.insert(inode);
                watches.renew(&path);
            } else {
                if !self.inodes.insert(inode) {
                    continue;
                }
                watches.add(&path);
                self.directories.insert(path.clone(), Directory { inode, files: HashMap::new(), only: None });
            }
            let Ok(listing) = fs::read_dir(&path) else { continue };
            let listing: Vec<fs::DirEntry> = listing.filter_map(Result::ok).collect();
            if listing.iter().any(|entry| Filter::is_ignore_file(&entry.file_name())) {
                filter.load(&path);
            }
            touched.extend(self.compare_listing(&path, &listing, filter, watches, &mut stack));
        }
        touched
    }

    fn compare_listing(
        &mut self,
        path: &Path,
        listing: &[fs::DirEntry],
        filter: &Filter,
        watches: &mut Watches,
        stack: &mut Vec<PathBuf>,
    ) -> Vec<PathBuf> {
        let mut touched = Vec::new();
        let mut gone: HashSet<Box<OsStr>> = self.directories[path].files.keys().cloned().collect();
        for entry in listing {
            let (name, file) = (entry.file_name(), entry.path());
            let Ok(kind) = entry.file_type() else { continue };
            let target = kind.is_symlink().then(|| fs::metadata(&file).ok()).flatten();
            let is_directory = kind.is_dir() || target.as_ref().is_some_and(Metadata::is_dir);
            if Filter::is_ignore_file(&name) || filter.ignores(&file, is_directory) {
                continue;
            }
            let only = self.directories[path].only.as_ref();
            if only.is_some_and(|only| !only.contains(&name)) {
                continue;
            }
            if is_directory {
                stack.push(file);
                continue;
            }
            if target.is_some()
                && let Ok(target) = fs::canonicalize(&file)
                && self.targets.insert(target.clone(), file.clone()).is_none()
                && let Some(parent) = target.parent()
            {
                watches.add(parent);
            }
            gone.remove(name.as_os_str());
            let known = self.directories[path].files.get(name.as_os_str());
            let now = Entry::at_first_sight(&file);
            if now.is_some() && known.is_none_or(|known| now != Some(Entry { hash: None, ..*known })) {
                touched.push(file);
            }
        }
        touched.extend(gone.into_iter().map(|name| path.join(&*name)));
        touched
    }

    /// Records what files hold now without reporting a change.
    pub(super) fn note(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            if let Some(entry) = Entry::at_first_sight(&path) {
                self.insert(&path, entry);
                if let Some(directory) = path.parent()
                    && self.unread.back().is_none_or(|last| last != directory)
                {
                    self.unread.push_back(directory.to_owned());
                }
            }
        }
    }

    /// Reads one more unread file. False if there is none.
    pub(super) fn read_one(&mut self) -> bool {
        while self.reading.is_empty() {
            let Some(path) = self.unread.pop_front() else { return false };
            let files = self.directories.get(&path).map(|directory| &directory.files).into_iter().flatten();
            self.reading = files.filter(|(_, entry)| entry.hash.is_none()).map(|(name, _)| path.join(&**name)).collect();
        }
        let Some(path) = self.reading.pop() else { return false };
        if let Some(known) = self.get(&path).copied().filter(|known| known.hash.is_none())
            && let Some(now) = Entry::read(&path)
            // It changed already, so its first bytes will never be known: the event that follows decides.
            && (Entry { hash: None, ..now }) == known
        {
            self.insert(&path, now);
        }
        true
    }

    /// Reads a touched path. Returns what differs from before, and remembers the new content.
    pub(super) fn look(&mut self, path: &Path, filter: &mut Filter, watches: &mut Watches) -> Vec<PathBuf> {
        if path.is_dir() {
            let mut changed = self.remove_file(path);
            for file in self.scan(path, filter, watches) {
                changed.extend(self.look(&file, filter, watches));
            }
            return changed;
        }
        let mut changed = if self.has_directory(path) { self.remove_directory(path, watches) } else { Vec::new() };
        match Entry::read(path) {
            Some(now) => {
                let before = self.insert(path, now);
                if before.is_none_or(|before| before.differs(&now)) {
                    changed.push(path.to_owned());
                }
            }
            None => changed.extend(self.remove_file(path)),
        }
        changed
    }

    fn remove_file(&mut self, path: &Path) -> Vec<PathBuf> {
        let directory = path.parent().and_then(|parent| self.directories.get_mut(parent));
        let removed = directory.zip(path.file_name()).and_then(|(directory, name)| directory.files.remove(name));
        removed.map(|_| path.to_owned()).into_iter().collect()
    }

    /// Forgets a directory that is gone. Returns its files, which have changed.
    fn remove_directory(&mut self, path: &Path, watches: &mut Watches) -> Vec<PathBuf> {
        let below: Vec<PathBuf> = self.directories.keys().filter(|other| other.starts_with(path)).cloned().collect();
        let mut removed = Vec::new();
        for gone in below {
            watches.remove(&gone);
            if let Some(directory) = self.directories.remove(&gone) {
                self.inodes.remove(&directory.inode);
                removed.extend(directory.files.into_keys().map(|name| gone.join(&*name)));
            }
        }
        removed
    }

    /// Gives its watches back.
    pub(super) fn release(&mut self, watches: &mut Watches) {
        self.directories.keys().for_each(|path| watches.remove(path));
        self.targets.keys().filter_map(|target| target.parent()).for_each(|parent| watches.remove(parent));
    }

    /// Keeps what is known of files that are in both trees.
    pub(super) fn inherit(&mut self, old: &Self) {
        for (path, directory) in &mut self.directories {
            let Some(old) = old.directories.get(path) else { continue };
            for (name, entry) in &mut directory.files {
                if let Some(known) = old.files.get(name) {
                    *entry = *known;
                }
            }
        }
    }

    fn get(&self, path: &Path) -> Option<&Entry> {
        self.directories.get(path.parent()?)?.files.get(path.file_name()?)
    }

    fn insert(&mut self, path: &Path, entry: Entry) -> Option<Entry> {
        self.directories.get_mut(path.parent()?)?.files.insert(path.file_name()?.into(), entry)
    }
}

fn identity(data: &Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}

impl Entry {
    /// `None` for anything but a file or a broken link.
    fn at_first_sight(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).or_else(|_| fs::symlink_metadata(path)).ok()?;
        (data.is_file() || data.is_symlink()).then(|| Self {
            inode: data.ino(),
            size: data.len(),
            modified: data.mtime() * 1_000_000_000 + data.mtime_nsec(),
            hash: None,
        })
    }

    fn read(path: &Path) -> Option<Self> {
        let entry = Self::at_first_sight(path)?;
        let hash = if entry.size > HASHED { None } else { hash(path).ok() };
        Some(Self { hash, ..entry })
    }

    /// Equal bytes are no difference, whatever else differs.
    fn differs(&self, now: &Self) -> bool {
        match (self.hash, now.hash) {
            (Some(before), Some(now)) => before != now,
            _ => self != now,
        }
    }
}

fn hash(path: &Path) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    match File::open(path) {
        Ok(mut file) => {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                hasher.write(&buffer[..count]);
            }
        }
        Err(error) => {
            // A broken link is identified by its target.
            let target = fs::read_link(path).map_err(|_| error)?;
            hasher.write(b"link to ");
            hasher.write(target.as_os_str().as_bytes());
        }
    }
    Ok(hasher.finish())
}
