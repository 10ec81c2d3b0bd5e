//! The desired state of an environment as plain data: pure. Kinds make it, the planner compares it, the engine executes it.
//!
//! Only data, no effects. A spec never contains a secret: a [`Template`] refers to it by a [`SecretRef`], and only the
//! effect layers put the value in at the last moment.

mod hash;
mod hook;
mod name;
mod of_kind;
mod options;
mod probe;
mod quantity;
mod repository;
mod script;
pub mod sensitive;
mod sleep;
mod template;
mod watch;
mod workload;

use std::{collections::BTreeMap, net::SocketAddrV4, path::PathBuf, time::Duration};

pub use devenv_api::Condition;
use indexmap::IndexMap;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use hash::{SpecHash, differences};
pub use hook::{Hook, Hooks};
pub use name::{EnvironmentId, InvalidName, ServiceName, variable_form};
pub use of_kind::{OfKind, Undecodable};
pub use options::{Attachment, ContainerOptions, DeviceRequest, Limits, NetworkSpec, PullPolicy, Sharing, Ulimit};
pub use probe::Probe;
pub use quantity::{Period, Size};
pub use repository::Repository;
pub use script::{ScriptPlace, ScriptSet, ScriptSource};
pub use sleep::{Sleep, SleepMode};
pub use template::{SecretRef, Template};
pub use watch::{Reaction, WatchRule};
pub use workload::{
    BuildOptions, BuildSecret, ContainerSpec, FileSpec, Image, ImageBuild, ImageFiles, Mount, MountOptions, MountSource, ProcessSpec,
    Protocol, PublishedPort, Resources, Workload,
};

/// One environment, complete: what the planner compares with what is observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    pub id: EnvironmentId,
    pub project: PathBuf,
    pub instance: String,
    pub profile: String,
    pub subnet: Ipv4Net,
    /// The profile demands this subnet: no other is taken instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub planned: bool,
    /// The address at which the daemon serves metrics to collectors on the environment's network.
    #[serde(default, rename = "figures")]
    pub metrics_address: Option<SocketAddrV4>,
    pub services: IndexMap<ServiceName, ServiceSpec>,
    /// Networks for containers besides the environment's own, by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub networks: IndexMap<String, NetworkSpec>,
    /// What `devenv env` prints: connections of all services, then the profile's own variables.
    pub variables: IndexMap<String, Variable>,
    /// Names of connection variables that the profile replaces; they need not lead to this environment.
    #[serde(default)]
    pub overridden: Vec<String>,
}

/// One service, complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    pub name: ServiceName,
    /// The kind's name, for people; nothing depends on it.
    pub kind: String,
    pub workload: Workload,
    pub depends_on: IndexMap<ServiceName, Condition>,
    pub on_dependency_restart: OnDependencyRestart,
    pub optional: bool,
    pub probe: Probe,
    /// Run after the first answer and before ready, at every start; idempotent.
    pub provision: Vec<OfKind>,
    /// Each applied once, after provisioning and before ready.
    #[serde(default)]
    pub scripts: Option<ScriptSet>,
    /// Proves after provisioning that a client can do real work. Default: the probe itself.
    pub proof: Option<Probe>,
    pub ready_timeout: Duration,
    pub stop: Stop,
    pub restart: RestartPolicy,
    /// What happens when files change.
    #[serde(default)]
    pub watch: Vec<WatchRule>,
    /// Addresses to show and open, without secrets.
    pub urls: IndexMap<String, String>,
    /// It may fall asleep. Only containers do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<Sleep>,
}

/// A variable in its two forms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variable {
    /// For programs on the host.
    pub host: Template,
    /// For containers on the environment's network.
    pub container: Template,
}

/// What happens to a service when one that it depends on has been restarted by the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnDependencyRestart {
    Ignore,
    Signal,
    Restart,
}

/// How a service is stopped, and how long that may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Empty for the signal of a container's image, SIGTERM if it has none.
    pub signal: String,
    pub grace: Duration,
}

/// What happens when a service ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    pub policy: RestartWhen,
    /// Consecutive restarts, without having been ready for a while, that make a crash loop.
    pub attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    Always,
    OnFailure,
    Never,
}

impl Stop {
    pub fn new(signal: &str, grace_seconds: u64) -> Self {
        Self { signal: signal.to_owned(), grace: Duration::from_secs(grace_seconds) }
    }
}

impl Variable {
    /// The same value on the host and in containers.
    pub fn same(value: Template) -> Self {
        Self { host: value.clone(), container: value }
    }
}

impl EnvironmentSpec {
    /// The subnet of the network that its services share, out of the environment's own: the lower half, if other networks have parts of it.
    pub fn shared_subnet(&self, own: Ipv4Net) -> Ipv4Net {
        let divided = self.networks.values().any(|network| network.containers.is_some());
        own.subnets(own.prefix_len() + 1).ok().and_then(|mut halves| halves.next()).filter(|_| divided).unwrap_or(own)
    }
}

impl ServiceSpec {
    pub fn container(&self) -> Option<&ContainerSpec> {
        match &self.workload {
            Workload::Container(container) => Some(container),
            Workload::Process(_) => None,
        }
    }

    /// The build of its image, if it is built.
    pub fn build(&self) -> Option<&ImageBuild> {
        match self.container().map(|container| &container.image) {
            Some(Image::Built(build)) => Some(build),
            Some(Image::Named(_)) | None => None,
        }
    }

    /// Every image that is built for it: its own, and those whose files it mounts.
    pub fn builds_mut(&mut self) -> impl Iterator<Item = &mut ImageBuild> {
        let container = match &mut self.workload {
            Workload::Container(container) => Some(container),
            Workload::Process(_) => None,
        };
        container.into_iter().flat_map(|container| {
            let own = match &mut container.image {
                Image::Built(build) => Some(build),
                Image::Named(_) => None,
            };
            let mounted = container.mounts.iter_mut().filter_map(|mount| mount.image.as_mut()?.build.as_mut());
            own.into_iter().chain(mounted)
        })
    }

    /// Sets the content hash of the image's build context.
    pub fn set_content(&mut self, content: String) {
        if let Workload::Container(ContainerSpec { image: Image::Built(build), .. }) = &mut self.workload {
            build.content = Some(content);
        }
    }

    /// The ports on this host's loopback that the daemon holds for it, with those of the container.
    pub fn fronted_ports(&self) -> impl Iterator<Item = &PublishedPort> {
        self.container()
            .into_iter()
            .filter(|container| container.fronted)
            .flat_map(|container| &container.ports)
            .filter(|port| port.is_local())
    }

    pub fn hash(&self) -> SpecHash {
        SpecHash::of(&self.workload)
    }

    /// Host ports by container port.
    pub fn ports(&self) -> BTreeMap<u16, u16> {
        match &self.workload {
            Workload::Container(container) => container.ports.iter().map(|port| (port.container, port.host)).collect(),
            Workload::Process(process) => process.ports.iter().map(|port| (*port, *port)).collect(),
        }
    }
}
