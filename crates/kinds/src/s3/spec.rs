//! What this kind writes into a spec, and reads back: its buckets. Pure.

use devenv_spec::{OfKind, SecretRef};
use serde::{Deserialize, Serialize};

use super::NAME;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Provision {
    pub port: u16,
    pub access_key: SecretRef,
    pub secret_key: SecretRef,
    pub buckets: Vec<String>,
}

impl S3Provision {
    pub fn into_provision(self) -> OfKind {
        OfKind::new(NAME, &self)
    }
}
