//! Scripts and data sets that the profile declares for one service, before the files are read.

use serde::{Deserialize, Serialize};

use super::{OfKind, SecretRef, ServiceName};

/// Everything that is applied to one service, in order: `admin_init`, then `init`, then `seed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptSet {
    pub service: ServiceName,
    /// The server, as its kind reaches it from the host on the loopback.
    pub target: OfKind,
    pub sources: Vec<ScriptSource>,
}

/// Paths of the profile that one role applies in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptSource {
    pub place: ScriptPlace,
    /// Files and directories, relative to the project.
    pub paths: Vec<String>,
    /// A data set, not a script of the schema.
    pub seed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScriptPlace {
    /// The service itself, for kinds without databases.
    Service,
    /// A database of the server, as its owner or as the superuser.
    Database { name: String, role: String, password: SecretRef },
}

impl ScriptPlace {
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::Service => None,
            Self::Database { name, .. } => Some(name),
        }
    }
}
