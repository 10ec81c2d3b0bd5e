//! Where the time of `up` went: what each service did and when, and which services decided how long it took.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `up --timings` adds to the status. All times count from the start of the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timings {
    pub total_ms: u64,
    /// When the daemon began with the services: before that the profile was read, the daemon started, other operations waited for.
    pub asked_ms: u64,
    /// In the order in which they became ready.
    pub services: Vec<ServiceTimings>,
    /// The services that decided how long it took, each of which waited for the one before it.
    pub critical_path: Vec<String>,
}

/// What one service did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceTimings {
    pub name: String,
    /// In the order of time; parts that took less than a millisecond are left out, except `started`. Empty if there was nothing to do.
    pub phases: Vec<PhaseTiming>,
    /// When it became ready, or had completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<u64>,
    /// The service that it depends on and that let it start last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_for: Option<String>,
}

/// One part of a service's start, as events carry it in `phases`: there the times count from the last `up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseTiming {
    pub phase: StartPhase,
    pub from_ms: u64,
    pub to_ms: u64,
}

/// The parts of a service's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartPhase {
    /// Its image was looked for, and pulled if it was missing.
    Pulled,
    /// Its image was built.
    Built,
    /// The running instance was stopped, to be replaced or restarted.
    Stopped,
    /// The former instance was removed.
    Removed,
    Created,
    /// Its volumes and files were prepared and it was started.
    Started,
    /// A new version was started beside the old one and took over.
    Swapped,
    /// It ran, and its probe had not succeeded yet.
    Answered,
    Provisioned,
    Scripts,
    /// It was proven that a client can work with it.
    Proven,
    /// It ran to its end.
    Ran,
}

impl StartPhase {
    pub const ALL: [Self; 12] = [
        Self::Pulled,
        Self::Built,
        Self::Stopped,
        Self::Removed,
        Self::Created,
        Self::Started,
        Self::Swapped,
        Self::Answered,
        Self::Provisioned,
        Self::Scripts,
        Self::Proven,
        Self::Ran,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pulled => "pulled",
            Self::Built => "built",
            Self::Stopped => "stopped",
            Self::Removed => "removed",
            Self::Created => "created",
            Self::Started => "started",
            Self::Swapped => "swapped",
            Self::Answered => "answered",
            Self::Provisioned => "provisioned",
            Self::Scripts => "scripts",
            Self::Proven => "proven",
            Self::Ran => "ran",
        }
    }
}

impl fmt::Display for StartPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
