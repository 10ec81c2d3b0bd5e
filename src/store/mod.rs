//! The state that labels cannot hold, in small versioned files: written to a temporary file, synced, renamed.
//!
//! The daemon is the only writer. A file of an older version still loads; one of a newer version is refused with a
//! hint. Files contain no secrets, but they contain what users wrote, so they are private.

mod record;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use devenv_engine::OwnerId;
use devenv_spec::EnvironmentId;
use serde::{Deserialize, de::DeserializeOwned};

use crate::blocking;

pub(crate) use record::{Goal, Record, SnapshotRecord, Trashed, age};

const VERSION: u32 = 1;

/// The state directory.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not a devenv state file")]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{path} has version {found}, but this devenv supports only version {VERSION}: use the newer devenv that wrote it")]
    Newer { path: PathBuf, found: u32 },
}

impl Store {
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self { root: root.to_owned() };
        create_private(root)?;
        create_private(&store.root.join("environments"))?;
        Ok(store)
    }

    /// Removes the temporary files of writers that were killed. Only for the daemon, before it writes anything.
    pub(crate) fn remove_unfinished(&self) -> Result<(), StoreError> {
        // environments/ID/secrets/SERVICE/NAME is the deepest path; below `versions` are the users' own trees.
        let clear = |directory: &Path, depth| match devenv_files::remove_unfinished(directory, depth) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Io { action: "remove what an interrupted write left in", path: directory.to_owned(), source })
            }
            _ => Ok(()),
        };
        clear(&self.root, 2)?;
        for record in self.records()? {
            clear(&self.secrets(&record.id), 1)?;
        }
        Ok(())
    }

    /// The owner id of this state directory's objects: created once, random.
    pub(crate) fn owner(&self) -> Result<OwnerId, StoreError> {
        let path = self.root.join("owner");
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Ok(OwnerId(text.trim().to_owned())),
            Ok(_) => make_owner(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_owner(&path),
            Err(source) => Err(StoreError::Io { action: "read", path, source }),
        }
    }

    /// The directory of one environment's files.
    pub(crate) fn environment(&self, id: &EnvironmentId) -> PathBuf {
        self.root.join("environments").join(id.as_str())
    }

    pub(crate) fn secrets(&self, id: &EnvironmentId) -> PathBuf {
        self.environment(id).join("secrets")
    }

    /// Written whenever a client uses the environment: its age is the idle time.
    pub(crate) fn used(&self, id: &EnvironmentId) -> PathBuf {
        self.environment(id).join("used")
    }

    pub(crate) fn logs(&self, id: &EnvironmentId) -> PathBuf {
        self.environment(id).join("logs")
    }

    /// Files of the last versions that became ready.
    pub(crate) fn versions(&self, id: &EnvironmentId) -> PathBuf {
        self.environment(id).join("versions")
    }

    /// The disks of services that have their own.
    pub(crate) fn loops(&self) -> PathBuf {
        self.root.join("disks")
    }

    /// Checkouts of the repositories that images are built from.
    pub(crate) fn repositories(&self) -> PathBuf {
        self.root.join("repositories")
    }

    /// The records of golden volumes.
    pub(crate) fn golden(&self) -> PathBuf {
        self.root.join("golden")
    }

    /// The file with the id of the fault agent's image.
    pub(crate) fn agent_image(&self) -> PathBuf {
        self.root.join("agent-image")
    }

    /// The local certificate authority's directory.
    pub(crate) fn authority(&self) -> PathBuf {
        self.root.join("authority")
    }

    pub(crate) fn save(&self, record: &Record) -> Result<(), StoreError> {
        let directory = self.environment(&record.id);
        create_private(&directory)?;
        let text = serde_json::to_vec(record).expect("a record serializes to JSON");
        // The environment's task continues only when it is on the disk.
        blocking::in_place(|| write_atomically(&directory.join("environment.json"), &text))
    }

    /// One environment as it was last saved.
    pub(crate) fn record(&self, id: &EnvironmentId) -> Result<Option<Record>, StoreError> {
        read(&self.environment(id).join("environment.json"))
    }

    /// Every recorded environment.
    pub(crate) fn records(&self) -> Result<Vec<Record>, StoreError> {
        let directory = self.root.join("environments");
        let fail = |source| StoreError::Io { action: "list", path: directory.clone(), source };
        let mut records = Vec::new();
        for entry in fs::read_dir(&directory).map_err(fail)? {
            let path = entry.map_err(fail)?.path().join("environment.json");
            if let Some(record) = read::<Record>(&path)? {
                records.push(record);
            }
        }
        records.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(records)
    }

    pub(crate) fn forget(&self, id: &EnvironmentId) -> Result<(), StoreError> {
        let path = self.environment(id);
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Io { action: "remove", path, source }),
            _ => Ok(()),
        }
    }
}

