//! Operations: everything that changes an environment, asked for, followed, listed and cancelled.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ApiError, ApplyRequest, BuildRequest, DownRequest, EnvironmentTarget, Event, ForkRequest, GcRequest, MoveRequest, NamedRequest,
    RestoreRequest, ServicesRequest, TakeOverRequest, TransferRequest, UpRequest,
};

/// A request for an operation, and who asks for it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Submission {
    pub request: OperationRequest,
    pub asked_by: AskedBy,
}

/// One request for each sort of operation.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationRequest {
    Up(UpRequest),
    Down(DownRequest),
    Start(ServicesRequest),
    Stop(ServicesRequest),
    Restart(ServicesRequest),
    /// `init`, and `seed` if the request says so.
    Apply(ApplyRequest),
    Reset(ServicesRequest),
    SnapshotSave(NamedRequest),
    SnapshotRestore(NamedRequest),
    SnapshotRemove(NamedRequest),
    Fork(ForkRequest),
    Undo(EnvironmentTarget),
    Backup(ServicesRequest),
    BackupRestore(RestoreRequest),
    Import(TransferRequest),
    Export(TransferRequest),
    Build(BuildRequest),
    Gc(GcRequest),
    Move(MoveRequest),
    TakeOver(TakeOverRequest),
    Sleep(ServicesRequest),
    Wake(ServicesRequest),
}

impl OperationRequest {
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Up(_) => OperationKind::Up,
            Self::Down(_) => OperationKind::Down,
            Self::Start(_) => OperationKind::Start,
            Self::Stop(_) => OperationKind::Stop,
            Self::Restart(_) => OperationKind::Restart,
            Self::Apply(request) if request.seed => OperationKind::Seed,
            Self::Apply(_) => OperationKind::Init,
            Self::Reset(_) => OperationKind::Reset,
            Self::SnapshotSave(_) => OperationKind::SnapshotSave,
            Self::SnapshotRestore(_) => OperationKind::SnapshotRestore,
            Self::SnapshotRemove(_) => OperationKind::SnapshotRemove,
            Self::Fork(_) => OperationKind::Fork,
            Self::Undo(_) => OperationKind::Undo,
            Self::Backup(_) => OperationKind::Backup,
            Self::BackupRestore(_) => OperationKind::BackupRestore,
            Self::Import(_) => OperationKind::Import,
            Self::Export(_) => OperationKind::Export,
            Self::Build(_) => OperationKind::Build,
            Self::Gc(_) => OperationKind::Gc,
            Self::Move(_) => OperationKind::Move,
            Self::TakeOver(_) => OperationKind::Move,
            Self::Sleep(_) => OperationKind::Sleep,
            Self::Wake(_) => OperationKind::Wake,
        }
    }
}

/// Who asked for an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AskedBy {
    /// The command line, with secrets masked.
    pub command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
}

/// What `operations --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operations {
    /// In the order of submission.
    pub operations: Vec<Operation>,
}

/// An operation on an environment: what it is, who asked for it, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    pub id: String,
    pub kind: OperationKind,
    /// The environment's id; `None` for an operation that concerns all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    pub state: OperationState,
    #[serde(default)]
    pub asked_by: AskedBy,
    /// RFC 3339, UTC, microseconds.
    pub asked_at: String,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Milliseconds from its start to its end, or until now while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<OperationProgress>,
    /// What it waits for or works on; at the end, its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Between the tool and the agent's name, in the command of an operation that an agent has asked for.
pub const ASKED_BY_AGENT: &str = ", asked by agent ";

/// How far an operation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationProgress {
    pub done: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The unit: `bytes`, `volumes`.
    pub unit: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    Up,
    Down,
    Start,
    Stop,
    Restart,
    Init,
    Seed,
    Reset,
    SnapshotSave,
    SnapshotRestore,
    SnapshotRemove,
    Fork,
    Undo,
    Backup,
    BackupRestore,
    Import,
    Export,
    Build,
    Gc,
    /// The start or the end of an environment that belongs to a test run.
    Test,
    /// The start or the end of a lease.
    Lease,
    Move,
    Rotate,
    Sleep,
    Wake,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    /// Another operation has to end first.
    Waiting,
    Running,
    Succeeded,
    Failed,
    /// It was asked to stop, and did.
    Cancelled,
    /// Its daemon died in the middle, and the next one undid it.
    Undone,
}

impl OperationState {
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Undone => "undone",
        }
    }
}

impl OperationKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Init => "init",
            Self::Seed => "seed",
            Self::Reset => "reset",
            Self::SnapshotSave => "snapshot-save",
            Self::SnapshotRestore => "snapshot-restore",
            Self::SnapshotRemove => "snapshot-remove",
            Self::Fork => "fork",
            Self::Undo => "undo",
            Self::Backup => "backup",
            Self::BackupRestore => "backup-restore",
            Self::Import => "import",
            Self::Export => "export",
            Self::Build => "build",
            Self::Gc => "gc",
            Self::Test => "test",
            Self::Lease => "lease",
            Self::Move => "move",
            Self::Rotate => "rotate",
            Self::Sleep => "sleep",
            Self::Wake => "wake",
        }
    }
}

impl fmt::Display for OperationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One line of the answer to a submission: accepted, then events and progress, then one of the last two. An operation that is
/// continued by another one (`fork` by `up`) is followed by that one, which is accepted in turn; the last line is of the last.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationMessage {
    Accepted(Operation),
    Event(Event),
    /// Bytes pulled so far, or other progress that is no event.
    Progress {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        message: String,
    },
    Done {
        operation: Operation,
        /// What the command prints.
        result: serde_json::Value,
    },
    Failed {
        /// `None` if it was refused before it became an operation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<Operation>,
        error: ApiError,
    },
}

/// Names an operation to cancel or follow.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct OperationTarget {
    pub id: String,
}

/// A call of one of devenv's tools by an agent. It becomes an event of the environment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AgentCall {
    pub target: EnvironmentTarget,
    /// What the agent calls itself.
    pub agent: String,
    pub tool: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}
