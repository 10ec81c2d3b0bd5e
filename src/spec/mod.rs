//! What an environment is made of, as plain data: pure, shared by all, made by kinds, read by the planner and the engine.
//!
//! Nothing here does anything. A secret never stands in a spec: a [`Template`] names it by a [`SecretRef`], and only the
//! effect layers put the value in at the last moment.

mod hash;
mod name;
mod probe;
mod provision;
mod quantity;
mod script;
mod template;
mod watch;
mod workload;

use std::{collections::BTreeMap, net::SocketAddrV4, path::PathBuf, time::Duration};

pub(crate) use devenv_api::Condition;
use indexmap::IndexMap;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub(crate) use hash::{SpecHash, differences};
pub(crate) use name::{EnvironmentId, InvalidName, ServiceName, variable_form};
pub(crate) use probe::Probe;
pub(crate) use provision::{
    ExtensionSpec, KafkaProvision, PostgresDatabase, PostgresProvision, PostgresRole, Provision, RedisProvision, S3Provision, TopicSpec,
};
pub(crate) use quantity::{Period, Size};
pub(crate) use script::{ScriptPlace, ScriptSet, ScriptSource, ScriptTarget};
pub(crate) use template::{SecretRef, Template};
pub(crate) use watch::{Reaction, WatchRule};
pub(crate) use workload::{
    ContainerSpec, FileSpec, Image, ImageBuild, Mount, MountSource, ProcessSpec, PublishedPort, Resources, Workload,
};

/// One environment, complete: what the planner compares with what is observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EnvironmentSpec {
    pub(crate) id: EnvironmentId,
    pub(crate) project: PathBuf,
    pub(crate) instance: String,
    pub(crate) profile: String,
    pub(crate) subnet: Ipv4Net,
    /// Where the daemon serves figures to those in the network who collect them.
    #[serde(default)]
    pub(crate) figures: Option<SocketAddrV4>,
    pub(crate) services: IndexMap<ServiceName, ServiceSpec>,
    /// What `devenv env` prints: connections of all services, then the profile's own variables.
    pub(crate) variables: IndexMap<String, Variable>,
}

/// One service, complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceSpec {
    pub(crate) name: ServiceName,
    /// The kind's name, for people; nothing is decided by it.
    pub(crate) kind: String,
    pub(crate) workload: Workload,
    pub(crate) depends_on: IndexMap<ServiceName, Condition>,
    pub(crate) on_dependency_restart: OnDependencyRestart,
    pub(crate) optional: bool,
    pub(crate) probe: Probe,
    /// Brought about after the first answer and before ready, each time, idempotently.
    pub(crate) provision: Vec<Provision>,
    /// Applied once each after provisioning and before ready.
    #[serde(default)]
    pub(crate) scripts: Option<ScriptSet>,
    /// What proves that a client can do real work, once provisioning is done; the probe itself if there is none.
    pub(crate) proof: Option<Probe>,
    pub(crate) ready_timeout: Duration,
    pub(crate) stop: Stop,
    pub(crate) restart: RestartPolicy,
    /// What follows when files change.
    #[serde(default)]
    pub(crate) watch: Vec<WatchRule>,
    /// Addresses to show and open; they hold no secret.
    pub(crate) urls: IndexMap<String, String>,
}

/// A variable in the two forms in which it is true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Variable {
    /// For programs on the host.
    pub(crate) host: Template,
    /// For containers on the environment's network.
    pub(crate) container: Template,
}

/// What happens to a service when one that it depends on has been restarted without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnDependencyRestart {
    Ignore,
    Signal,
    Restart,
}

/// How a service is asked to end, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) signal: String,
    pub(crate) grace: Duration,
}

/// What follows when a service ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestartPolicy {
    pub(crate) policy: RestartWhen,
    /// Restarts in a row, without having been ready for a while, before it is a crash loop.
    pub(crate) attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RestartWhen {
    Always,
    OnFailure,
    Never,
}

impl Stop {
    pub(crate) fn new(signal: &str, grace_seconds: u64) -> Self {
        Self { signal: signal.to_owned(), grace: Duration::from_secs(grace_seconds) }
    }
}

impl Variable {
    /// The same on the host and in containers.
    pub(crate) fn same(value: Template) -> Self {
        Self { host: value.clone(), container: value }
    }
}

impl ServiceSpec {
    pub(crate) fn container(&self) -> Option<&ContainerSpec> {
        match &self.workload {
            Workload::Container(container) => Some(container),
            Workload::Process(_) => None,
        }
    }

    pub(crate) fn hash(&self) -> SpecHash {
        SpecHash::of(&self.workload)
    }

    /// Host ports by container port.
    pub(crate) fn ports(&self) -> BTreeMap<u16, u16> {
        match &self.workload {
            Workload::Container(container) => container.ports.iter().map(|port| (port.container, port.host)).collect(),
            Workload::Process(process) => process.ports.iter().map(|port| (*port, *port)).collect(),
        }
    }
}
