//! Redpanda, with the interface of Kafka.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{SecretRef};

use super::{Connection, Context, Description, PortNeed, ServiceKind};

/// Redpanda, with the interface of Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redpanda {
    #[serde(default = "default_version")]
    pub(crate) version: String,
    /// Topics that exist before the service is ready.
    #[serde(default)]
    pub(crate) topics: IndexMap<String, Topic>,
    /// Groups that exist before the service is ready.
    #[serde(default)]
    pub(crate) consumer_groups: Vec<String>,
    /// Topics that nobody declared are created on first use.
    #[serde(default = "yes")]
    pub(crate) auto_create: bool,
    /// Cluster settings, as for `rpk cluster config set`.
    #[serde(default)]
    pub(crate) settings: IndexMap<String, String>,
    #[serde(default)]
    pub(crate) init: Vec<String>,
    #[serde(default)]
    pub(crate) seed: Vec<String>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RedpandaTopic")]
pub(crate) struct Topic {
    #[serde(default = "one")]
    pub(crate) partitions: u32,
    /// Topic settings, such as `retention.ms`.
    #[serde(default)]
    pub(crate) settings: IndexMap<String, String>,
}

fn default_version() -> String {
    "v25.2.1".to_owned()
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

impl ServiceKind for Redpanda {
    fn ports(&self) -> Vec<PortNeed> {
        todo!()
    }

    fn secrets(&self, _service: &str) -> Vec<SecretRef> {
        todo!()
    }

    fn describe(&self, _cx: &Context<'_>) -> Description {
        todo!()
    }

    fn connection(&self, _cx: &Context<'_>) -> Connection {
        todo!()
    }
}
