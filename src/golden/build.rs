//! Makes one golden volume from a server's volume after its first start.
//!
//! The copy is made while clients already use the server, and is valid if nothing was written while it
//! was made: the write-ahead log ends where it did before. If the server wrote for itself (hints, a vacuum) the copy is
//! started again; a transaction of a client ends it, because golden data is the data before that. The next copy with the
//! same key is then made before clients may write, while the server is paused.

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use devenv_api::OperationKind;
use devenv_engine::{Engine, Labels, VolumeCreate};
use devenv_kinds::capability::{GoldenServer, LogRange};
use devenv_snapshots::{Copied, CopyError, GoldenKey, VolumeCopy, copy_tree_without, copy_volume, size_of};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    blocking,
    catalogue::{Claim, GoldenFiles, GoldenRecord, forget_file},
    elsewhere,
    spare::Spare,
};
use crate::{
    error::describe,
    operation_store::{OperationStore, Step},
    store::{Store, StoreError},
};

/// Larger data is not copied: clients would notice the pause.
const LARGEST: u64 = 2 << 30;
/// Attempts to find the server at rest.
const ATTEMPTS: u32 = 5;

/// One copy to make.
pub(super) struct GoldenBuild {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) key: GoldenKey,
    /// The record of paused containers, for the next daemon.
    pub(super) operations: OperationStore,
    pub(super) container: String,
    pub(super) labels: Labels,
    pub(super) store: Store,
    pub(super) kept: GoldenRecord,
    pub(super) from: Source,
    pub(super) server: Box<dyn GoldenServer>,
    /// Files of the running server that the copy must not contain.
    pub(super) left_behind: &'static [&'static str],
    pub(super) _claim: Claim,
}

