//! A second copy of a golden volume, whose files are moved instead of copied when they are wanted.

use std::{collections::BTreeMap, fs, io, path::PathBuf, sync::Arc};

use super::{blocking, keeping::KeepError};
use crate::{
    engine::{Engine, Labels, VolumeCreate},
    snapshot::{GoldenKey, copy_tree},
    store::{Store, write_atomically},
};

/// A copy of a golden volume, to be used up.
pub(in crate::daemon) struct Spare {
    pub(super) key: GoldenKey,
    pub(super) golden: String,
    pub(super) store: Store,
}

impl Spare {
    pub(super) fn volume(&self) -> String {
        spare_of(&self.golden)
    }

    /// Says that the copy is whole.
    fn file(&self) -> PathBuf {
        self.store.golden().join(format!("{}.spare", self.key))
    }

    /// Whether it is whole, and ours from now on: a file is removed by one alone.
    pub(super) fn take(&self) -> bool {
        fs::remove_file(self.file()).is_ok()
    }

    pub(super) async fn make_or_warn(&self, engine: Arc<dyn Engine>, labels: Labels) {
        if let Err(error) = self.make(engine, labels).await {
            tracing::warn!(%error, key = %self.key, "No spare copy of a golden volume was made.");
        }
    }

    async fn make(&self, engine: Arc<dyn Engine>, labels: Labels) -> Result<(), KeepError> {
        let lock =
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(self.store.golden().join(format!("{}.lock", self.key)))?;
        if lock.try_lock().is_err() || self.file().exists() {
            return Ok(());
        }
        engine.create_volume(&VolumeCreate { name: self.volume(), labels, options: BTreeMap::new() }).await?;
        let (from, to) = (engine.volume(&self.golden).await?, engine.volume(&self.volume()).await?);
        let (Some(from), Some(to)) = (from, to) else { return Err(io::Error::from(io::ErrorKind::NotFound).into()) };
        blocking(move || copy_tree(&from.mountpoint, &to.mountpoint)).await?;
        write_atomically(&self.file(), b"")?;
        Ok(())
    }
}

pub(super) fn spare_of(golden: &str) -> String {
    format!("{golden}-spare")
}
