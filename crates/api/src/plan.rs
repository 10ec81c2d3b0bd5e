//! What `up` would do.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::LedgerEntry;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// What the profile does on this machine beyond running containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_powers: Vec<HostPower>,
    /// Variables of services that the profile's `override` replaces; they need not lead to this environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<String>,
    /// Scripts and data sets that are not applied as they are now: those that `up` applies, and those that have changed since they
    /// were applied and stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<LedgerEntry>,
}

/// Something that a profile does outside of containers, or that gives a container access to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostPower {
    /// Empty if it concerns the whole profile.
    pub service: String,
    pub power: PowerKind,
    /// The command, path or capability.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PowerKind {
    /// A command runs on the host as the user.
    Process,
    /// A directory outside the project is visible in a container.
    Mount,
    /// A container can control the engine.
    EngineSocket,
    /// An image is built from instructions of the project.
    Build,
    /// A container has rights, devices or namespaces of the host.
    Privileged,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    pub service: String,
    pub action: Action,
    pub consequence: Consequence,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Create,
    Start,
    Restart,
    Recreate,
    Stop,
    Remove,
    None,
}

/// How a step affects clients of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Consequence {
    None,
    Restart,
    Recreate,
    DataLoss,
}

impl fmt::Display for PowerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Process => "runs on this machine",
            Self::Mount => "sees outside the project",
            Self::EngineSocket => "controls the container engine",
            Self::Build => "builds an image",
            Self::Privileged => "host rights",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Recreate => "recreate",
            Self::Stop => "stop",
            Self::Remove => "remove",
            Self::None => "none",
        })
    }
}

impl fmt::Display for Consequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Restart => "restart",
            Self::Recreate => "recreate",
            Self::DataLoss => "data-loss",
        })
    }
}
