//! Jaeger: traces by OTLP, with its query API and page.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{SecretRef};

use super::{Connection, Context, Description, PortNeed, ServiceKind};

/// Jaeger: traces by OTLP, with its query API and page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jaeger {
    #[serde(default = "default_version")]
    pub(crate) version: String,
    /// The share of traces that is kept, 0.0 to 1.0.
    #[serde(default = "default_sampling")]
    pub(crate) sampling: f64,
}

fn default_version() -> String {
    "2.13.0".to_owned()
}

fn default_sampling() -> f64 {
    1.0
}

impl ServiceKind for Jaeger {
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
