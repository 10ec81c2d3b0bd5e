//! What a kind is told before it describes a service: names, leased ports, and what its neighbours say of themselves.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use indexmap::IndexMap;

use crate::{
    profile::ServiceProfile,
    spec::{EnvironmentId, SecretRef, ServiceName, Template, Variable, variable_form},
};

/// By this name a container reaches the host: the engine layer gives it to every container.
pub(super) const HOST_FROM_CONTAINER: &str = "host.docker.internal";
const LOOPBACK: &str = "127.0.0.1";

/// Everything is decided before a kind is asked: ports are leased and secrets have names.
pub(crate) struct Context<'a> {
    pub(crate) environment: &'a EnvironmentId,
    /// The project's directory.
    pub(crate) project: &'a Path,
    pub(crate) name: &'a ServiceName,
    pub(crate) service: &'a ServiceProfile,
    /// Leased (or fixed) host ports of this service, by container port.
    pub(crate) ports: &'a BTreeMap<u16, u16>,
    /// Facts of all the environment's services, by name, in the profile's order.
    pub(crate) neighbours: &'a IndexMap<ServiceName, Facts>,
    /// The variables a service of the product gets, from all the others and the profile. Empty while connections are made.
    pub(crate) variables: &'a IndexMap<String, Variable>,
    /// The text of project files, by the path that the profile gives.
    pub(crate) assets: &'a BTreeMap<String, String>,
    /// The local certificate authority's certificate, on the host.
    pub(crate) authority: &'a Path,
}

/// What a service lets other kinds know.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Facts {
    pub(crate) kind: &'static str,
    /// Databases, of a PostgreSQL server.
    pub(crate) databases: Vec<DatabaseFacts>,
    /// Where figures are scraped from inside the network: `jaeger:8888/metrics`.
    pub(crate) metrics: Option<MetricsEndpoint>,
    /// The address on the environment's network, and its first port.
    pub(crate) address: Option<(String, u16)>,
    /// The superuser's password of a PostgreSQL server.
    pub(crate) superuser: Option<SecretRef>,
    /// It serves encrypted connections, by a certificate of the local authority.
    pub(crate) tls: bool,
}

impl Facts {
    /// Of a service that says nothing.
    pub(crate) const NONE: Self = Self { kind: "", databases: Vec::new(), metrics: None, address: None, superuser: None, tls: false };
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetricsEndpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatabaseFacts {
    pub(crate) database: String,
    pub(crate) owner: String,
    pub(crate) password: SecretRef,
}

impl Context<'_> {
    /// The host port of a container port; leased before any kind is asked.
    pub(crate) fn port(&self, container: u16) -> u16 {
        self.ports.get(&container).copied().unwrap_or(container)
    }

    pub(crate) fn secret(&self, name: &str) -> SecretRef {
        SecretRef::new(self.name.as_str(), name)
    }

    /// A path of the profile, from the project's directory, without `.` in it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.project.join(path).components().collect()
    }

    /// `NAME_SUFFIX`, where the suffix may come from a profile.
    pub(crate) fn variable_name(&self, suffix: &str) -> String {
        format!("{}_{}", self.name.variable(), variable_form(suffix))
    }

    /// The same words with the address that is true on the host and the one that is true in a container.
    pub(crate) fn address(&self, container_port: u16, words: impl Fn(&str, u16) -> Template) -> Variable {
        Variable { host: words(LOOPBACK, self.port(container_port)), container: words(self.name.as_str(), container_port) }
    }

    /// An address to show to people.
    pub(crate) fn url(&self, scheme: &str, container_port: u16) -> String {
        format!("{scheme}://{LOOPBACK}:{}", self.port(container_port))
    }
}
