//! One thing that an operation may still owe: to take back what it made, or to finish what it has begun.
//!
//! A step is plain data, written down before the act that it takes back. `operation::undo` carries steps out. Each may be
//! repeated, and finds nothing to do the second time.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::spec::EnvironmentId;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Remove a volume that was made for the operation, unless a record names it by now.
    RemoveVolume { name: String },
    /// Remove a container that was made for the operation.
    RemoveContainer { container: String },
    /// Let a container that was paused for a copy go on.
    Unpause { container: String },
    /// Remove a file or a directory with all that is in it.
    RemovePath { path: PathBuf },
    /// Forget an environment that was made for the operation, unless it has data by now.
    ForgetEnvironment { environment: EnvironmentId },
    /// Move services to these volumes, by the keys of the record, unless they are there already.
    MoveVolumes { environment: EnvironmentId, volumes: BTreeMap<String, String>, reason: String },
}

impl Step {
    /// Volumes that it is about.
    pub(crate) fn volumes(&self) -> Vec<&String> {
        match self {
            Self::RemoveVolume { name } => vec![name],
            Self::MoveVolumes { volumes, .. } => volumes.values().collect(),
            Self::RemoveContainer { .. } | Self::Unpause { .. } | Self::RemovePath { .. } | Self::ForgetEnvironment { .. } => Vec::new(),
        }
    }

    pub(crate) fn container(&self) -> Option<&str> {
        match self {
            Self::RemoveContainer { container } | Self::Unpause { container } => Some(container),
            Self::RemoveVolume { .. } | Self::RemovePath { .. } | Self::ForgetEnvironment { .. } | Self::MoveVolumes { .. } => None,
        }
    }

    pub(crate) fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::RemovePath { path } => Some(path),
            Self::RemoveVolume { .. }
            | Self::RemoveContainer { .. }
            | Self::Unpause { .. }
            | Self::ForgetEnvironment { .. }
            | Self::MoveVolumes { .. } => None,
        }
    }

    pub(crate) fn environment(&self) -> Option<&EnvironmentId> {
        match self {
            Self::ForgetEnvironment { environment } | Self::MoveVolumes { environment, .. } => Some(environment),
            Self::RemoveVolume { .. } | Self::RemoveContainer { .. } | Self::Unpause { .. } | Self::RemovePath { .. } => None,
        }
    }
}
