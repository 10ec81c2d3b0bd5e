//! What this kind writes into a spec, and reads back: its probe, its databases and their owners, the targets of scripts. Pure.

use devenv_spec::{OfKind, Probe, SecretRef, ServiceSpec};
use serde::{Deserialize, Serialize};

use super::NAME;

/// Log in over TCP as `user`, into `database` if there is one, and run a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MariadbProbe {
    pub port: u16,
    pub user: String,
    pub password: SecretRef,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub tls: bool,
}

/// The server, as the superuser reaches it from the host on the loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MariadbTarget {
    pub port: u16,
    pub tls: bool,
    /// The superuser's password.
    pub superuser: SecretRef,
}

/// Users first, then databases, then access rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MariadbProvision {
    pub port: u16,
    pub tls: bool,
    /// The superuser's password.
    pub password: SecretRef,
    pub databases: Vec<MariadbDatabase>,
}

/// A database that only its owner and the superuser can access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MariadbDatabase {
    pub name: String,
    pub owner: String,
    /// The owner's.
    pub password: SecretRef,
}

impl MariadbProbe {
    pub fn into_probe(self) -> Probe {
        Probe::OfKind(OfKind::new(NAME, &self))
    }
}

impl MariadbTarget {
    pub fn into_target(self) -> OfKind {
        OfKind::new(NAME, &self)
    }
}

impl MariadbProvision {
    pub fn into_provision(self) -> OfKind {
        OfKind::new(NAME, &self)
    }

    /// What the service declares, if it is a MariaDB server.
    pub fn of(service: &ServiceSpec) -> Option<Self> {
        service.provision.iter().filter(|provision| provision.kind == NAME).find_map(|provision| provision.decode().ok())
    }

    pub fn target(&self) -> MariadbTarget {
        MariadbTarget { port: self.port, tls: self.tls, superuser: self.password.clone() }
    }
}
