//! Rare options of a container. A field that is not set leaves the engine's default.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Hooks, ServiceName, Size};

/// Every option that is not in [`ContainerSpec`](super::ContainerSpec) itself. A field that an older record does not have gets its
/// default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerOptions {
    pub working_directory: Option<String>,
    /// The host name. Default: the service's name.
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// `HOST:ADDRESS`, for `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// Leaves out `host.docker.internal`, the name of the host.
    pub without_host: bool,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// Memory file systems: path, and options as `mount` takes them.
    pub memory: IndexMap<String, String>,
    pub ulimits: IndexMap<String, Ulimit>,
    pub sysctls: IndexMap<String, String>,
    pub storage: IndexMap<String, String>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub security_opt: Vec<String>,
    pub group_add: Vec<String>,
    /// `SOURCE[:TARGET[:PERMISSIONS]]`.
    pub devices: Vec<String>,
    pub device_cgroup_rules: Vec<String>,
    pub privileged: bool,
    pub read_only: bool,
    pub tty: bool,
    pub stdin_open: bool,
    pub pid: Option<Sharing>,
    pub ipc: Option<Sharing>,
    pub uts: Option<String>,
    pub user_namespace: Option<String>,
    pub cgroup: Option<String>,
    pub cgroup_parent: Option<String>,
    pub runtime: Option<String>,
    pub cpuset: Option<String>,
    pub mac_address: Option<String>,
    pub labels: IndexMap<String, String>,
    pub platform: Option<String>,
    pub pull: Option<PullPolicy>,
    /// Instead of the environment's network.
    pub networks: IndexMap<String, Attachment>,
    /// No network at all.
    pub network_mode: Option<Sharing>,
    pub limits: Limits,
    /// Devices that the engine chooses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_requests: Vec<DeviceRequest>,
    #[serde(skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
}

/// Devices, such as GPUs, that the engine reserves by a driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceRequest {
    /// The engine's driver, such as `nvidia`. Default: the first one with the capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// How many devices; -1 for all of them. Default: all, unless `ids` names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// The devices, by the driver's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// What the devices must be able to do. Default: `gpu`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Options of the driver.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub options: IndexMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    pub soft: i64,
    pub hard: i64,
}

/// A namespace that is not the container's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// As the engine names it: `host`, `none`, `private`, `shareable`.
    Mode(String),
    /// That of another service.
    Service(ServiceName),
}

/// When a registry is asked. Default: for a missing image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// Before each creation of the container.
    Always,
    Never,
}

/// A container's place on a network of the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Names on this network, besides the service's own.
    pub aliases: Vec<String>,
    pub address: Option<std::net::Ipv4Addr>,
}

/// Limits beyond memory and processors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    pub cpu_shares: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<i64>,
    /// Microseconds.
    pub cpu_quota: Option<i64>,
    pub pids: Option<i64>,
    pub oom_score_adj: Option<i64>,
    pub oom_kill_disable: bool,
    pub swappiness: Option<i64>,
    pub memory_reservation: Option<Size>,
    /// Memory and swap together, in bytes; -1 means no limit.
    pub swap: Option<i64>,
}

impl ContainerOptions {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A network of an environment, besides its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    /// No connection to the outside.
    pub internal: bool,
    /// The subnet to use if it is free.
    pub subnet: Option<ipnet::Ipv4Net>,
    /// A network of the engine that devenv does not own, by the engine's name.
    pub external: Option<String>,
    /// A part of the environment's own subnet, for this many containers, if it has room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<u32>,
}

#[cfg(test)]
mod tests {
    use crate::{ContainerSpec, SpecHash, Workload};

    #[test]
    fn a_container_without_options_is_written_and_hashed_as_before_there_were_any() {
        let spec = ContainerSpec::new("x");
        let value = serde_json::to_value(&spec).unwrap();
        assert_eq!(value.get("options"), None);
        assert_eq!(serde_json::from_value::<ContainerSpec>(value).unwrap(), spec);
        let before = SpecHash::of(&Workload::Container(spec.clone()));
        let mut other = spec;
        other.options.read_only = true;
        assert_ne!(SpecHash::of(&Workload::Container(other.clone())), before);
        let read: ContainerSpec = serde_json::from_value(serde_json::to_value(&other).unwrap()).unwrap();
        assert_eq!(read, other);
    }
}
