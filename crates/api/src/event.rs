//! Events of an environment, and the log lines of services.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that happened, in the past tense. It is understandable without other events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Counts up within the environment.
    pub sequence: u64,
    /// RFC 3339, UTC, microseconds.
    pub time: String,
    pub environment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// A stable word such as `service.ready`.
    pub kind: String,
    pub message: String,
    /// Data for programs; `cause` is the sequence of the event that led to this one.
    #[serde(default)]
    pub data: serde_json::Value,
}

/// One line of a service's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    pub time: String,
    pub service: String,
    pub stream: LogStream,
    pub text: String,
    /// Counts the service's starts from 1.
    pub run: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogStream {
    Stdout,
    Stderr,
}
