//! The kinds: each turns its fields of a profile into plain data. Pure, one file each, and no kind knows another.
//!
//! To add one: a file with a type that implements [`ServiceKind`], and its three lines below.

mod container;
mod context;
mod grafana;
mod jaeger;
mod kafka;
mod pgbouncer;
mod postgres;
mod process;
mod prometheus;
mod redis;
mod redpanda;
mod s3;
mod scripts;

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{Probe, Provision, RestartPolicy, SecretRef, Stop, Variable, Workload, OnDependencyRestart};

pub(crate) use context::{Context, DatabaseFacts, Facts};
pub(crate) use scripts::scripts;

/// What a kind says about one service of its own.
pub(crate) trait ServiceKind {
    /// The container ports it needs on the host, before any is leased.
    fn ports(&self) -> Vec<PortNeed>;

    /// The secrets that it needs to exist, before anything is described.
    fn secrets(&self, service: &str) -> Vec<SecretRef>;

    /// The service as plain data.
    fn describe(&self, cx: &Context<'_>) -> Description;

    /// The variables and addresses that its dependants and `devenv env` get.
    fn connection(&self, cx: &Context<'_>) -> Connection;

    /// What other kinds may ask of it, such as a database's names or where its figures are.
    fn facts(&self, _cx: &Context<'_>) -> Facts {
        Facts::default()
    }

    /// Project files whose text it is configured with.
    fn assets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Services it names in its own fields, which must exist and which it then depends on being ready.
    fn references(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A container port that needs a port on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortNeed {
    pub(crate) container: u16,
    /// Published even if nobody asked: false for a port that only `ports:` would publish.
    pub(crate) always: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Description {
    pub(crate) workload: Workload,
    pub(crate) probe: Probe,
    pub(crate) provision: Vec<Provision>,
    pub(crate) proof: Option<Probe>,
    pub(crate) stop: Stop,
    pub(crate) restart: RestartPolicy,
    pub(crate) ready_timeout: Duration,
    pub(crate) on_dependency_restart: OnDependencyRestart,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Connection {
    /// `NAME_URL` and the like, with their full names.
    pub(crate) variables: IndexMap<String, Variable>,
    /// `DATABASE_URL` and the like: they belong to the first service of the kind.
    pub(crate) short_forms: IndexMap<String, Variable>,
    /// Addresses to show, without secrets.
    pub(crate) urls: IndexMap<String, String>,
}

macro_rules! kinds {
    ($($name:literal $module:ident $type:ident,)*) => {
        /// A service's kind with its fields, under the kind's name.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub(crate) enum Kind {
            $(#[serde(rename = $name)] $type($module::$type),)*
        }

        impl Kind {
            /// Every kind's name.
            pub(crate) const NAMES: &[&str] = &[$($name),*];

            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(Self::$type(_) => $name,)*
                }
            }

            pub(crate) fn as_service(&self) -> &dyn ServiceKind {
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
