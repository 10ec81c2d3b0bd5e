//! One pending step of an operation: it undoes what the operation made, or finishes what it started.
//!
//! A step is plain data, recorded before the action that it undoes. `operation::owed` carries steps out. Each may be
//! repeated, and then finds nothing to do.

use std::{collections::BTreeMap, path::PathBuf};

use devenv_spec::{EnvironmentId, EnvironmentSpec, ServiceName};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Remove a volume that was made for the operation, unless a record names it by now.
    RemoveVolume { name: String },
    /// Remove a container that was made for the operation.
    RemoveContainer { container: String },
    /// Unpause a container that was paused for a copy.
    Unpause { container: String },
    /// Remove a file, or a directory with everything in it.
    RemovePath { path: PathBuf },
    /// Forget an environment that was made for the operation, unless it has data by now.
    ForgetEnvironment { environment: EnvironmentId },
    /// Move services to these volumes, by the keys of the record, unless they are on them already.
    MoveVolumes { environment: EnvironmentId, volumes: BTreeMap<String, String>, reason: String },
    /// Bring an environment up as this says. Secrets in it are references.
    BringUp { environment: EnvironmentId, spec: Box<EnvironmentSpec> },
    /// Put replaced databases back in place, and remove what was staged beside them.
    RevertDatabases { databases: ServerDatabases },
    /// Finish databases that have been put in place: set them up, and remove the old ones.
    ConcludeDatabases { databases: ServerDatabases },
    /// Give an environment its project's new directory. The empty environment that is there instead is forgotten.
    Relocate { environment: EnvironmentId, project: PathBuf, instead_of: Option<EnvironmentId> },
    /// Rename a complete file to its final name, replacing an existing one.
    RenameFile { from: PathBuf, to: PathBuf },
}

/// Databases of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerDatabases {
    pub(crate) environment: EnvironmentId,
    pub(crate) service: ServiceName,
    /// The engine's names of the service's volumes. On other volumes these databases do not exist, and nothing is left to do.
    pub(crate) volumes: Vec<String>,
    pub(crate) names: Vec<String>,
}

impl Step {
    /// Volumes that it concerns.
    pub(crate) fn volumes(&self) -> Vec<&String> {
        match self {
            Self::RemoveVolume { name } => vec![name],
            Self::MoveVolumes { volumes, .. } => volumes.values().collect(),
            Self::RevertDatabases { databases } | Self::ConcludeDatabases { databases } => databases.volumes.iter().collect(),
            Self::RemoveContainer { .. }
            | Self::Unpause { .. }
            | Self::RemovePath { .. }
            | Self::ForgetEnvironment { .. }
            | Self::BringUp { .. }
            | Self::Relocate { .. }
            | Self::RenameFile { .. } => Vec::new(),
        }
    }

    pub(crate) fn container(&self) -> Option<&str> {
        match self {
            Self::RemoveContainer { container } | Self::Unpause { container } => Some(container),
            Self::RemoveVolume { .. }
            | Self::RemovePath { .. }
            | Self::ForgetEnvironment { .. }
            | Self::MoveVolumes { .. }
            | Self::BringUp { .. }
            | Self::RevertDatabases { .. }
            | Self::ConcludeDatabases { .. }
            | Self::Relocate { .. }
            | Self::RenameFile { .. } => None,
        }
    }

    pub(crate) fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::RemovePath { path } | Self::RenameFile { from: path, .. } => Some(path),
            Self::RemoveVolume { .. }
            | Self::RemoveContainer { .. }
            | Self::Unpause { .. }
            | Self::ForgetEnvironment { .. }
            | Self::MoveVolumes { .. }
            | Self::BringUp { .. }
            | Self::Relocate { .. }
            | Self::RevertDatabases { .. }
            | Self::ConcludeDatabases { .. } => None,
        }
    }

    pub(crate) fn environment(&self) -> Option<&EnvironmentId> {
        match self {
            Self::ForgetEnvironment { environment }
            | Self::MoveVolumes { environment, .. }
            | Self::BringUp { environment, .. }
            | Self::Relocate { environment, .. } => Some(environment),
            Self::RevertDatabases { databases } | Self::ConcludeDatabases { databases } => Some(&databases.environment),
            Self::RemoveVolume { .. }
            | Self::RemoveContainer { .. }
            | Self::Unpause { .. }
            | Self::RemovePath { .. }
            | Self::RenameFile { .. } => None,
        }
    }

    /// The databases for which it needs a running server.
    pub(crate) fn databases(&self) -> Option<&ServerDatabases> {
        match self {
            Self::RevertDatabases { databases } | Self::ConcludeDatabases { databases } => Some(databases),
            Self::RemoveVolume { .. }
            | Self::RemoveContainer { .. }
            | Self::Unpause { .. }
            | Self::RemovePath { .. }
            | Self::ForgetEnvironment { .. }
            | Self::MoveVolumes { .. }
            | Self::BringUp { .. }
            | Self::Relocate { .. }
            | Self::RenameFile { .. } => None,
        }
    }
}
