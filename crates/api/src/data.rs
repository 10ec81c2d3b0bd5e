//! The ledger of applied scripts, snapshots, and leases.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ledger {
    pub entries: Vec<LedgerEntry>,
}

/// A script or data set, and what has been applied of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerEntry {
    pub service: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Relative to the project.
    pub path: String,
    /// SHA-256 of what was applied (of the file, while it is pending).
    pub checksum: String,
    pub mode: LedgerMode,
    pub state: LedgerState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How the present file of a script differs from what was applied, in each place where it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerChanges {
    pub scripts: Vec<ScriptChange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScriptChange {
    pub service: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Relative to the project.
    pub path: String,
    /// SHA-256 of what was applied.
    pub checksum: String,
    /// The changed lines with some around them. Between two that do not follow each other, lines are left out.
    pub lines: Vec<ChangedLine>,
    /// Why the lines are not known, or not all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedLine {
    pub change: LineChange,
    /// Its number in the file that was applied, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// Its number in the present file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<u64>,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LineChange {
    Same,
    Removed,
    Added,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LedgerMode {
    Once,
    OnChange,
    Always,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LedgerState {
    Applied,
    Pending,
    /// The file differs from what was applied: drift.
    Changed,
    Failed,
    /// It ran without a transaction and failed half-way: its first part is applied. It is applied again only on request.
    Interrupted,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshots {
    pub snapshots: Vec<Snapshot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    pub name: String,
    pub created_at: String,
    pub services: Vec<SnapshotPart>,
    /// Bytes.
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotPart {
    pub name: String,
    /// Bytes.
    pub size: u64,
    pub checksum: String,
}

/// A claim on part of a service that ends with its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    pub id: String,
    pub services: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub variables: IndexMap<String, String>,
}
