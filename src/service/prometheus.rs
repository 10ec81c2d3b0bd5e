//! Prometheus, scraping what the environment has.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{Period, SecretRef};

use super::{Connection, Context, Description, PortNeed, ServiceKind};

/// Prometheus, scraping what the environment has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prometheus {
    #[serde(default = "default_version")]
    pub(crate) version: String,
    /// Files of alert and recording rules.
    #[serde(default)]
    pub(crate) rules: Vec<String>,
    /// Besides the services that have figures of their own.
    #[serde(default)]
    pub(crate) scrape: IndexMap<String, Scrape>,
}

/// One scrape job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scrape {
    /// A service of the profile.
    pub(crate) service: String,
    #[serde(default = "default_path")]
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) interval: Option<Period>,
}

fn default_version() -> String {
    "2.53.3".to_owned()
}

fn default_path() -> String {
    "/metrics".to_owned()
}

impl ServiceKind for Prometheus {
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
