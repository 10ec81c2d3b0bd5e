//! Faults, as status and reports tell them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
