//! The state of an environment and its services, as clients see it.

use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Fault, LedgerEntry, Operation, Timings};

/// One environment, as `status --json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The environment's id.
    pub environment: String,
    /// The project's directory.
    pub project: String,
    pub instance: String,
    /// The profile that runs, or ran last.
    pub profile: Option<String>,
    pub phase: Phase,
    pub services: Vec<Service>,
    /// How long the command took; always set by `up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
    /// Scripts that changed since they were applied.
    #[serde(default)]
    pub drift: Vec<LedgerEntry>,
    /// Faults that have not healed yet.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// Operations that have not ended.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// Variables of services that the profile's `override` replaces; they need not lead to this environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<String>,
    /// The project's directory does not exist any more. Set by `list` only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub project_gone: bool,
    /// The IPv4 subnet of its networks, kept while it is down. Set by `list` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// Where the time went. Set by `up --timings` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
}

/// The state of an environment as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// No container or network exists; volumes may.
    Absent,
    Starting,
    /// Every service that is not optional can do real work.
    Ready,
    /// It was ready, and a service is not any more.
    Degraded,
    /// The supervisor gave up on a service.
    Failed,
    Stopping,
    /// Its containers exist and none of them runs.
    Stopped,
    /// Its containers are stopped or frozen, and a connection to one of their ports wakes what it needs.
    Asleep,
}

/// One service of an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    pub name: String,
    pub kind: String,
    pub state: ServiceState,
    /// Why it is in this state, if that is not obvious.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Milliseconds from its start to ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_after_ms: Option<u64>,
    /// Restarts by the supervisor, since `up`.
    pub restarts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// The container's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The host process's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    pub ports: Vec<Port>,
    /// Addresses to open, without secrets.
    pub urls: IndexMap<String, String>,
    pub depends_on: IndexMap<String, Condition>,
}

impl Service {
    /// A service of which nothing else is known.
    pub fn new(name: impl Into<String>, kind: impl Into<String>, state: ServiceState) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            state,
            reason: None,
            ready_after_ms: None,
            restarts: 0,
            optional: None,
            container: None,
            pid: None,
            image: None,
            ports: Vec::new(),
            urls: IndexMap::new(),
            depends_on: IndexMap::new(),
        }
    }
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Port {
    pub container: u16,
    pub host: u16,
    pub address: String,
}

/// The state of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Waits for what it depends on, or for its turn.
    Pending,
    Pulling,
    Creating,
    /// Runs, and its probe has not succeeded yet.
    Starting,
    /// Answers, and is being provisioned.
    Provisioning,
    Ready,
    /// Was ready and does not answer.
    Unhealthy,
    /// Ran when the engine last answered; the link to the engine is lost.
    Unreachable,
    /// Ended repeatedly; the supervisor makes no further attempt.
    CrashLoop,
    Failed,
    /// Ended with success, as a one-shot service does.
    Completed,
    Stopping,
    Stopped,
    /// Stopped or frozen; a connection to one of its ports wakes it.
    Asleep,
}

/// The state that a dependant waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    Ready,
    Started,
    Completed,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Asleep => "asleep",
        }
    }
}

impl ServiceState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Pulling => "pulling",
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::Provisioning => "provisioning",
            Self::Ready => "ready",
            Self::Unhealthy => "unhealthy",
            Self::Unreachable => "unreachable",
            Self::CrashLoop => "crash-loop",
            Self::Failed => "failed",
            Self::Completed => "completed",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Asleep => "asleep",
        }
    }
}

impl Condition {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Started => "started",
            Self::Completed => "completed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
