//! One thing that an operation may still owe: to take back what it made, or to finish what it has begun.
//!
//! A step is plain data, written down before the act that it takes back. `operation::undo` carries steps out. Each may be
//! repeated, and finds nothing to do the second time.

use std::path::PathBuf;

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
}

impl Step {
    pub(crate) fn volume(&self) -> Option<&str> {
        match self {
            Self::RemoveVolume { name } => Some(name),
            Self::RemoveContainer { .. } | Self::Unpause { .. } | Self::RemovePath { .. } | Self::ForgetEnvironment { .. } => None,
        }
    }

    pub(crate) fn container(&self) -> Option<&str> {
        match self {
            Self::RemoveContainer { container } | Self::Unpause { container } => Some(container),
            Self::RemoveVolume { .. } | Self::RemovePath { .. } | Self::ForgetEnvironment { .. } => None,
        }
    }

    pub(crate) fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::RemovePath { path } => Some(path),
            Self::RemoveVolume { .. } | Self::RemoveContainer { .. } | Self::Unpause { .. } | Self::ForgetEnvironment { .. } => None,
        }
    }

    pub(crate) fn environment(&self) -> Option<&EnvironmentId> {
        match self {
            Self::ForgetEnvironment { environment } => Some(environment),
            Self::RemoveVolume { .. } | Self::RemoveContainer { .. } | Self::Unpause { .. } | Self::RemovePath { .. } => None,
        }
    }
}
