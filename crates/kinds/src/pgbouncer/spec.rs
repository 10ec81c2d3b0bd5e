//! What this kind writes into a spec, and reads back: its probe. Pure.

use devenv_spec::{OfKind, Probe, SecretRef};
use serde::{Deserialize, Serialize};

use super::NAME;

/// A login to a server through the pooler, whose start time is not the server's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgbouncerProbe {
    pub port: u16,
    pub user: String,
    pub password: SecretRef,
    pub database: String,
}

impl PgbouncerProbe {
    pub fn into_probe(self) -> Probe {
        Probe::OfKind(OfKind::new(NAME, &self))
    }
}
