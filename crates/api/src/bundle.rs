//! What a failed run leaves to be read, as text files without secrets.

use serde::{Deserialize, Serialize};

use crate::EnvironmentTarget;

/// Asks for everything that is known of an environment, without its secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BundleRequest {
    pub target: EnvironmentTarget,
    /// Values to remove besides the environment's own secrets.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Texts of the client's own, which come back without secrets.
    #[serde(default)]
    pub files: Vec<BundleFile>,
}

/// A piece of a file; pieces of the same path belong together in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFile {
    /// Relative, with `/`.
    pub path: String,
    pub text: String,
}
