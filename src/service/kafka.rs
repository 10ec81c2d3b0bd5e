//! Apache Kafka, one broker in KRaft mode.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{SecretRef};

use super::{Connection, Context, Description, PortNeed, ServiceKind};

/// Apache Kafka, one broker in KRaft mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kafka {
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
    /// Broker settings, as in `server.properties`.
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
pub(crate) struct Topic {
    #[serde(default = "one")]
    pub(crate) partitions: u32,
    /// Topic settings, such as `retention.ms`.
    #[serde(default)]
    pub(crate) settings: IndexMap<String, String>,
}

impl Default for Topic {
    fn default() -> Self {
        Self { partitions: one(), settings: IndexMap::new() }
    }
}

fn default_version() -> String {
    "4.3.1".to_owned()
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

impl ServiceKind for Kafka {
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
