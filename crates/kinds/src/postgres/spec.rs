//! What this kind writes into a spec, and reads back: its probe, what it declares to exist, where its scripts go. Pure.

use devenv_spec::{OfKind, Probe, SecretRef, ServiceSpec};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{NAME, access::SUPERUSER};

/// Log in over TCP as `user` and run `SELECT 1`, twice, with the same `pg_postmaster_start_time()`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresProbe {
    pub port: u16,
    pub user: String,
    pub password: SecretRef,
    pub database: String,
    pub tls: bool,
}

/// The server, as scripts reach it from the host on the loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresTarget {
    pub port: u16,
    pub tls: bool,
    /// The superuser's password.
    pub superuser: SecretRef,
}

/// Roles first, then databases, then what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresProvision {
    pub port: u16,
    pub tls: bool,
    /// The superuser's name, and password.
    #[serde(default = "usual_superuser", skip_serializing_if = "is_usual_superuser")]
    pub superuser: String,
    pub password: SecretRef,
    pub roles: Vec<PostgresRole>,
    pub databases: Vec<PostgresDatabase>,
}

/// A role that may log in and has no other right by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresRole {
    pub name: String,
    pub password: SecretRef,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresDatabase {
    pub name: String,
    /// Owns the database and its schema `public`; nobody else may connect, superusers aside.
    pub owner: String,
    pub extensions: Vec<ExtensionSpec>,
    /// Settings of this database, as in `ALTER DATABASE … SET`.
    pub settings: IndexMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionSpec {
    pub name: String,
}

impl PostgresProbe {
    pub fn into_probe(self) -> Probe {
        Probe::OfKind(OfKind::new(NAME, &self))
    }
}

impl PostgresTarget {
    pub fn into_target(self) -> OfKind {
        OfKind::new(NAME, &self)
    }
}

impl PostgresProvision {
    pub fn into_provision(self) -> OfKind {
        OfKind::new(NAME, &self)
    }

    /// What the service declares, if it is a PostgreSQL server.
    pub fn of(service: &ServiceSpec) -> Option<Self> {
        service.provision.iter().filter(|provision| provision.kind == NAME).find_map(|provision| provision.decode().ok())
    }

    /// The same for a server in a container that the user configures, as far as its probe shows it: one database, and its owner. The
    /// official image makes that user the superuser.
    pub fn of_container(service: &ServiceSpec) -> Option<Self> {
        let Probe::OfKind(probe) = &service.probe else { return None };
        let probe: PostgresProbe = (probe.kind == NAME).then(|| probe.decode().ok()).flatten()?;
        let PostgresProbe { port, user, password, database, tls } = probe;
        let database = PostgresDatabase { name: database, owner: user.clone(), extensions: Vec::new(), settings: IndexMap::new() };
        Some(Self { port, tls, superuser: user, password, roles: Vec::new(), databases: vec![database] })
    }
}

fn usual_superuser() -> String {
    SUPERUSER.to_owned()
}

fn is_usual_superuser(name: &str) -> bool {
    name == SUPERUSER
}
