//! Backups, restore drills, imports and exports.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EnvironmentTarget;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backups {
    /// Newest last.
    pub backups: Vec<Backup>,
}

/// One backup of an environment's data. Also the manifest stored next to its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backup {
    pub id: String,
    /// RFC 3339. Taken before any data was read: later writes may be missing.
    pub created_at: String,
    pub services: Vec<BackupPart>,
    /// Bytes.
    pub size: u64,
    /// It contains only the services that were named, not all that can be backed up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Older backups that were removed to make room for this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackupPart {
    pub service: String,
    pub kind: String,
    pub files: Vec<BackupFile>,
    /// The contents, counted at the time of the backup.
    pub contents: Vec<Content>,
    /// Why this service is not in the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupFile {
    /// The path in the backup's directory.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub checksum: String,
}

/// A table, or a numbered database of Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Content {
    /// `app/public.item`, `db0`.
    pub name: String,
    pub rows: u64,
    /// Over all rows, in any order; absent if only a count is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Restored {
    pub backup: String,
    /// Whether every row count and checksum is that of the backup.
    pub verified: bool,
    pub services: Vec<Compared>,
    pub elapsed_ms: u64,
}

/// The expected and the actual contents, and where they differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    pub service: String,
    pub before: Vec<Content>,
    pub after: Vec<Content>,
    pub differences: Vec<String>,
}

/// The result of a drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drill {
    pub backup: String,
    pub verified: bool,
    /// From nothing to verified data in ready services.
    pub rto_ms: u64,
    /// Age of the newest data in the backup: what would be lost now.
    pub rpo_ms: u64,
    /// The part of the recovery time that the start of the services took.
    pub start_ms: u64,
    pub services: Vec<Compared>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transferred {
    pub service: String,
    /// A file, or an address without its password.
    pub place: String,
    pub databases: Vec<Compared>,
    pub verified: bool,
    /// The backup of the previous data, made before an import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    pub elapsed_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RestoreRequest {
    pub target: EnvironmentTarget,
    /// The instance whose backup it is. Default: the target's own.
    #[serde(default)]
    pub from: Option<EnvironmentTarget>,
    pub id: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TransferRequest {
    pub target: EnvironmentTarget,
    pub service: String,
    /// An absolute path, or (for an import) a URL.
    pub place: String,
    #[serde(default)]
    pub database: Option<String>,
}