fn make_owner(path: &Path) -> Result<OwnerId, StoreError> {
    let owner = hex::encode(rand::random::<[u8; 8]>());
    write_atomically(path, owner.as_bytes())?;
    Ok(OwnerId(owner))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Io { action: "read", path: path.to_owned(), source }),
    };
    let malformed = |source| StoreError::Malformed { path: path.to_owned(), source };
    let version = serde_json::from_slice::<Versioned>(&text).map_err(malformed)?.version;
    if version > VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found: version });
    }
    serde_json::from_slice(&text).map(Some).map_err(malformed)
}

/// Makes a directory that only its owner may enter.
pub(crate) fn create_private(path: &Path) -> Result<(), StoreError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| StoreError::Io {
        action: "create the directory",
        path: path.to_owned(),
        source,
    })
}

/// Writes the file completely or not at all, whatever dies, and syncs it.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    devenv_files::write_atomically(path, content).map_err(|source| StoreError::Io { action: "write", path: path.to_owned(), source })
}

/// The same without the sync, for state that may be lost in a power cut but not with this process.
pub(crate) fn write_unsynced(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    devenv_files::write_with(path, content, devenv_files::PRIVATE, devenv_files::Durability::Cached).map_err(|source| StoreError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

impl StoreError {
    /// The write was interrupted.
    pub(crate) fn interrupted(path: &Path) -> Self {
        Self::Io { action: "write", path: path.to_owned(), source: io::ErrorKind::Interrupted.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(store: &Store) -> Record {
        let id = EnvironmentId::of("owner", Path::new("/p/shop"), "default");
        let mut record = Record::new(id, "/p/shop".into(), "default".into());
        record.volume(&"db".parse().unwrap(), "data");
        store.save(&record).unwrap();
        record
    }

    #[test]
    fn a_record_reads_back_as_it_was_saved() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let record = record(&store);
        assert_eq!(store.records().unwrap(), std::slice::from_ref(&record));
        assert_eq!(store.owner().unwrap(), store.owner().unwrap());
        store.forget(&record.id).unwrap();
        assert!(store.records().unwrap().is_empty());
    }

    #[test]
    fn temporary_files_of_a_killed_daemon_are_removed_wherever_state_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let id = record(&store).id;
        let places = [store.root.clone(), store.golden(), store.authority(), store.environment(&id), store.secrets(&id).join("db")];
        let left: Vec<PathBuf> = places
            .iter()
            .map(|place| {
                create_private(place).unwrap();
                devenv_files::unfinished(&place.join("file"), 0o600).unwrap().keep().unwrap().1
            })
            .collect();
        store.remove_unfinished().unwrap();
        assert!(left.iter().all(|path| !path.exists()), "{left:?}");
        assert_eq!(store.records().unwrap().len(), 1);
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let path = store.environment(&record(&store).id).join("environment.json");
        fs::write(&path, r#"{"version": 99, "unheard": true}"#).unwrap();
        assert!(matches!(store.records(), Err(StoreError::Newer { found: 99, .. })));
        assert!(path.exists());
    }
}
