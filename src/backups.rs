//! The backups of an environment on disk: `backups/ID` in its state directory, each with a manifest.
//!
//! The manifest is written last: without one a directory is no backup, and the next backup removes it. Backups stay when
//! volumes are removed. Operations make and read them; nothing here knows how data is dumped.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, Backup, BackupFile, ErrorCode};
use devenv_kinds::backup::outdated;
use devenv_snapshots::digest_tree;
use devenv_spec::EnvironmentId;
use sha2::{Digest, Sha256};

use crate::{
    error::internal,
    store::{Store, write_atomically},
};

const MANIFEST: &str = "manifest.json";

/// The directory of an environment's backups.
#[derive(Debug, Clone)]
pub(crate) struct Backups(PathBuf);

impl Backups {
    pub(crate) fn of(store: &Store, environment: &EnvironmentId) -> Self {
        Self(store.environment(environment).join("backups"))
    }

    /// Complete backups, oldest first.
    pub(crate) fn list(&self) -> Vec<Backup> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut found: Vec<Backup> =
            entries.filter_map(|entry| serde_json::from_slice(&fs::read(entry.path().join(MANIFEST)).ok()?).ok()).collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    pub(crate) fn directory(&self, id: &str) -> PathBuf {
        self.0.join(id)
    }

    /// The backup with that id, or the last one for `latest`.
    pub(crate) fn find(&self, id: &str) -> Result<Backup, ApiError> {
        let mut known = self.list();
        if let Some(found) =
            known.iter().position(|backup| backup.id == id).or_else(|| known.len().checked_sub(1).filter(|_| id == "latest"))
        {
            return Ok(known.swap_remove(found));
        }
        let ids: Vec<&str> = known.iter().map(|backup| backup.id.as_str()).collect();
        let hint = if ids.is_empty() {
            "run `devenv backup` to create one".to_owned()
        } else {
            format!("available backups: {}, and `latest`", ids.join(", "))
        };
        Err(ApiError::new(ErrorCode::NotFound, format!("backup `{id}` does not exist")).hint(hint))
    }

    /// A new id, made from the time.
    pub(crate) fn new_id(&self, now: jiff::Timestamp) -> String {
        let mut id = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        while self.directory(&id).exists() {
            id.push('x');
        }
        id
    }

    /// Writes the manifest, which makes the directory a backup.
    pub(crate) fn publish(&self, backup: &Backup) -> Result<(), ApiError> {
        let manifest = serde_json::to_vec_pretty(backup).expect("a manifest serializes to JSON");
        write_atomically(&self.directory(&backup.id).join(MANIFEST), &manifest).map_err(internal)
    }

    /// Removes the remains of backups that an earlier version did not finish.
    pub(crate) fn sweep(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if !entry.path().join(MANIFEST).exists()
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::warn!(%error, "Cannot remove the remains of a backup.");
            }
        }
    }

    /// Removes the backups that make room for newer ones. Returns their ids.
    pub(crate) fn remove_outdated(&self) -> io::Result<Vec<String>> {
        let outdated = outdated(&self.list());
        for id in &outdated {
            // The manifest first: after an interrupted removal the rest does not count as a backup.
            fs::remove_file(self.directory(id).join(MANIFEST))?;
            fs::remove_dir_all(self.directory(id))?;
        }
        Ok(outdated)
    }

    /// The manifest's entry for a file or a directory of the backup.
    pub(crate) async fn file(&self, id: &str, name: String, database: Option<String>) -> Result<BackupFile, ApiError> {
        let (size, checksum) = checksum(self.directory(id).join(&name)).await?;
        Ok(BackupFile { name, database, size, checksum })
    }

    /// Whether a file still is as it was written.
    pub(crate) async fn check(&self, id: &str, file: &BackupFile) -> Result<(), ApiError> {
        if checksum(self.directory(id).join(&file.name)).await?.1 == file.checksum {
            return Ok(());
        }
        Err(ApiError::new(ErrorCode::Failed, format!("the backup's file {} is damaged: its checksum differs", file.name))
            .hint("nothing was changed; run `devenv backup list` to see other backups"))
    }
}

/// Size and checksum of a file, or of everything in a directory.
async fn checksum(path: PathBuf) -> Result<(u64, String), ApiError> {
    let read = move || if path.is_dir() { digest_tree(&path).map(|digest| (digest.size, digest.checksum)) } else { of_file(&path) };
    tokio::task::spawn_blocking(read).await.map_err(internal)?.map_err(internal)
}

fn of_file(path: &Path) -> io::Result<(u64, String)> {
    let mut file = fs::File::open(path)?;
    let (mut digest, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((size, hex::encode(digest.finalize())));
        }
        digest.update(&buffer[..count]);
        size += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(id: &str) -> Backup {
        serde_json::from_value(serde_json::json!({ "id": id, "created_at": "", "services": [], "size": 0 })).unwrap()
    }

    fn made(days: u32) -> (tempfile::TempDir, Backups) {
        let place = tempfile::tempdir().unwrap();
        let backups = Backups(place.path().to_owned());
        for day in 1..=days {
            let made = backup(&format!("202611{day:02}T080000Z"));
            fs::create_dir(backups.directory(&made.id)).unwrap();
            fs::write(backups.directory(&made.id).join("db.dump"), "rows").unwrap();
            backups.publish(&made).unwrap();
        }
        (place, backups)
    }

    #[test]
    fn a_directory_without_a_manifest_is_no_backup_and_is_removed() {
        let (_place, backups) = made(2);
        fs::create_dir_all(backups.directory("20261103T080000Z").join("files")).unwrap();
        assert_eq!(backups.list().len(), 2);
        assert_eq!(backups.find("latest").unwrap().id, "20261102T080000Z");
        assert!(backups.find("20261103T080000Z").unwrap_err().hint.unwrap().contains("20261101T080000Z"));
        backups.sweep();
        assert!(!backups.directory("20261103T080000Z").exists() && backups.list().len() == 2);
    }

    #[test]
    fn an_outdated_backup_goes_with_all_its_files() {
        let (_place, backups) = made(9);
        assert_eq!(backups.remove_outdated().unwrap(), ["20261102T080000Z", "20261101T080000Z"]);
        assert!(!backups.directory("20261101T080000Z").exists() && backups.list().len() == 7);
    }

    #[tokio::test]
    async fn a_file_that_changed_is_found() {
        let (_place, backups) = made(1);
        let id = "20261101T080000Z";
        let file = backups.file(id, "db.dump".to_owned(), None).await.unwrap();
        backups.check(id, &file).await.unwrap();
        fs::write(backups.directory(id).join("db.dump"), "rowz").unwrap();
        assert!(backups.check(id, &file).await.unwrap_err().message.contains("is damaged"));
    }
}
