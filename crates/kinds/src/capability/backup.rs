//! Dumps of a server's data, and their restoration.

use std::{
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use devenv_api::Content;
use devenv_engine::{Engine, EngineError};
use devenv_secrets::{SecretError, Vault};
use devenv_spec::ServiceSpec;

/// A service in a container, and how to reach it.
pub struct ServerSite<'a> {
    pub service: &'a ServiceSpec,
    pub engine: &'a dyn Engine,
    /// The id of its container.
    pub container: &'a str,
    pub vault: &'a Vault,
    /// The certificate with which servers with TLS are verified.
    pub authority: &'a Path,
}

/// How the data of a service is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The server writes dumps: [`Backups::dump`].
    Dump,
    /// The files of its volume are copied while the service is paused.
    Files,
    /// It is not backed up, for this reason.
    Skipped(&'static str),
}

/// The backups of one kind.
#[async_trait]
pub trait Backups: Send + Sync {
    fn way(&self, service: &ServiceSpec) -> Way;

    /// Writes dumps into the directory, and counts their contents at the same moment. Called if [`Self::way`] is [`Way::Dump`].
    async fn dump(&self, _site: &ServerSite<'_>, _directory: &Path) -> Result<Dumped, BackupError> {
        Ok(Dumped::default())
    }

    /// How a dump is restored; `None` if [`Self::way`] is never [`Way::Dump`].
    fn restores(&self) -> Option<Restores<'_>> {
        None
    }

    /// The server's own counts, for a service whose files are copied ([`Way::Files`]) and changed at every start; `None` if the files
    /// themselves are compared.
    async fn contents(&self, _site: &ServerSite<'_>) -> Result<Option<Vec<Content>>, BackupError> {
        Ok(None)
    }
}

/// The backup of one service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dumped {
    pub files: Vec<DumpedFile>,
    pub contents: Vec<Content>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedFile {
    /// The path in the directory of the backup.
    pub name: String,
    /// The database in it, if it contains one.
    pub database: Option<String>,
}

/// The two ways to restore dumps.
pub enum Restores<'a> {
    /// Beside the databases in use, which it replaces in one step while the server runs.
    Staged(&'a dyn StagedRestore),
    /// As a file in a new volume, to which the service moves.
    Volume(&'a dyn VolumeRestore),
}

/// One file to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// The database that it becomes; `None` for what all databases need, such as roles.
    pub database: Option<String>,
    pub file: PathBuf,
    /// From a backup of this same service; otherwise from elsewhere, and everything in it becomes the owner's.
    pub own: bool,
}

/// The restored contents, and the contents that the dump itself recorded, if it did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arrived {
    pub contents: Vec<Content>,
    pub promised: Vec<Content>,
}

/// Restores databases beside those in use, in steps that can be undone until the last one.
///
/// The caller records that [`Self::revert`] is pending before it stages, and that [`Self::conclude`] is pending before it
/// treats the restored data as final. So the next daemon may call every method again, whatever the former one has
/// done; the method asks the server how far it was.
#[async_trait]
pub trait StagedRestore: Send + Sync {
    /// Removes what earlier restores of these databases have left. Call it before [`Self::revert`] is recorded.
    async fn prepare(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError>;

    /// Makes one part beside the data in use, which is not touched, and counts its contents.
    async fn stage(&self, site: &ServerSite<'_>, part: &Staged) -> Result<Arrived, BackupError>;

    /// Ends what [`Self::stage`] runs in the server's container, where a command goes on without its caller. The caller calls it until
    /// `stage` returns. `false` means that dropping `stage` ends everything.
    async fn interrupt(&self, _site: &ServerSite<'_>, _databases: &[String]) -> bool {
        false
    }

    /// Swaps all staged databases with those in use: all of them, or none. The old ones are kept.
    async fn swap(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError>;

    /// Undoes everything: puts swapped databases back, and removes staged ones.
    async fn revert(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError>;

    /// Removes the databases that were in use before the swap.
    async fn conclude(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError>;
}

/// Restores by a file in a new volume.
#[async_trait]
pub trait VolumeRestore: Send + Sync {
    /// The name of the file in the volume that the server reads at its start.
    fn file(&self) -> &'static str;

    /// Counts the server's contents.
    async fn contents(&self, site: &ServerSite<'_>) -> Result<Vec<Content>, BackupError>;
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("cannot read a secret")]
    Secret(#[from] SecretError),
    #[error("the engine refused")]
    Engine(#[from] EngineError),
    #[error("cannot {action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The message of the server or its tool.
    #[error("cannot {action}: {reason}")]
    Refused { action: String, reason: String },
}

impl BackupError {
    pub(crate) fn refused(action: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refused { action: action.into(), reason: reason.into() }
    }
}
