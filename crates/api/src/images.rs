//! Images: which are present, and archives that carry them from one machine to another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer of `fetch` and `images`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Images {
    pub images: Vec<ImageEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageEntry {
    pub name: String,
    /// `sha256:…` of the local image.
    pub id: String,
    /// `NAME@sha256:…`, if a registry reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Bytes.
    pub size: u64,
    /// It was pulled by this request.
    #[serde(default)]
    pub fetched: bool,
    /// The image that had this name before an archive was loaded, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
}

/// Pulls these images if they are missing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct FetchRequest {
    pub images: Vec<String>,
}

/// One line of the answer to [`FetchRequest`]: progress, then one of the last two.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FetchMessage {
    Progress { image: String, message: String },
    Done(Images),
    Failed(crate::ApiError),
}

/// Writes images to an archive, or loads those in one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ArchiveRequest {
    /// Absolute.
    pub file: String,
    /// The images to write. Empty when loading: the archive lists its own.
    #[serde(default)]
    pub images: Vec<String>,
}
