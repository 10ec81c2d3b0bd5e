//! The records of golden volumes, a small file for each, and which of them are kept.
//!
//! A record says whether its volume is complete. An incomplete one is being made by this daemon, the only one here: the incomplete
//! copies of an earlier daemon are removed at the start.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use devenv_engine::Engine;
use devenv_snapshots::GoldenKey;
use devenv_spec::EnvironmentId;
use serde::{Deserialize, Serialize};

use super::spare::spare_of;
use crate::store::{Store, StoreError, create_private, write_atomically};

/// The most space for all golden volumes; the least recently used are removed first.
pub(crate) const BUDGET: u64 = 10 << 30;
/// The files of one key.
const WHOLE: &str = "json";
const SPARE: &str = "spare";
const LOCK: &str = "lock";
const OVERTAKEN: &str = "overtaken";
const CLAIM: &str = "claim";

/// The record of a golden volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct GoldenRecord {
    pub(super) version: u32,
    pub(super) volume: String,
    pub(super) environment: EnvironmentId,
    pub(super) project: PathBuf,
    /// RFC 3339.
    pub(super) made_at: String,
    pub(super) bytes: u64,
    /// The copy is complete and on the disk.
    pub(super) complete: bool,
}

/// The right to make the golden volume of a key, as long as it is held.
pub(super) struct Claim(#[expect(dead_code, reason = "it is a lock")] fs::File);

/// The path of a key's files.
#[derive(Debug, Clone)]
pub(super) struct GoldenFiles {
    directory: PathBuf,
    key: GoldenKey,
}

impl GoldenFiles {
    pub(super) fn of(store: &Store, key: &GoldenKey) -> Self {
        Self { directory: store.golden(), key: key.clone() }
    }

    /// Records that the spare copy is complete.
    pub(super) fn spare(&self) -> PathBuf {
        self.file(SPARE)
    }

    /// Held by the task that makes the spare copy.
    pub(super) fn lock(&self) -> PathBuf {
        self.file(LOCK)
    }

    /// `None` while another task makes it.
    pub(super) fn claim(&self) -> Option<Claim> {
        create_private(&self.directory).ok()?;
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(self.file(CLAIM)).ok()?;
        lock.try_lock().ok().map(|()| Claim(lock))
    }

    fn file(&self, what: &str) -> PathBuf {
        self.directory.join(format!("{}.{what}", self.key))
    }

    pub(super) fn read(&self) -> Option<GoldenRecord> {
        read(&self.file(WHOLE))
    }

    pub(super) fn write(&self, kept: &GoldenRecord) -> Result<(), StoreError> {
        create_private(&self.directory)?;
        write_atomically(&self.file(WHOLE), &serde_json::to_vec(kept).expect("plain data serializes to JSON"))
    }

    /// When it was last used, for the budget.
    pub(super) fn touch(&self) {
        // A golden volume that seems older than it is is only removed a little earlier.
        let _ = fs::File::open(self.file(WHOLE)).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// It could not be made.
    pub(super) fn forget(&self) {
        forget_file(&self.file(WHOLE));
    }

    /// A client wrote during the copy: the next copy is made before clients may write.
    pub(super) fn note_overtaken(&self) -> Result<(), StoreError> {
        write_atomically(&self.file(OVERTAKEN), b"")
    }

    pub(super) fn was_overtaken(&self) -> bool {
        self.file(OVERTAKEN).exists()
    }
}

/// Removes the incomplete copies of an earlier daemon. Call it before anything is made.
pub(crate) async fn discard_unfinished(store: &Store, engine: &dyn Engine) {
    for (path, kept) in all(store).into_iter().filter(|(_, kept)| !kept.complete) {
        tracing::info!(volume = %kept.volume, "A golden volume that was not finished is thrown away.");
        forget_file(&path);
        // One that cannot be removed has no owner, and `gc` removes it.
        if let Err(error) = engine.remove_volume(&kept.volume).await {
            tracing::debug!(%error, volume = %kept.volume, "It is left to gc.");
        }
    }
}

/// The golden volumes to keep: those of projects that still have an environment, most recently used first, up to the
/// budget; none if that is zero. One that is being made is always kept: its maker depends on it.
pub(crate) fn retained(store: &Store, projects: &HashSet<PathBuf>, budget: u64, dry_run: bool) -> HashSet<String> {
    let used = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(std::time::UNIX_EPOCH);
    let mut found: Vec<(SystemTime, PathBuf, GoldenRecord)> =
        self::all(store).into_iter().map(|(path, kept)| (used(&path), path, kept)).collect();
    found.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
    let (mut stay, mut bytes) = (HashSet::new(), 0);
    for (_, path, kept) in found {
        // With its spare copy.
        bytes += 2 * kept.bytes;
        if !kept.complete || bytes <= budget && budget > 0 && projects.contains(&kept.project) {
            stay.insert(spare_of(&kept.volume));
            stay.insert(kept.volume);
        } else if !dry_run {
            for what in [WHOLE, SPARE, LOCK, OVERTAKEN, CLAIM] {
                forget_file(&path.with_extension(what));
            }
        }
    }
    stay
}

/// The golden volumes of a project that has moved are those of its new directory.
pub(crate) fn relocate(store: &Store, from: &Path, to: &Path) -> Result<(), StoreError> {
    for (path, kept) in all(store).into_iter().filter(|(_, kept)| kept.project == from) {
        let moved = GoldenRecord { project: to.to_owned(), ..kept };
        write_atomically(&path, &serde_json::to_vec(&moved).expect("plain data serializes to JSON"))?;
    }
    Ok(())
}

/// The size of all golden volumes, with their spare copies.
pub(crate) fn bytes(store: &Store) -> u64 {
    all(store).iter().map(|(_, kept)| 2 * kept.bytes).sum()
}

fn all(store: &Store) -> Vec<(PathBuf, GoldenRecord)> {
    let entries = fs::read_dir(store.golden()).into_iter().flatten().flatten();
    let records = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|extension| extension == WHOLE));
    records.filter_map(|path| Some((path.clone(), read(&path)?))).collect()
}

