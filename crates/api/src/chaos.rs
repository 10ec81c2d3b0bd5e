//! Faults, as status and reports tell them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EnvironmentTarget;

/// One way of breaking one service, which undoes itself.
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

/// The observation that proves that a fault bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Witness {
    pub observed: bool,
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

/// Break a service. Answered once the fault is witnessed, or was not within its time; it lasts on after that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InjectRequest {
    pub target: EnvironmentTarget,
    pub fault: String,
    pub service: String,
    /// How long it lasts; without it, a fault's own default.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// By name, each in its textual form: `delay` as `80ms`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// The fault's id; one is made up if there is none.
    #[serde(default)]
    pub id: Option<String>,
    /// What decides by chance is decided by this.
    #[serde(default)]
    pub seed: u64,
}

/// Undo faults; none named means all. Answered with those that were healed by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealRequest {
    pub target: EnvironmentTarget,
    #[serde(default)]
    pub ids: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultsRequest {
    pub target: EnvironmentTarget,
    /// Those that have healed too, as far as they are remembered.
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

/// A way of breaking a service, and what it can be told.
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
    /// What its value looks like.
    pub form: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    pub about: String,
}
