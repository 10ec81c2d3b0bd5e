//! Faults, as status and reports show them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EnvironmentTarget;

/// A fault of one service, which is undone when its time is up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    pub id: String,
    pub fault: String,
    pub service: String,
    #[serde(default)]
    pub parameters: serde_json::Value,
    pub injected_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heals_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<Witness>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healed_at: Option<String>,
}

/// The observation that proves that a fault took effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Witness {
    pub observed: bool,
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

/// The parts of a service's state that faults can change. After faults are undone they must be as before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Impairments {
    pub service: String,
    /// Whether it runs in a container; if not, the other fields are empty.
    pub runs: bool,
    /// Paused by the engine, or its threads are stopped.
    pub paused: bool,
    pub cpus: Option<f64>,
    pub memory: Option<u64>,
    /// The firewall tables in its network namespace; `None` if they could not be read.
    pub rules: Option<Vec<String>>,
    /// Its disks, each with how it is mounted.
    pub disks: Vec<String>,
}

impl Impairments {
    /// The differences in words; empty for a service that did not run before or does not run now.
    #[must_use]
    pub fn changed(&self, now: &Self) -> Vec<String> {
        if !self.runs || !now.runs {
            return Vec::new();
        }
        let mut words = Vec::new();
        let mut compare = |what: &str, before: String, now: String| {
            if before != now {
                words.push(format!("{}: {what} was {before} and is {now}", self.service));
            }
        };
        let number = |limit: Option<String>| limit.unwrap_or_else(|| "none".to_owned());
        compare("paused", self.paused.to_string(), now.paused.to_string());
        compare("the CPU limit", number(self.cpus.map(|n| n.to_string())), number(now.cpus.map(|n| n.to_string())));
        compare("the memory limit", number(self.memory.map(|n| n.to_string())), number(now.memory.map(|n| n.to_string())));
        if let (Some(before), Some(now)) = (&self.rules, &now.rules) {
            compare("the firewall", before.join(", "), now.join(", "));
        }
        compare("the disk", self.disks.join(", "), now.disks.join(", "));
        words
    }
}

/// Asks what faults have changed of these services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImpairmentsRequest {
    pub target: EnvironmentTarget,
    pub services: Vec<String>,
}

/// Injects a fault into a service. Answered once its effect was observed, or was not observed in time; the fault lasts on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InjectRequest {
    pub target: EnvironmentTarget,
    pub fault: String,
    pub service: String,
    /// How long it lasts; without it, a fault's own default.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// By name, each as text: `delay` is `80ms`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// The fault's id. Default: a generated one.
    #[serde(default)]
    pub id: Option<String>,
    /// Seed for the random choices of the fault.
    #[serde(default)]
    pub seed: u64,
}

/// Undoes faults: the named ones, or all. Answered with those that were undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HealRequest {
    pub target: EnvironmentTarget,
    #[serde(default)]
    pub ids: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultsRequest {
    pub target: EnvironmentTarget,
    /// Include healed ones, as far as they are remembered.
    #[serde(default)]
    pub healed: bool,
}

/// What `chaos status --json` prints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Faults {
    pub faults: Vec<Fault>,
}

/// What `chaos faults --json` prints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultCatalogue {
    pub faults: Vec<FaultDescription>,
}

/// A kind of fault and its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultDescription {
    pub name: String,
    pub about: String,
    /// How it is undone: `kernel`, `lease`, `itself` or `nothing`.
    pub undone_by: String,
    pub parameters: Vec<FaultParameter>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultParameter {
    pub name: String,
    /// An example of its value.
    pub form: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    pub about: String,
}
