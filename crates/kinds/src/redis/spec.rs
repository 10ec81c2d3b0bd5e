//! What this kind writes into a spec, and reads back: its probe, its users, where its scripts go. Pure.

use devenv_spec::{OfKind, Probe, SecretRef, ServiceSpec};
use serde::{Deserialize, Serialize};

use super::NAME;

/// AUTH, PING, and `loading:0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisProbe {
    pub port: u16,
    pub user: String,
    pub password: SecretRef,
    pub tls: bool,
}

/// The server, as scripts reach it from the host on the loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisTarget {
    pub port: u16,
    pub tls: bool,
    pub password: SecretRef,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisProvision {
    pub port: u16,
    pub tls: bool,
    pub password: SecretRef,
    /// ACL users: name, rules, password.
    pub users: Vec<(String, String, SecretRef)>,
}

impl RedisProbe {
    pub fn into_probe(self) -> Probe {
        Probe::OfKind(OfKind::new(NAME, &self))
    }
}

impl RedisTarget {
    pub fn into_target(self) -> OfKind {
        OfKind::new(NAME, &self)
    }
}

impl RedisProvision {
    pub fn into_provision(self) -> OfKind {
        OfKind::new(NAME, &self)
    }

    /// What the service declares, if it is a Redis server.
    pub fn of(service: &ServiceSpec) -> Option<Self> {
        service.provision.iter().filter(|provision| provision.kind == NAME).find_map(|provision| provision.decode().ok())
    }

    /// The same for a server in a container that the user configures, as its probe logs in.
    pub fn of_container(service: &ServiceSpec) -> Option<Self> {
        let Probe::OfKind(probe) = &service.probe else { return None };
        let RedisProbe { port, password, tls, .. } = (probe.kind == NAME).then(|| probe.decode().ok()).flatten()?;
        Some(Self { port, tls, password, users: Vec::new() })
    }
}