/// The volume to copy.
pub(super) struct Source {
    /// The engine's name.
    pub(super) volume: String,
    /// The directory of its files, if this process can read them.
    pub(super) directory: Option<PathBuf>,
    /// For helper containers.
    pub(super) image: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum GoldenError {
    #[error("the engine refused")]
    Engine(#[from] devenv_engine::EngineError),
    #[error("cannot be recorded")]
    Store(#[from] StoreError),
    #[error("cannot be copied")]
    Copy(#[from] io::Error),
    #[error("cannot be copied")]
    Volume(#[from] CopyError),
    #[error("a helper container failed: {0}")]
    Helper(String),
    #[error("the server did not answer: {0}")]
    Server(String),
    #[error("it is larger than {LARGEST} bytes")]
    TooLarge,
    #[error("it was written to before the copy was whole")]
    Overtaken,
}

impl GoldenBuild {
    /// Copies while clients use the server; `writer` is the next transaction id after the data to copy.
    pub(super) async fn behind(self, writer: String) {
        let began = Instant::now();
        let copied = async {
            self.begin().await?;
            for _ in 0..ATTEMPTS {
                let (log, position) = self.server.checkpoint().await.map_err(GoldenError::Server)?;
                let copied = self.copy(log).await;
                let now = self.server.position().await.map_err(GoldenError::Server)?;
                if self.server.next_writer().await.map_err(GoldenError::Server)? != writer {
                    return Err(GoldenError::Overtaken);
                }
                match copied {
                    Ok(copied) if now == position => return Ok(copied),
                    // A file disappeared during the copy, or the server wrote something.
                    Ok(_) => {}
                    Err(GoldenError::Copy(error)) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(_) if now != position => {}
                    Err(error) => return Err(error),
                }
            }
            Err(GoldenError::Overtaken)
        };
        let copied = copied.await;
        self.finish(copied, began, Duration::ZERO).await;
    }

    /// Copies while the server is paused; signals `goes_on` when the pause is over.
    pub(super) async fn paused(self, goes_on: oneshot::Sender<()>) {
        let began = Instant::now();
        let mut paused = Duration::ZERO;
        let copied = async {
            self.begin().await?;
            let (log, _) = self.server.checkpoint().await.map_err(GoldenError::Server)?;
            let journal = self.operations.begin_background(OperationKind::SnapshotSave).await?;
            let unpause = [Step::Unpause { container: self.container.clone() }];
            journal.owe(unpause.to_vec()).await?;
            let stopped = Instant::now();
            let copied = match self.engine.pause(&self.container).await {
                Ok(()) => self.copy(log).await,
                Err(error) => Err(error.into()),
            };
            let unpaused = self.engine.unpause(&self.container).await;
            paused = stopped.elapsed();
            // One that may still be paused stays on record.
            if unpaused.is_ok() {
                journal.settle(&unpause).await?;
            }
            journal.end().await;
            let copied = copied?;
            unpaused?;
            Ok(copied)
        };
        let copied = copied.await;
        // The receiver may be gone.
        let _ = goes_on.send(());
        self.finish(copied, began, paused).await;
    }

    async fn copy(&self, log: Box<dyn LogRange>) -> Result<Copied, GoldenError> {
        let Some(from) = self.from.directory.clone() else {
            let copy = VolumeCopy {
                from: &self.from.volume,
                to: &self.kept.volume,
                mountpoints: None,
                image: &self.from.image,
                labels: self.labels.clone(),
                cancel: CancellationToken::new(),
                progress: Arc::default(),
            };
            return Ok(copy_volume(&*self.engine, copy).await?);
        };
        let to = directory_of(&*self.engine, &self.kept.volume).await?;
        Ok(blocking(move || copy_tree_without(&from, &to, |path| log.is_needless(path))).await?)
    }

    /// Makes the volume that becomes golden. Recorded before it is made, so that it is not taken for one without an owner.
    async fn begin(&self) -> Result<(), GoldenError> {
        if let Some(from) = self.from.directory.clone()
            && blocking(move || Ok(size_of(&from))).await? > LARGEST
        {
            return Err(GoldenError::TooLarge);
        }
        self.files().write(&self.kept)?;
        let (name, labels) = (self.kept.volume.clone(), self.labels.clone());
        self.engine.create_volume(&VolumeCreate { name, labels, options: BTreeMap::new() }).await?;
        Ok(())
    }

    async fn finish(self, copied: Result<Copied, GoldenError>, began: Instant, paused: Duration) {
        let (key, files) = (self.key.clone(), self.files());
        match self.complete(copied).await {
            Ok((copied, spare)) => {
                tracing::info!(%key, bytes = copied.bytes, ?paused, in_all = ?began.elapsed(), way = ?copied.way, "Golden volume created.");
                if self.from.directory.is_some() {
                    spare.make_or_warn(self.engine, self.labels).await;
                }
            }
            Err(error) => {
                tracing::info!(error = %describe(&error), %key, "Cannot create a golden volume.");
                if matches!(error, GoldenError::Overtaken)
                    && let Err(error) = files.note_overtaken()
                {
                    tracing::warn!(%error, %key, "Cannot record that a golden volume is outdated.");
                }
                files.forget();
                // One that cannot be removed has no owner, and `gc` removes it.
                let _ = self.engine.remove_volume(&self.kept.volume).await;
            }
        }
    }

    async fn complete(&self, copied: Result<Copied, GoldenError>) -> Result<(Copied, Spare), GoldenError> {
        let mut copied = copied?;
        let left_behind = self.left_behind;
        if self.from.directory.is_some() {
            let to = directory_of(&*self.engine, &self.kept.volume).await?;
            blocking(move || {
                // Files of the running server; another server would look for it.
                for left in left_behind {
                    forget_file(&to.join(left));
                }
                Ok(rustix::fs::syncfs(fs::File::open(&to)?)?)
            })
            .await?;
        } else {
            let size =
                elsewhere::remove_and_measure(&*self.engine, &self.labels, &self.from.image, (&self.kept.volume, left_behind)).await?;
            if size > LARGEST {
                return Err(GoldenError::TooLarge);
            }
            copied.bytes = Some(size);
        }
        self.files().write(&GoldenRecord { bytes: copied.bytes.unwrap_or_default(), complete: true, ..self.kept.clone() })?;
        let spare = Spare { key: self.key.clone(), golden: self.kept.volume.clone(), store: self.store.clone() };
        Ok((copied, spare))
    }

    fn files(&self) -> GoldenFiles {
        GoldenFiles::of(&self.store, &self.key)
    }
}

/// The directory of a volume's files on this host.
pub(super) async fn directory_of(engine: &dyn Engine, volume: &str) -> Result<PathBuf, GoldenError> {
    let found = engine.volume(volume).await?;
    Ok(found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.mountpoint)
}
