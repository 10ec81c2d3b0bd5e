//! Grafana, with data sources and dashboards provisioned.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{SecretRef};

use super::{Connection, Context, Description, PortNeed, ServiceKind};

/// Grafana, with data sources and dashboards provisioned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grafana {
    #[serde(default = "default_version")]
    pub(crate) version: String,
    /// Dashboard files, as Grafana exports them.
    #[serde(default)]
    pub(crate) dashboards: Vec<String>,
}

fn default_version() -> String {
    "12.2.0".to_owned()
}

impl ServiceKind for Grafana {
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
