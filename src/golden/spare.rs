//! A second copy of a golden volume, whose files are moved instead of copied.

use std::{collections::BTreeMap, fs, sync::Arc};

use devenv_engine::{Engine, Labels, VolumeCreate};
use devenv_snapshots::{GoldenKey, copy_tree};

use super::{
    blocking,
    build::{GoldenError, directory_of},
    catalogue::GoldenFiles,
};
use crate::store::{Store, write_atomically};

/// A copy of a golden volume, to be used once.
pub(crate) struct Spare {
    pub(super) key: GoldenKey,
    pub(super) golden: String,
    pub(super) store: Store,
}

impl Spare {
    pub(super) fn volume(&self) -> String {
        spare_of(&self.golden)
    }

    fn files(&self) -> GoldenFiles {
        GoldenFiles::of(&self.store, &self.key)
    }

    /// Whether it is complete, and ours from now on: only one caller can remove the file.
    pub(super) fn take(&self) -> bool {
        fs::remove_file(self.files().spare()).is_ok()
    }

    pub(super) async fn make_or_warn(&self, engine: Arc<dyn Engine>, labels: Labels) {
        if let Err(error) = self.make(engine, labels).await {
            tracing::warn!(%error, key = %self.key, "Cannot create a spare copy of a golden volume.");
        }
    }

    async fn make(&self, engine: Arc<dyn Engine>, labels: Labels) -> Result<(), GoldenError> {
        let files = self.files();
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(files.lock())?;
        if lock.try_lock().is_err() || files.spare().exists() {
            return Ok(());
        }
        engine.create_volume(&VolumeCreate { name: self.volume(), labels, options: BTreeMap::new() }).await?;
        let (from, to) = (directory_of(&*engine, &self.golden).await?, directory_of(&*engine, &self.volume()).await?);
        blocking(move || copy_tree(&from, &to)).await?;
        write_atomically(&files.spare(), b"")?;
        Ok(())
    }
}

pub(super) fn spare_of(golden: &str) -> String {
    format!("{golden}-spare")
}
