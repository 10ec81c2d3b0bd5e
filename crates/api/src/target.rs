//! The environment that a request is about.

use serde::{Deserialize, Serialize};

/// Which environment a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EnvironmentTarget {
    /// The project's directory, canonical.
    pub project: String,
    pub instance: String,
}
