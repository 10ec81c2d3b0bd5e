//! The result of a load test, as `load --json` prints it.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Verdict;

/// A load test and whether its budgets hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadReport {
    /// The name of its file.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `fail` if a budget does not hold, `unknown` if there is none and no operation succeeded.
    pub verdict: Verdict,
    /// RFC 3339.
    pub began_at: String,
    pub duration_ms: u64,
    /// By workload.
    pub figures: IndexMap<String, LoadFigures>,
    pub budgets: Vec<LoadBudget>,
}

/// The figures of one workload. Latencies are those of the operations that succeeded; `null` if none did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadFigures {
    /// The kind of work.
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The operations that succeeded.
    pub count: u64,
    /// The operations that failed, and those that were due and were not sent before the end.
    pub errors: u64,
    /// Operations that succeeded, per second.
    pub rate: f64,
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
    /// The last error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A limit that a figure has to keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadBudget {
    /// `WORKLOAD.FIGURE`.
    pub name: String,
    /// As written in the file: `< 20ms`.
    pub budget: String,
    /// What was measured, in words.
    pub measured: String,
    pub holds: bool,
}
