//! The daemon and the machine it runs on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiError, Status};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStatus {
    pub running: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub socket: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineInfo>,
    pub environments: Vec<Status>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineInfo {
    /// `docker` or `podman`.
    pub kind: String,
    pub version: String,
    /// The API version spoken.
    pub api: String,
    pub endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Doctor {
    pub checks: Vec<Check>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    pub name: String,
    pub status: CheckStatus,
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckStatus {
    Ok,
    Warning,
    Fail,
}

/// What an environment uses of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentUsage {
    pub environment: String,
    /// Bytes that its containers and processes have in memory now.
    pub memory: u64,
    /// Bytes of its volumes, with those of its snapshots and of its trash. `None` if the engine has not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<u64>,
    /// Bytes of its logs, backups and other files of devenv.
    pub files: u64,
}

/// The one line that a daemon prints when it serves or has failed to start. The process that started it waits for this line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Line", into = "Line")]
pub enum Announcement {
    /// `{"ready":true}`: it has adopted what runs, and serves.
    Ready,
    /// `{"running":true}`: another daemon holds the lock.
    Running,
    /// `{"error":{…}}`: it cannot serve, and exits.
    Error(ApiError),
}

#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
struct Line {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ready: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    running: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<ApiError>,
}

impl From<Announcement> for Line {
    fn from(announcement: Announcement) -> Self {
        match announcement {
            Announcement::Ready => Self { ready: true, ..Self::default() },
            Announcement::Running => Self { running: true, ..Self::default() },
            Announcement::Error(error) => Self { error: Some(error), ..Self::default() },
        }
    }
}

impl TryFrom<Line> for Announcement {
    type Error = &'static str;

    fn try_from(line: Line) -> Result<Self, &'static str> {
        match line {
            Line { error: Some(error), .. } => Ok(Announcement::Error(error)),
            Line { ready: true, .. } => Ok(Self::Ready),
            Line { running: true, .. } => Ok(Self::Running),
            Line { .. } => Err("neither ready, running nor an error"),
        }
    }
}
