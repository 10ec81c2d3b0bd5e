//! What this kind writes into a spec, and reads back: its probe. Pure.

use devenv_spec::{OfKind, Probe};
use serde::{Deserialize, Serialize};

use super::NAME;

/// Health, query API, and an OTLP post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JaegerProbe {
    pub health: u16,
    pub query: u16,
    pub otlp_http: u16,
}

impl JaegerProbe {
    pub fn into_probe(self) -> Probe {
        Probe::OfKind(OfKind::new(NAME, &self))
    }
}
