//! Describing a service: a kind turns its fields of a profile into plain data. Pure.
//!
//! The profile compiler calls this: first for what must be leased, then for facts, connections and descriptions, in three rounds,
//! each with the results of the one before.

mod connection;
mod context;
pub mod declared;
pub(crate) mod product;

use std::{collections::BTreeMap, time::Duration};

use devenv_spec::{
    ContainerSpec, FileSpec, OfKind, OnDependencyRestart, Probe, RestartPolicy, RestartWhen, ScriptSource, SecretRef, Stop, Workload,
};

pub(crate) use connection::{AUTHORITY_IN_CONTAINER, AUTHORITY_VARIABLE, authority, in_url, in_url_part};
pub use connection::{Clash, Connection};
pub(crate) use context::HOST_FROM_CONTAINER;
pub use context::{Context, DatabaseFacts, Facts, METRICS_PORT, Metrics, MetricsEndpoint};
pub use declared::Declared;

/// How a kind describes one of its services, from its fields.
pub trait Describe {
    /// The container ports that need a host port, before any is leased.
    fn ports(&self) -> Vec<PortNeed>;

    /// The secrets that must exist, before anything is described.
    fn secrets(&self, service: &str) -> Vec<SecretRef>;

    /// Secrets whose values the profile gives. They are stored with the generated ones, and the spec only refers to them.
    /// `assets` are the texts of [`Self::assets`].
    fn given_secrets(&self, _service: &str, _declared: &Declared<'_>, _assets: &BTreeMap<String, String>) -> Vec<(SecretRef, String)> {
        Vec::new()
    }

    /// The service as plain data.
    fn describe(&self, cx: &Context<'_>) -> Description;

    /// The variables and addresses for its dependants and `devenv env`.
    fn connection(&self, cx: &Context<'_>) -> Connection;

    /// Its initial databases, if clients name one.
    fn databases(&self, _service: &str) -> Vec<String> {
        Vec::new()
    }

    /// Whether ports that only the profile names are ports of its container.
    fn publishes_ports(&self) -> bool {
        true
    }

    /// Whether it needs a certificate.
    fn encrypts(&self) -> bool {
        false
    }

    /// Facts for other kinds, such as a database's names or the address of its metrics.
    fn facts(&self, _cx: &Context<'_>) -> Facts {
        Facts::default()
    }

    /// How the image itself makes what devenv provisions, for tools that start the container without devenv.
    fn first_start(&self, _cx: &Context<'_>) -> FirstStart {
        FirstStart::default()
    }

    /// Project files whose text configures it.
    fn assets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Services that its own fields refer to: they must exist.
    fn references(&self) -> Vec<String> {
        Vec::new()
    }

    /// Those of its references that must be ready before it can be.
    fn dependencies(&self) -> Vec<String> {
        self.references()
    }
}

/// A container port that needs a port on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortNeed {
    /// In the container.
    pub container: u16,
    /// The number by which a profile's `ports` names it, if that is not the container port.
    pub known_as: u16,
    /// The only acceptable host port.
    pub fixed: Option<u16>,
}

impl PortNeed {
    /// Any free host port.
    pub const fn any(container: u16) -> Self {
        Self { container, known_as: container, fixed: None }
    }
}

/// What makes a server's data at its first start where devenv is not there to do it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FirstStart {
    /// Files that the image reads when it has no data yet.
    pub files: Vec<FileSpec>,
    /// What is missing all the same, in words.
    pub missing: Vec<String>,
}

/// The scripts and data sets of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredScripts {
    /// The server, as the kind reaches it.
    pub target: OfKind,
    pub sources: Vec<ScriptSource>,
}

impl DeclaredScripts {
    /// Applied in `target`, in order; sources without paths are left out.
    pub fn of(target: OfKind, sources: impl IntoIterator<Item = ScriptSource>) -> Self {
        Self { target, sources: sources.into_iter().filter(|source| !source.paths.is_empty()).collect() }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    pub workload: Workload,
    pub probe: Probe,
    /// Created after the first answer and before ready.
    pub provision: Vec<OfKind>,
    pub scripts: Option<DeclaredScripts>,
    pub proof: Option<Probe>,
    pub stop: Stop,
    pub restart: RestartPolicy,
    pub ready_timeout: Duration,
    pub on_dependency_restart: OnDependencyRestart,
}

impl Description {
    /// A third-party server: restarted after every exit, and not restarted with its dependencies.
    pub fn server(container: ContainerSpec, probe: Probe, stop: Stop) -> Self {
        Self {
            workload: Workload::Container(container),
            probe,
            provision: Vec::new(),
            scripts: None,
            proof: None,
            stop,
            restart: RestartPolicy { policy: RestartWhen::Always, attempts: ATTEMPTS },
            ready_timeout: READY_TIMEOUT,
            on_dependency_restart: OnDependencyRestart::Ignore,
        }
    }

    /// A service of the product: it may exit successfully, and follows its dependencies.
    pub fn product(workload: Workload, probe: Probe) -> Self {
        Self {
            workload,
            probe,
            provision: Vec::new(),
            scripts: None,
            proof: None,
            stop: Stop::new("SIGTERM", 10),
            restart: RestartPolicy { policy: RestartWhen::OnFailure, attempts: ATTEMPTS },
            ready_timeout: READY_TIMEOUT,
            on_dependency_restart: OnDependencyRestart::Restart,
        }
    }
}

/// The consecutive restarts that make a crash loop.
const ATTEMPTS: u32 = 5;
const READY_TIMEOUT: Duration = Duration::from_mins(1);
