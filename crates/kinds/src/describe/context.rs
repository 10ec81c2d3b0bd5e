//! The input of a kind's `describe`: names, reserved ports, and facts about the other services.

use std::{
    collections::BTreeMap,
    net::SocketAddrV4,
    path::{Path, PathBuf},
};

use devenv_spec::{EnvironmentId, SecretRef, ServiceName, Template, Variable, variable_form};
use indexmap::IndexMap;

use super::Declared;

/// The name by which a container reaches the host: the engine layer adds it to every container.
pub(crate) const HOST_FROM_CONTAINER: &str = "host.docker.internal";
const LOOPBACK: &str = "127.0.0.1";

/// Complete before a kind is called: ports are leased and secrets have names.
pub struct Context<'a> {
    pub environment: &'a EnvironmentId,
    /// The project's directory.
    pub project: &'a Path,
    pub name: &'a ServiceName,
    pub declared: Declared<'a>,
    /// Leased (or fixed) host ports of this service, by container port.
    pub ports: &'a BTreeMap<u16, u16>,
    /// Facts of all the environment's services, by name, in the profile's order.
    pub neighbours: &'a IndexMap<ServiceName, Facts>,
    /// The variables that this service gets, if it is one of the product's: of other services, of its own connections, and of the
    /// profile. Empty while connections are made.
    pub variables: &'a IndexMap<String, Variable>,
    /// The text of project files, by the path that the profile gives.
    pub assets: &'a BTreeMap<String, String>,
    /// The local certificate authority's certificate, on the host.
    pub authority: &'a Path,
    /// The address at which the daemon serves metrics: of the environment, and below that of each service with [`Metrics::Asked`].
    pub metrics_address: Option<SocketAddrV4>,
}

/// The lease of the host port at which the daemon serves metrics, under a container port that no container uses.
pub const METRICS_PORT: u16 = 2;

/// Facts about a service for other kinds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    pub kind: &'static str,
    /// The databases of a PostgreSQL server.
    pub databases: Vec<DatabaseFacts>,
    pub metrics: Metrics,
    /// The address on the environment's network, and its first port.
    pub address: Option<(String, u16)>,
    /// The superuser's password of a PostgreSQL server.
    pub superuser: Option<SecretRef>,
    /// It serves encrypted connections, with a certificate of the local authority.
    pub tls: bool,
}

impl Facts {
    /// For a service without metrics.
    pub const NONE: Self = Self { kind: "", databases: Vec::new(), metrics: Metrics::None, address: None, superuser: None, tls: false };
}

/// The source of a service's metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Metrics {
    #[default]
    None,
    /// It serves them itself, inside the network: `jaeger:8888/metrics`.
    Served(MetricsEndpoint),
    /// The daemon asks it in its own protocol.
    Asked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsEndpoint {
    pub host: String,
    pub port: u16,
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFacts {
    pub database: String,
    pub owner: String,
    pub password: SecretRef,
}

impl Context<'_> {
    /// The host port of a container port; leased before any kind is asked.
    pub fn port(&self, container: u16) -> u16 {
        self.ports.get(&container).copied().unwrap_or(container)
    }

    pub fn secret(&self, name: &str) -> SecretRef {
        SecretRef::new(self.name.as_str(), name)
    }

    /// A path of the profile, from the project's directory, without `.` components.
    pub fn path(&self, path: &str) -> PathBuf {
        self.project.join(path).components().collect()
    }

    /// `NAME_SUFFIX`, if the suffix may come from a profile.
    pub fn variable_name(&self, suffix: &str) -> String {
        format!("{}_{}", self.name.variable(), variable_form(suffix))
    }

    /// The same text with the address for the host and the one for containers.
    pub fn address(&self, container_port: u16, words: impl Fn(&str, u16) -> Template) -> Variable {
        Variable { host: words(LOOPBACK, self.port(container_port)), container: words(self.name.as_str(), container_port) }
    }

    /// An address to show to people.
    pub fn url(&self, scheme: &str, container_port: u16) -> String {
        format!("{scheme}://{LOOPBACK}:{}", self.port(container_port))
    }
}
