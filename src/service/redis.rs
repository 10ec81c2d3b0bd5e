//! Redis, with its durability said plainly.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{SecretRef, Size};

use super::{Connection, Context, Description, PortNeed, ServiceKind};

/// Redis, with its durability said plainly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redis {
    #[serde(default = "default_version")]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) persistence: Persistence,
    /// Memory for data; unlimited unless said.
    #[serde(default)]
    pub(crate) maxmemory: Option<Size>,
    /// What to evict at `maxmemory`.
    #[serde(default)]
    pub(crate) policy: Policy,
    /// How many numbered databases.
    #[serde(default = "default_databases")]
    pub(crate) databases: u32,
    /// Any other setting, as in `redis.conf`.
    #[serde(default)]
    pub(crate) settings: IndexMap<String, String>,
    /// ACL users, each with a generated password.
    #[serde(default)]
    pub(crate) users: IndexMap<String, User>,
    /// Encrypted connections only, with a certificate that clients can verify.
    #[serde(default)]
    pub(crate) tls: bool,
    #[serde(default)]
    pub(crate) init: Vec<String>,
    #[serde(default)]
    pub(crate) seed: Vec<String>,
}

/// What survives what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Persistence {
    /// When the append-only file is synced to disk; `never` keeps none.
    #[serde(default)]
    pub(crate) aof: Aof,
    /// Pairs of seconds and changes, as in `60 1 300 10`, or `never`.
    #[serde(default = "default_rdb")]
    pub(crate) rdb: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Aof {
    Always,
    #[default]
    Everysec,
    No,
    Never,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Policy {
    #[default]
    Noeviction,
    AllkeysLru,
    AllkeysLfu,
    AllkeysRandom,
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
}

/// An ACL user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    /// As in `ACL SETUSER`: `~app:* +@all`.
    pub(crate) rules: String,
}

impl Default for Persistence {
    fn default() -> Self {
        Self { aof: Aof::default(), rdb: default_rdb() }
    }
}

fn default_version() -> String {
    "8.0".to_owned()
}

fn default_rdb() -> String {
    "3600 1 300 100 60 10000".to_owned()
}

fn default_databases() -> u32 {
    16
}

impl ServiceKind for Redis {
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
