//! The last version of each service that became ready: its files are kept, so that it can be started again when the next one
//! does not become ready.
//!
//! Theory of operation. A version consists of the files that the service's rules watch and, if a rule builds, those that its command
//! names. They are copied once the version is ready, if nothing changed since its start; otherwise it is unknown what it read. A version
//! whose readiness is only to be confirmed is copied already, and kept when it is.
//! A fallback writes a mark that lists the files. While the mark exists and the files match it, starts use the
//! kept version: in a tree that mirrors the project, in which the kept files are real and everything else links to
//! the project.
//!
//! The service runtime calls this; it starts nothing itself.

mod changes;
mod stamp;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs::{self, File, Metadata},
    io::{self, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Mutex,
    time::SystemTime,
};

use devenv_engine::UploadFile;
use devenv_spec::{Probe, ProcessSpec, Reaction, ServiceName, ServiceSpec, SpecHash, WatchRule, Workload};
use serde::{Deserialize, Serialize};

use super::watched::watched;
use crate::store;
use stamp::{Stamp, Stamps};

pub(crate) use changes::AdoptedStart;

/// A larger version is not kept: copying it would take too long, and fill the disk.
const FILES: usize = 20_000;
const BYTES: u64 = 256 * 1024 * 1024;

/// What a running program writes beside its own files, by name and time: a link would mix up two versions.
const CACHES: [&str; 1] = ["__pycache__"];

/// In a service's directory: the version, the next one while it is being copied, one whose readiness is not confirmed yet, the former one
/// until it is removed, and the mark.
const KEPT: &str = "version";
const NEXT: &str = "next";
const PROPOSED: &str = "proposed";
const FORMER: &str = "former";
const MARK: &str = "fallen-back";
/// In a version's directory.
const MANIFEST: &str = "version.json";
const TREE: &str = "tree";

pub(crate) struct Versions {
    directory: PathBuf,
    project: PathBuf,
    /// Held while files are copied or moved: copying continues when the caller is gone. Services that have
    /// too many files are scanned only once.
    lock: Mutex<HashSet<ServiceName>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    run: u32,
    spec: SpecHash,
    /// The directory that the tree mirrors.
    base: PathBuf,
    /// By the path below the base: the file as it was when it was copied.
    files: Stamps,
}

