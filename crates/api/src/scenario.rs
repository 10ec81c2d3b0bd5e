//! The plan and the result of a chaos scenario.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Event, Fault};

/// The faults of a scenario as drawn from its seed: what `chaos run --dry-run --json` prints. It holds no clock times, so it
/// is the same for the same file and seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChaosPlan {
    pub scenario: String,
    pub seed: u64,
    pub plan: Vec<PlannedFault>,
}

/// One entry of the timeline; exactly one of `at_ms`, `after` and `when` is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedFault {
    pub id: String,
    /// Since the workloads run steadily.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// `ID.recovered + 3000ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// A condition such as `jobs.outstanding > 100`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    pub fault: String,
    pub on: String,
    pub parameters: Map<String, Value>,
    /// Seed for the random choices of the fault.
    pub seed: u64,
}

/// The result of a run, as printed by `chaos run --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    pub scenario: String,
    pub seed: u64,
    pub verdict: Verdict,
    /// Whether every fault was undone at the end.
    pub healed: bool,
    /// Why the verdict is not `pass`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub timeline: Vec<Event>,
    pub faults: Vec<Fault>,
    pub checks: Vec<CheckResult>,
    /// One for each fault, in the order of the timeline.
    pub recovery: Vec<Recovery>,
    /// One for each workload.
    #[serde(default)]
    pub workloads: Vec<WorkloadResult>,
    /// The faults as planned; a run can be repeated from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<ChaosPlan>,
    /// How often services were asked whether they answer.
    #[serde(default)]
    pub prober_period_ms: u64,
    /// The directory with the journal, the plan and the operation logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// What was run, when and on what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<RunAbout>,
}

/// What a reader of a report has to know of its run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunAbout {
    /// The scenario's own description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub began_at: String,
    pub ended_at: String,
    pub project: String,
    pub instance: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The version of devenv.
    pub devenv: String,
    pub services: Vec<RunService>,
}

/// A service as it was when the run began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunService {
    pub name: String,
    pub kind: String,
    /// `None` for a process on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every check was tested, and held.
    Pass,
    /// A check did not hold.
    Fail,
    /// The run proves nothing: the effect of a fault was not observed, a workload did nothing, or its data could not be read.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// As in the scenario: `jobs.lost`.
    pub name: String,
    pub verdict: Verdict,
    pub detail: String,
    pub figures: Map<String, Value>,
}

/// The recovery from one fault. Times count from `fault_at`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recovery {
    /// The fault's id.
    pub fault: String,
    pub service: String,
    pub fault_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_error_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heal_ms: Option<f64>,
    /// The service answers in its own protocol, and the supervisor reports it ready; 0 if it never stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<f64>,
    /// The workloads on it work again: five operations in a row succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok_ms: Option<f64>,
    /// The workloads on it are as fast as before for two seconds: at least 95 % of the operations per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_ms: Option<f64>,
}

/// What a workload did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadResult {
    pub name: String,
    pub kind: String,
    pub service: String,
    pub attempted: u64,
    pub acknowledged: u64,
    /// Refused for certain.
    pub failed: u64,
    /// Sent, and their outcome is unknown.
    pub unknown: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Operations in each tenth of a second from the start of the run: successes and failures.
    #[serde(default)]
    pub tenths: Vec<(u32, u32)>,
    /// Latency of the successes in each tenth of a second, in milliseconds: the median, and that of the slowest. `None` without a success.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency_ms: Vec<Option<(f64, f64)>>,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