fn read(path: &Path) -> Option<GoldenRecord> {
    serde_json::from_slice::<GoldenRecord>(&fs::read(path).ok()?).ok().filter(|kept| kept.version == 1)
}

pub(super) fn forget_file(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "A file could not be removed.");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use devenv_engine::{Labels, OwnerId, VolumeCreate, fake::FakeEngine};
    use jiff::Timestamp;

    use super::*;

    fn kept(volume: &str, complete: bool) -> GoldenRecord {
        let environment = EnvironmentId::of("owner", Path::new("/here"), "default");
        let made_at = Timestamp::now().to_string();
        GoldenRecord { version: 1, volume: volume.to_owned(), environment, project: "/here".into(), made_at, bytes: 0, complete }
    }

    #[test]
    fn golden_volumes_go_with_their_project_or_over_the_budget_and_all_of_them_on_demand() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        create_private(&store.golden()).unwrap();
        let keep = |name: &str, project: &str, gigabytes: u64, complete: bool, age: u64| {
            let kept = GoldenRecord { project: project.into(), bytes: gigabytes << 30, ..kept(name, complete) };
            let path = store.golden().join(format!("{name}.json"));
            fs::write(&path, serde_json::to_vec(&kept).unwrap()).unwrap();
            fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        keep("new", "/here", 3, true, 0);
        keep("old", "/here", 3, true, 60);
        keep("gone", "/gone", 1, true, 0);
        keep("making", "/gone", 0, false, 0);
        let projects = HashSet::from([PathBuf::from("/here")]);
        let names = |names: &[&str]| names.iter().flat_map(|name| [(*name).to_owned(), spare_of(name)]).collect::<HashSet<_>>();
        assert_eq!(retained(&store, &projects, BUDGET, true), names(&["new", "making"]));
        assert_eq!(retained(&store, &projects, 0, false), names(&["making"]));
        assert_eq!(retained(&store, &projects, BUDGET, false), names(&["making"]));
    }

    #[test]
    fn the_golden_volumes_of_a_project_that_moves_go_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        create_private(&store.golden()).unwrap();
        for (name, project) in [("its", "/here"), ("another's", "/there")] {
            let kept = GoldenRecord { project: project.into(), ..kept(name, true) };
            fs::write(store.golden().join(format!("{name}.json")), serde_json::to_vec(&kept).unwrap()).unwrap();
        }
        relocate(&store, Path::new("/here"), Path::new("/new")).unwrap();
        let of = |project: &str| retained(&store, &HashSet::from([PathBuf::from(project)]), BUDGET, true);
        assert_eq!(of("/new"), HashSet::from(["its".to_owned(), spare_of("its")]));
        assert_eq!(of("/there"), HashSet::from(["another's".to_owned(), spare_of("another's")]));
        assert!(of("/here").is_empty());
    }

    #[test]
    fn a_golden_volume_is_made_by_one_of_several_concurrent_requests() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let key = GoldenKey::of(devenv_snapshots::GoldenInput { kind: "postgres", image: "sha256:1", settings: &[], scripts: &[] });
        let files = GoldenFiles::of(&store, &key);
        let claim = files.claim().unwrap();
        assert!(files.claim().is_none());
        drop(claim);
        assert!(files.claim().is_some());
    }

    #[tokio::test]
    async fn an_earlier_daemons_incomplete_copies_are_removed_and_complete_ones_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (store, engine) = (Store::open(directory.path()).unwrap(), FakeEngine::new());
        create_private(&store.golden()).unwrap();
        let owner = OwnerId("owner".to_owned());
        for (name, complete) in [("whole", true), ("half", false)] {
            let kept = kept(name, complete);
            fs::write(store.golden().join(format!("{name}.json")), serde_json::to_vec(&kept).unwrap()).unwrap();
            let labels = Labels {
                owner: owner.clone(),
                environment: kept.environment,
                project: "/here".to_owned(),
                instance: "default".to_owned(),
                service: None,
                spec: None,
                role: Some(super::super::ROLE.to_owned()),
            };
            engine.create_volume(&VolumeCreate { name: name.to_owned(), labels, options: BTreeMap::new() }).await.unwrap();
        }
        // Interrupted writes leave whole records too, today's and those of former versions: they are ignored.
        let record = serde_json::to_vec(&kept("whole", false)).unwrap();
        fs::write(store.golden().join("whole.new"), &record).unwrap();
        let (_, interrupted) = devenv_files::unfinished(&store.golden().join("whole.json"), 0o600).unwrap().keep().unwrap();
        fs::write(interrupted, record).unwrap();
        discard_unfinished(&store, &engine).await;
        let left: Vec<String> = engine.volumes(&owner).await.unwrap().into_iter().map(|volume| volume.name).collect();
        assert_eq!(left, ["whole"]);
        assert_eq!(all(&store).len(), 1);
    }
}
