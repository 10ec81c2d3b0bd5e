//! The record of one operation, as it is in its file.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use devenv_api::{AskedBy, Operation, OperationKind, OperationState};
use devenv_spec::EnvironmentId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Step;

const VERSION: u32 = 1;

/// The content of an operation's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(super) version: u32,
    pub(crate) operation: Operation,
    /// The environments that it concerns.
    #[serde(default)]
    pub(crate) environments: Vec<EnvironmentId>,
    /// Not listed.
    #[serde(default)]
    pub(crate) background: bool,
    /// The steps that undo what was done so far, newest last.
    #[serde(default)]
    pub(crate) undo: Vec<Step>,
    /// The steps that are left once nothing can be undone any more. If there are any, nothing is undone.
    #[serde(default)]
    pub(crate) finish: Vec<Step>,
    /// Its effect is on the environment's record, where the next daemon finds it: nothing is undone.
    #[serde(default)]
    pub(crate) committed: bool,
}

/// Objects that running operations depend on: nobody else may remove them.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    pub(crate) environments: HashSet<EnvironmentId>,
    pub(crate) volumes: HashSet<String>,
    pub(crate) containers: HashSet<String>,
    pub(crate) paths: HashSet<PathBuf>,
}

impl Record {
    pub(crate) fn new(kind: OperationKind, asked_by: AskedBy, environments: Vec<EnvironmentId>) -> Self {
        let operation = Operation {
            id: format!("{kind}-{:08x}", rand::random::<u32>()),
            kind,
            environment: environments.first().map(ToString::to_string),
            state: OperationState::Waiting,
            asked_by,
            asked_at: now(),
            started_at: None,
            duration_ms: None,
            progress: None,
            message: None,
        };
        Self { version: VERSION, operation, environments, background: false, undo: Vec::new(), finish: Vec::new(), committed: false }
    }

    pub(super) fn starts(&mut self) -> Instant {
        self.operation.state = OperationState::Running;
        self.operation.started_at = Some(now());
        self.operation.message = None;
        Instant::now()
    }

    pub(super) fn owes(&self) -> bool {
        !self.undo.is_empty() || !self.finish.is_empty()
    }
}

pub(crate) fn now() -> String {
    format!("{:.6}", Timestamp::now())
}

/// `None` if it is not a record, or one of a newer devenv.
pub(super) fn read(path: &Path) -> Option<Record> {
    if path.extension().is_none_or(|extension| extension != "json") {
        return None;
    }
    let text = fs::read(path).ok()?;
    match serde_json::from_slice::<Record>(&text) {
        Ok(record) if record.version <= VERSION => Some(record),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "Cannot read the record of an operation.");
            None
        }
    }
}
