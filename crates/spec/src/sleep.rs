//! When a container falls asleep, and how: what the profile says, for the daemon's idle check and the planner.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Of a container that may fall asleep. The daemon holds its ports, and a connection to one of them wakes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sleep {
    /// How long no client may have used the environment's sleeping services. Without it, only a command puts it to sleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    #[serde(default)]
    pub mode: SleepMode,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SleepMode {
    /// Stopped: takes no memory, and starts again with its first connection.
    #[default]
    Stop,
    /// Paused: takes no processor time, and continues within milliseconds.
    Freeze,
}