/// Why a version was not kept. The former one stays, unless it is too large.
#[derive(Debug, thiserror::Error)]
enum NotKept {
    #[error("{0} was modified after the start")]
    Changed(PathBuf),
    #[error("it has more than {FILES} files or {} MiB", BYTES / (1024 * 1024))]
    TooLarge,
    #[error("its command does not name the build's output")]
    Unnamed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Versions {
    pub(crate) fn new(directory: PathBuf, project: PathBuf) -> Self {
        Self { directory, project, lock: Mutex::default() }
    }

    /// Copies the version that the service has run since `started`, to be kept once [`Self::confirm`] is called. Blocks.
    pub(crate) fn propose(&self, spec: &ServiceSpec, run: u32, started: SystemTime) {
        if !is_kept(spec) || self.mark(&spec.name).exists() {
            return;
        }
        let mut too_large = self.lock();
        if too_large.contains(&spec.name) {
            return;
        }
        if let Err(error) = self.copy(spec, run, started) {
            tracing::info!(%error, service = %spec.name, "Not keeping a copy of this version.");
            if matches!(error, NotKept::TooLarge) {
                too_large.insert(spec.name.clone());
                remove(&self.of(&spec.name));
            }
        }
    }

    /// Keeps the version that was proposed for this run, if any: it is ready. Blocks.
    pub(crate) fn confirm(&self, service: &ServiceName, run: u32) {
        let _guard = self.lock();
        let [kept, proposed, former] = [KEPT, PROPOSED, FORMER].map(|name| self.of(service).join(name));
        if manifest(&proposed).is_none_or(|manifest| manifest.run != run) {
            return;
        }
        remove(&former);
        let _ = fs::rename(&kept, &former);
        if let Err(error) = fs::rename(&proposed, &kept) {
            tracing::warn!(%error, %service, "Cannot keep the copy of a version.");
        }
        remove(&former);
    }

    /// From now on the kept version is started. Returns the number of its run, if there is one. Blocks.
    pub(crate) fn fall_back(&self, spec: &ServiceSpec) -> Option<u32> {
        let kept = self.manifest(&spec.name).filter(|kept| kept.spec == spec.hash())?;
        // Only once: if it does not become ready either, there is nothing to fall back to.
        let marked = File::create_new(self.mark(&spec.name))
            .and_then(|mut mark| mark.write_all(&serde_json::to_vec(&self.stamps(&spec.name, &spec.watch)).map_err(io::Error::other)?));
        marked
            .inspect_err(|error| tracing::debug!(%error, service = %spec.name, "Cannot fall back to the previous version."))
            .ok()
            .map(|()| kept.run)
    }

    /// From now on the project's files are started as they are.
    pub(crate) fn go_on(&self, service: &ServiceName) {
        // Mostly it does not exist.
        let _ = fs::remove_file(self.mark(service));
    }

    /// Removes everything that is kept of the service.
    pub(crate) fn forget(&self, service: &ServiceName) {
        self.lock().remove(service);
        remove(&self.of(service));
    }

    /// The service as it must be started: after a fallback, with the directory and the words of the kept version.
    /// Blocks.
    pub(crate) fn to_start(&self, spec: &ServiceSpec) -> ServiceSpec {
        let mut spec = spec.clone();
        if let Workload::Process(process) = &mut spec.workload
            && let Some(kept) = self.fallen_back_to(&spec.name, &spec.watch)
        {
            let tree = self.tree(&spec.name);
            match self.furnish(&spec.name, &spec.watch, &kept) {
                Ok(()) => kept.move_to(&tree, process),
                Err(error) => tracing::error!(%error, service = %spec.name, "Cannot prepare the previous version."),
            }
        }
        spec
    }

    /// The files for the service's container after a fallback. Blocks.
    pub(crate) fn synced_files(&self, spec: &ServiceSpec) -> Option<Vec<UploadFile>> {
        let kept = self.fallen_back_to(&spec.name, &spec.watch)?;
        let tree = self.tree(&spec.name);
        let upload = |below: &PathBuf| {
            let path = spec.watch.iter().find_map(|rule| rule.target(&kept.base.join(below)))?;
            let file = tree.join(below);
            let mode = fs::metadata(&file).ok()?.permissions().mode() & 0o777;
            Some(UploadFile { path, mode, uid: 0, gid: 0, content: fs::read(&file).ok()?.into() })
        };
        Some(kept.files.0.keys().filter_map(upload).collect())
    }

    /// The version to start, if the mark exists and nothing was written since. While it exists nothing is copied.
    fn fallen_back_to(&self, service: &ServiceName, rules: &[WatchRule]) -> Option<Manifest> {
        let mark = fs::read(self.mark(service)).ok()?;
        let is_same = match serde_json::from_slice::<Stamps>(&mark) {
            Ok(then) => then == self.stamps(service, rules),
            // By an older devenv, which compared only times.
            Err(_) => {
                let marked = fs::metadata(self.mark(service)).and_then(|mark| mark.modified()).ok()?;
                let written = |path: &PathBuf| fs::metadata(path).is_ok_and(|data| data.modified().is_ok_and(|at| at > marked));
                !self.watched(service, rules).iter().any(written)
            }
        };
        if !is_same {
            self.go_on(service);
            return None;
        }
        self.manifest(service)
    }

    /// The watched files as they are. Times alone do not suffice: a restored file may have an old one.
    fn stamps(&self, service: &ServiceName, rules: &[WatchRule]) -> Stamps {
        let stamp = |path: PathBuf| Some((fs::metadata(&path).ok().as_ref().and_then(Stamp::of)?, path));
        Stamps(self.watched(service, rules).into_iter().filter_map(stamp).map(|(stamp, path)| (path, stamp)).collect())
    }

    fn copy(&self, spec: &ServiceSpec, run: u32, started: SystemTime) -> Result<(), NotKept> {
        let files = self.files(spec)?;
        let base = self.base(spec, &files);
        let mut stamps = BTreeMap::new();
        for file in &files {
            let Some(stamp) = Stamp::of(&fs::metadata(file)?).filter(|stamp| stamp.is_before(started)) else {
                return Err(NotKept::Changed(file.clone()));
            };
            let below = file.strip_prefix(&base).expect("the base directory contains all files");
            stamps.insert(below.to_owned(), stamp);
        }
        let bytes: u64 = stamps.values().map(|stamp| stamp.size).sum();
        if bytes > BYTES {
            return Err(NotKept::TooLarge);
        }
        let former = self.manifest(&spec.name).filter(|former| former.base == base);
        let directory = self.of(&spec.name);
        let [kept, next, proposed] = [KEPT, NEXT, PROPOSED].map(|name| directory.join(name));
        remove(&next);
        store::create_private(&next.join(TREE)).map_err(io::Error::other)?;
        for (below, stamp) in &stamps {
            devenv_files::progressed();
            let (from, to) = (base.join(below), next.join(TREE).join(below));
            if let Some(above) = to.parent() {
                fs::create_dir_all(above)?;
            }
            let same = former.as_ref().is_some_and(|former| former.files.0.get(below) == Some(stamp));
            if !same || fs::hard_link(kept.join(TREE).join(below), &to).is_err() {
                fs::copy(&from, &to)?;
                if Stamp::of(&fs::metadata(&from)?) != Some(*stamp) {
                    return Err(NotKept::Changed(from));
                }
            }
        }
        let manifest = Manifest { run, spec: spec.hash(), base, files: Stamps(stamps) };
        fs::write(next.join(MANIFEST), serde_json::to_vec(&manifest).map_err(io::Error::other)?)?;
        remove(&proposed);
        fs::rename(&next, &proposed)?;
        Ok(())
    }

    /// The files of a version.
    fn files(&self, spec: &ServiceSpec) -> Result<Vec<PathBuf>, NotKept> {
        let mut files: BTreeSet<PathBuf> = self.watched(&spec.name, &spec.watch).into_iter().collect();
        if let Workload::Process(process) = &spec.workload
            && spec.watch.iter().any(|rule| rule.build.is_some())
        {
            let named = named_by(process, &self.project);
            if named.is_empty() {
                return Err(NotKept::Unnamed);
            }
            for path in named {
                collect(&path, &mut files)?;
            }
        }
        if files.len() > FILES { Err(NotKept::TooLarge) } else { Ok(files.into_iter().collect()) }
    }

    fn watched(&self, service: &ServiceName, rules: &[WatchRule]) -> Vec<PathBuf> {
        rules.iter().enumerate().flat_map(|(index, rule)| devenv_watch::files(&self.project, &watched(service, index, rule))).collect()
    }

    /// The project, or the common parent of everything that the version has.
    fn base(&self, spec: &ServiceSpec, files: &[PathBuf]) -> PathBuf {
        let directory = match &spec.workload {
            Workload::Process(process) => Some(process.directory.as_path()),
            Workload::Container(_) => None,
        };
        let places = files.iter().filter_map(|file| file.parent()).chain(directory);
        places.fold(self.project.clone(), |base, place| {
            base.ancestors().find(|above| place.starts_with(above)).map_or_else(|| PathBuf::from("/"), Path::to_owned)
        })
    }

    /// Links what the version does not have to the project's files, and makes the version's files the newest, so
    /// that programs that compare times take them for changed.
    fn furnish(&self, service: &ServiceName, rules: &[WatchRule], kept: &Manifest) -> io::Result<()> {
        let tree = self.tree(service);
        // What came with the newer version does not belong to it.
        let newer: HashSet<PathBuf> = self.watched(service, rules).into_iter().collect();
        let mut directories: BTreeSet<&Path> = kept.files.0.keys().flat_map(|file| file.ancestors().skip(1)).collect();
        directories.insert(Path::new(""));
        let within = |path: &Path| kept.files.0.contains_key(path) || directories.contains(path);
        for directory in &directories {
            for entry in fs::read_dir(tree.join(directory))?.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                    fs::remove_file(entry.path())?;
                }
            }
            // A directory that the newer version does not have any more has nothing to link to.
            for entry in fs::read_dir(kept.base.join(directory)).into_iter().flatten().flatten() {
                let below = directory.join(entry.file_name());
                let is_cache = CACHES.iter().any(|name| entry.file_name() == *name);
                if !within(&below) && !is_cache && !newer.contains(&entry.path()) && !tree.join(&below).exists() {
                    symlink(entry.path(), tree.join(&below))?;
                }
            }
        }
        let now = SystemTime::now();
        for file in kept.files.0.keys() {
            File::open(tree.join(file))?.set_modified(now)?;
        }
        Ok(())
    }

    fn manifest(&self, service: &ServiceName) -> Option<Manifest> {
        manifest(&self.of(service).join(KEPT))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<ServiceName>> {
        self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn of(&self, service: &ServiceName) -> PathBuf {
        self.directory.join(service.as_str())
    }

    fn tree(&self, service: &ServiceName) -> PathBuf {
        self.of(service).join(KEPT).join(TREE)
    }

    fn mark(&self, service: &ServiceName) -> PathBuf {
        self.of(service).join(MARK)
    }
}

impl Manifest {
    fn move_to(&self, tree: &Path, process: &mut ProcessSpec) {
        let moved = |path: &Path| path.strip_prefix(&self.base).ok().map(|below| tree.join(below));
        if let Some(directory) = moved(&process.directory) {
            process.directory = directory;
        }
        for word in &mut process.command {
            let path = Path::new(word);
            // Only an absolute path can be distinguished from other words.
            if path.is_absolute() && self.files.0.keys().any(|file| self.base.join(file).starts_with(path)) {
                *word = moved(path).map_or_else(|| word.clone(), |path| path.display().to_string());
            }
        }
    }
}

fn manifest(directory: &Path) -> Option<Manifest> {
    serde_json::from_slice(&fs::read(directory.join(MANIFEST)).ok()?).ok()
}

/// Whether a version can prove itself, and may have to be started again later.
fn is_kept(spec: &ServiceSpec) -> bool {
    let replaces = |rule: &WatchRule| matches!(rule.reaction, Reaction::Restart | Reaction::Sync { signal: None, exec: None, .. });
    // A rebuilt image replaces the old one.
    let rebuilds = |rule: &WatchRule| rule.reaction == Reaction::Rebuild;
    spec.probe != Probe::None && spec.watch.iter().any(replaces) && !spec.watch.iter().any(rebuilds)
}

/// The files below the project that the command names: an executable by itself, another file with its whole directory (what a
/// build makes is mostly a directory), a directory completely. Never one that contains the process's own directory.
fn named_by(process: &ProcessSpec, project: &Path) -> Vec<PathBuf> {
    let is_program = |data: &Metadata| data.permissions().mode() & 0o111 != 0;
    let mut named = Vec::new();
    for word in process.command.iter().filter(|word| !word.is_empty()) {
        let path = process.directory.join(word);
        let (Ok(data), true) = (fs::metadata(&path), path.starts_with(project)) else { continue };
        let whole = if data.is_dir() { Some(path.as_path()) } else { path.parent().filter(|_| !is_program(&data)) };
        match whole.filter(|whole| !process.directory.starts_with(whole)) {
            Some(whole) => named.push(whole.to_owned()),
            None if data.is_file() => named.push(path),
            None => {}
        }
    }
    named
}

/// The file, or all files below the directory.
fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), NotKept> {
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        devenv_files::progressed();
        let data = fs::symlink_metadata(&path)?;
        if data.is_dir() {
            left.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
        } else if path.is_file() {
            files.insert(path);
        }
        if files.len() > FILES {
            return Err(NotKept::TooLarge);
        }
    }
    Ok(())
}

fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %directory.display(), "Cannot remove the copy of a version.");
    }
}

#[cfg(test)]
mod tests;
