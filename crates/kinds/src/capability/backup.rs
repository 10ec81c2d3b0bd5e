//! Dumps of a server's data, and what is brought back from them.

use std::{
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use devenv_api::Content;
use devenv_engine::{Engine, EngineError};
use devenv_secrets::{SecretError, Vault};
use devenv_spec::ServiceSpec;

/// A service that runs in a container, and the ways into it.
pub struct ServerSite<'a> {
    pub service: &'a ServiceSpec,
    pub engine: &'a dyn Engine,
    /// The id of its container.
    pub container: &'a str,
    pub vault: &'a Vault,
    /// The certificate that servers with TLS are verified by.
    pub authority: &'a Path,
}

/// How the data of a service is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The server writes dumps: [`Backups::dump`].
    Dump,
    /// The files of its volume are copied while the service is held still.
    Files,
    /// It is not, for this reason.
    Skipped(&'static str),
}

/// The backups of one kind.
#[async_trait]
pub trait Backups: Send + Sync {
    fn way(&self, service: &ServiceSpec) -> Way;

    /// Writes dumps into the directory, and counts what is in them at the same moment. Asked where [`Self::way`] is [`Way::Dump`].
    async fn dump(&self, _site: &ServerSite<'_>, _directory: &Path) -> Result<Dumped, BackupError> {
        Ok(Dumped::default())
    }

    /// How a dump comes back; `None` where [`Self::way`] is never [`Way::Dump`].
    fn restores(&self) -> Option<Restores<'_>> {
        None
    }

    /// What the server counts of itself where files are copied ([`Way::Files`]) that it changes at every start; `None` if the files
    /// themselves are compared.
    async fn contents(&self, _site: &ServerSite<'_>) -> Result<Option<Vec<Content>>, BackupError> {
        Ok(None)
    }
}

/// What a backup of one service consists of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dumped {
    pub files: Vec<DumpedFile>,
    pub contents: Vec<Content>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedFile {
    /// In the directory of the backup.
    pub name: String,
    /// The database that it holds, where it holds one.
    pub database: Option<String>,
}

/// The two ways in which dumps come back.
pub enum Restores<'a> {
    /// Beside what is in use, whose place it takes in one step while the server runs.
    Staged(&'a dyn StagedRestore),
    /// As a file in a new volume, to which the service moves.
    Volume(&'a dyn VolumeRestore),
}

/// One file that is brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// The database that it becomes; `None` for what all databases need, such as roles.
    pub database: Option<String>,
    pub file: PathBuf,
    /// From a backup of this very service; else from elsewhere, and everything in it becomes the owner's.
    pub own: bool,
}

/// What came out of a dump, and what the dump itself promised, where that can be seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arrived {
    pub contents: Vec<Content>,
    pub promised: Vec<Content>,
}

/// Restores databases beside those in use, in steps that can be taken back until the last one.
///
/// The caller writes down that [`Self::revert`] is owed before it stages, and that [`Self::conclude`] is owed before it
/// counts the restored data as final. So every method may be called again by the next daemon, whatever the former one had
/// done, and finds out from the server how far it was.
#[async_trait]
pub trait StagedRestore: Send + Sync {
    /// Removes what earlier restores of these databases have left behind. To be called before [`Self::revert`] is owed.
    async fn prepare(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError>;

    /// Makes one part beside what is in use, which is not touched, and counts what is in it.
    async fn stage(&self, site: &ServerSite<'_>, part: &Staged) -> Result<Arrived, BackupError>;

    /// Puts all staged databases in the place of those in use: all of them, or none. Those that were in use are kept.
    async fn swap(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError>;

    /// Takes everything back: puts databases that were swapped in their former place, and removes what was staged.
    async fn revert(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError>;

    /// Removes the databases that were in use before the swap.
    async fn conclude(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError>;
}

/// Restores by a file in a new volume.
#[async_trait]
pub trait VolumeRestore: Send + Sync {
    /// The name of the file in the volume, where the server looks for it at its start.
    fn file(&self) -> &'static str;

    /// Counts what the server holds.
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
    /// The server's or its tool's own words.
    #[error("cannot {action}: {reason}")]
    Refused { action: String, reason: String },
}

impl BackupError {
    pub(crate) fn refused(action: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refused { action: action.into(), reason: reason.into() }
    }
}
