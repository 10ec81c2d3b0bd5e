//! A script, the context in which it is applied, and its state in the ledger. Plain data.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use devenv_api::LedgerMode;
use devenv_engine::Engine;
use devenv_secrets::Vault;

/// One script or data set, found and read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// As users write it: relative to the project.
    pub path: String,
    pub content: Content,
    pub format: ScriptFormat,
    pub mode: LedgerMode,
    /// SHA-256, in hexadecimal.
    pub checksum: String,
    pub seed: bool,
    /// Bytes of the file.
    pub size: u64,
    /// The file contains an up and a down migration: only the up part is applied.
    pub only_up: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file, or the directory of a dump in directory format.
    File(PathBuf),
    Shipped(&'static [u8]),
}

/// One of the formats of the service's kind, by its own name: `sql`, `csv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptFormat(pub &'static str);

/// Checksums by a file's identity, size and time of change, so that an unchanged file is read once.
#[derive(Debug, Clone, Default)]
pub struct Checksums {
    pub(crate) known: Arc<Mutex<HashMap<PathBuf, (Stamp, Known)>>>,
}

/// Identity, size and time of change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) u64, pub(crate) u64, pub(crate) u64, pub(crate) i64, pub(crate) i64);

/// What is known of a file's content.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) checksum: String,
    pub(crate) mode: LedgerMode,
    pub(crate) only_up: bool,
    /// It may include other files.
    pub(crate) may_read: bool,
}

/// The ledger's state of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub path: String,
    pub checksum: String,
    pub mode: LedgerMode,
    pub state: RecordedState,
    pub applied_at: Option<String>,
    pub duration_ms: Option<u64>,
    pub rows: Option<u64>,
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordedState {
    /// Started without a transaction, and its outcome is unknown: it may still run.
    Running,
    /// It was running, but its session is gone.
    Interrupted,
    Applied,
    Failed,
}

/// The context in which scripts are applied.
pub struct ScriptContext<'a> {
    pub engine: &'a dyn Engine,
    /// The id of the service's container, which runs.
    pub container: &'a str,
    pub vault: &'a Vault,
    pub project: &'a Path,
    /// The local certificate authority's certificate, for a service with TLS.
    pub authority: Option<&'a Path>,
    pub checksums: &'a Checksums,
    pub progress: &'a (dyn Fn(Progress<'_>) + Send + Sync),
}

/// The progress of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    pub path: &'a str,
    pub rows: u64,
    /// Bytes of the file, read so far.
    pub bytes: u64,
    pub total_bytes: u64,
}

/// A script that failed. It is not recorded as applied, and the next run continues with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}{}: {message}", .line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct ScriptError {
    pub path: String,
    pub line: Option<u64>,
    pub message: String,
    pub hint: Option<String>,
}

impl ScriptError {
    pub fn of(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, message: message.into(), hint: None }
    }

    #[must_use]
    pub fn at(mut self, line: impl Into<Option<u64>>) -> Self {
        self.line = line.into();
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
