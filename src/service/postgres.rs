//! PostgreSQL: a server with its roles, databases and extensions.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{SecretRef};

use super::{Connection, Context, Description, PortNeed, ServiceKind};

/// PostgreSQL: a server with its roles, databases and extensions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Postgres {
    /// The major version: 14 to 18.
    #[serde(default = "default_version")]
    pub(crate) version: String,
    /// Server settings, as in `postgresql.conf`.
    #[serde(default)]
    pub(crate) settings: IndexMap<String, String>,
    /// In every database; preload libraries are set by themselves.
    #[serde(default)]
    pub(crate) extensions: Vec<String>,
    /// One database and role named after the service, unless said.
    #[serde(default)]
    pub(crate) databases: IndexMap<String, Database>,
    /// Encrypted connections only, with a certificate that clients can verify.
    #[serde(default)]
    pub(crate) tls: bool,
    /// Scripts applied once as superuser in the first database, before the rest.
    #[serde(default)]
    pub(crate) admin_init: Vec<String>,
    /// Scripts applied once in the first database, as its owner.
    #[serde(default)]
    pub(crate) init: Vec<String>,
    /// Data sets for the first database, as its owner.
    #[serde(default)]
    pub(crate) seed: Vec<String>,
}

/// One database of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Database {
    /// A role with a generated password that reaches no other database; named after the database unless said.
    #[serde(default)]
    pub(crate) owner: Option<String>,
    /// Besides those of the server.
    #[serde(default)]
    pub(crate) extensions: Vec<String>,
    /// `ALTER DATABASE … SET`.
    #[serde(default)]
    pub(crate) settings: IndexMap<String, String>,
    /// Scripts applied once, as the owner.
    #[serde(default)]
    pub(crate) init: Vec<String>,
    /// Data sets, as the owner.
    #[serde(default)]
    pub(crate) seed: Vec<String>,
}

fn default_version() -> String {
    "17".to_owned()
}

impl ServiceKind for Postgres {
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
