//! An S3-compatible store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{SecretRef};

use super::{Connection, Context, Description, PortNeed, ServiceKind};

/// An S3-compatible store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3 {
    #[serde(default = "default_version")]
    pub(crate) version: String,
    /// Buckets that exist before the service is ready.
    #[serde(default)]
    pub(crate) buckets: Vec<String>,
}

fn default_version() -> String {
    "1.8.0".to_owned()
}

impl ServiceKind for S3 {
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
