//! Backups, drills, and data that comes from elsewhere or goes there.

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
    /// RFC 3339, before anything was read: what was written later may not be in it.
    pub created_at: String,
    pub services: Vec<BackupPart>,
    /// Bytes.
    pub size: u64,
    /// It holds only the services that were named, not all that could be backed up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Older backups that made room for this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackupPart {
    pub service: String,
    pub kind: String,
    pub files: Vec<BackupFile>,
    /// What was in it, counted at the same moment.
    pub contents: Vec<Content>,
    /// Why there is nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupFile {
    /// In the backup's directory.
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
    /// Of all rows, whatever their order; absent where only a count is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Restored {
    pub backup: String,
    /// Every row count and checksum is that of the backup.
    pub verified: bool,
    pub services: Vec<Compared>,
    pub elapsed_ms: u64,
}

/// What there was, what there is, and where they differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    pub service: String,
    pub before: Vec<Content>,
    pub after: Vec<Content>,
    pub differences: Vec<String>,
}

/// The answer to a drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drill {
    pub backup: String,
    pub verified: bool,
    /// From nothing to verified data in services that are ready.
    pub rto_ms: u64,
    /// Age of the newest data that the backup holds: what would be lost now.
    pub rpo_ms: u64,
    /// Of the time to recover, what the services' start took.
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
    /// Of what there was before an import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    pub elapsed_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestoreRequest {
    pub target: EnvironmentTarget,
    /// Whose backup it is, if not the target's own.
    #[serde(default)]
    pub from: Option<EnvironmentTarget>,
    pub id: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransferRequest {
    pub target: EnvironmentTarget,
    pub service: String,
    /// An absolute path, or (to import from) an address.
    pub place: String,
    #[serde(default)]
    pub database: Option<String>,
}
