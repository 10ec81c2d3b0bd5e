//! The files that explain a failed run, as text without secrets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EnvironmentTarget;

/// Asks for logs, events and records of an environment, without its secrets.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BundleRequest {
    pub target: EnvironmentTarget,
    /// Values to mask besides the environment's own secrets.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Texts of the client, returned without secrets.
    #[serde(default)]
    pub files: Vec<BundleFile>,
}

/// A chunk of a file. Chunks of the same path belong together in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BundleFile {
    /// Relative, with `/`.
    pub path: String,
    pub text: String,
}
