//! Images: what of them is here, and archives that carry them from one machine to another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answers `fetch` and `images`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Images {
    pub images: Vec<ImageEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageEntry {
    pub name: String,
    /// `sha256:…` of what is here.
    pub id: String,
    /// `NAME@sha256:…`, where a registry gave it one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Bytes.
    pub size: u64,
    /// It was not here before.
    #[serde(default)]
    pub fetched: bool,
}

/// Pulls these images if they are missing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FetchRequest {
    pub images: Vec<String>,
}

/// One line of the answer to [`FetchRequest`]: news, then one of the last two.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchMessage {
    Progress { image: String, message: String },
    Done(Images),
    Failed(crate::ApiError),
}

/// Writes images to an archive, or loads those that are in one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArchiveRequest {
    /// Absolute.
    pub file: String,
    /// To write. Empty when loading: the archive lists its own.
    #[serde(default)]
    pub images: Vec<String>,
}
