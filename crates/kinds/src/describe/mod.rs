//! The kinds: each turns its fields of a profile into plain data. Pure, one file each, and no kind knows another.
//!
//! [`needs`] says what has to be leased, [`compile`] then makes the whole environment's spec out of a profile. To add a
//! kind: a file with a type that implements [`ServiceKind`], and its three lines below.

mod connection;
mod container;
mod context;
pub mod declared;
mod grafana;
mod jaeger;
mod kafka;
mod pgbouncer;
mod postgres;
mod process;
mod product;
mod prometheus;
mod redis;
mod redpanda;
mod s3;
mod scripts;
mod topics;

use std::time::Duration;

use devenv_spec::{ContainerSpec, OnDependencyRestart, Probe, Provision, RestartPolicy, RestartWhen, SecretRef, Stop, Workload};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use connection::Connection;
pub use context::{Context, DatabaseFacts, FIGURES, Facts, Metrics, MetricsEndpoint};
pub use declared::Declared;
pub use scripts::scripts;

/// What a kind says about one service of its own.
pub trait ServiceKind {
    /// The container ports it needs on the host, before any is leased.
    fn ports(&self) -> Vec<PortNeed>;

    /// The secrets that it needs to exist, before anything is described.
    fn secrets(&self, service: &str) -> Vec<SecretRef>;

    /// The service as plain data.
    fn describe(&self, cx: &Context<'_>) -> Description;

    /// The variables and addresses that its dependants and `devenv env` get.
    fn connection(&self, cx: &Context<'_>) -> Connection;

    /// Whether it needs a certificate.
    fn encrypts(&self) -> bool {
        false
    }

    /// What other kinds may ask of it, such as a database's names or where its figures are.
    fn facts(&self, _cx: &Context<'_>) -> Facts {
        Facts::default()
    }

    /// Project files whose text it is configured with.
    fn assets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Services that it names in its own fields: they must exist.
    fn references(&self) -> Vec<String> {
        Vec::new()
    }

    /// Those of its references that must be ready before it can be.
    fn dependencies(&self) -> Vec<String> {
        self.references()
    }
}

/// A port of the service that needs one on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortNeed {
    /// In the container.
    pub container: u16,
    /// By which a profile's `ports` names it, where that is another than the container's own.
    pub known_as: u16,
    /// The one host port that will do.
    pub fixed: Option<u16>,
}

impl PortNeed {
    /// Any free host port will do.
    pub const fn any(container: u16) -> Self {
        Self { container, known_as: container, fixed: None }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    pub workload: Workload,
    pub probe: Probe,
    pub provision: Vec<Provision>,
    pub proof: Option<Probe>,
    pub stop: Stop,
    pub restart: RestartPolicy,
    pub ready_timeout: Duration,
    pub on_dependency_restart: OnDependencyRestart,
}

impl Description {
    /// A server of somebody else's making: it comes back whatever made it end, and stands when what it needs restarts.
    pub fn server(container: ContainerSpec, probe: Probe, stop: Stop) -> Self {
        Self {
            workload: Workload::Container(container),
            probe,
            provision: Vec::new(),
            proof: None,
            stop,
            restart: RestartPolicy { policy: RestartWhen::Always, attempts: ATTEMPTS },
            ready_timeout: READY_TIMEOUT,
            on_dependency_restart: OnDependencyRestart::Ignore,
        }
    }

    /// A service of the product: it may end well, and follows what it depends on.
    pub fn product(workload: Workload, probe: Probe) -> Self {
        Self {
            workload,
            probe,
            provision: Vec::new(),
            proof: None,
            stop: Stop::new("SIGTERM", 10),
            restart: RestartPolicy { policy: RestartWhen::OnFailure, attempts: ATTEMPTS },
            ready_timeout: READY_TIMEOUT,
            on_dependency_restart: OnDependencyRestart::Restart,
        }
    }
}

/// Restarts in a row before it is a crash loop.
const ATTEMPTS: u32 = 5;
const READY_TIMEOUT: Duration = Duration::from_mins(1);

macro_rules! kinds {
    ($($name:literal $module:ident $type:ident,)*) => {
        /// A service's kind with its fields, under the kind's name.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub enum Kind {
            $(#[serde(rename = $name)] $type($module::$type),)*
        }

        impl Kind {
            /// Every kind's name.
            pub const NAMES: &[&str] = &[$($name),*];

            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$type(_) => $name,)*
                }
            }

            pub fn as_service(&self) -> &dyn ServiceKind {
                match self {
                    $(Self::$type(kind) => kind,)*
                }
            }
        }
    };
}

kinds! {
    "postgres" postgres Postgres,
    "redis" redis Redis,
    "kafka" kafka Kafka,
    "redpanda" redpanda Redpanda,
    "pgbouncer" pgbouncer Pgbouncer,
    "jaeger" jaeger Jaeger,
    "prometheus" prometheus Prometheus,
    "grafana" grafana Grafana,
    "s3" s3 S3,
    "container" container Container,
    "process" process Process,
}
