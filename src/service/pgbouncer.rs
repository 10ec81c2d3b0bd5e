//! PgBouncer before a PostgreSQL service, with the same roles.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{SecretRef};

use super::{Connection, Context, Description, PortNeed, ServiceKind};

/// PgBouncer before a PostgreSQL service, with the same roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pgbouncer {
    /// The PostgreSQL service behind it.
    pub(crate) service: String,
    #[serde(default)]
    pub(crate) mode: PoolMode,
    /// Server connections for each database and role.
    #[serde(default = "default_pool_size")]
    pub(crate) pool_size: u32,
    /// Client connections in all.
    #[serde(default = "default_max_clients")]
    pub(crate) max_clients: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PoolMode {
    Session,
    #[default]
    Transaction,
    Statement,
}

fn default_pool_size() -> u32 {
    20
}

fn default_max_clients() -> u32 {
    200
}

impl ServiceKind for Pgbouncer {
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
