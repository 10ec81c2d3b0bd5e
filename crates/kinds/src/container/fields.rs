//! Any image, or one built from a Dockerfile: the fields of a profile. `describe` turns them into a description.

mod build;

use devenv_spec::{DeviceRequest, Hooks, Protocol, PullPolicy, Size};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use build::{Build, BuildSecretField};

/// A container from any image, or from a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The image to run. Not allowed together with `build`.
    #[serde(default)]
    pub image: Option<String>,
    /// How to build the image. Not allowed together with `image`.
    #[serde(default)]
    pub build: Option<Build>,
    /// The arguments to run instead of the image's command.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// The program to run instead of the image's entrypoint. An empty list removes the image's.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// The user to run as, and the group: `1000:1000`. Default: the image's user.
    #[serde(default)]
    pub user: Option<String>,
    /// Container ports to publish on the host's loopback interface.
    #[serde(default)]
    pub expose: Vec<u16>,
    /// Ports to publish by UDP, on another address, or more than once.
    #[serde(default)]
    pub publish: Vec<Publish>,
    /// Directories of the project and named volumes to mount.
    #[serde(default)]
    pub volumes: Vec<VolumeMount>,
    /// Memory to mount, by path: a size such as `16MiB`, or options as `mount` takes them (`size=16m,mode=1777`); empty for no limit.
    #[serde(default)]
    pub tmpfs: IndexMap<String, String>,
    /// Files to write into the container before it starts, by path.
    #[serde(default)]
    pub config_files: IndexMap<String, ContainerFile>,
    /// Files with secrets to write into the container before it starts, by path. Their text is shown to nobody.
    #[serde(default)]
    pub secret_files: IndexMap<String, SecretFile>,
    /// The kind of server in the image, such as `postgres`: it is probed in its own protocol, with the credentials of `environment`,
    /// and its variables are those of the kind.
    #[serde(default)]
    pub server: Option<String>,
    /// Variables of the server whose values it reads from files of the project, such as `POSTGRES_PASSWORD: ./password.txt` for a server
    /// with `POSTGRES_PASSWORD_FILE`: devenv's clients read them there too. Files of `secret_files` are found by themselves.
    #[serde(default)]
    pub server_files: IndexMap<String, String>,
    /// The directory in which the program starts. Default: the image's.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// The container's host name. Default: the service's name.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The container's domain name.
    #[serde(default)]
    pub domainname: Option<String>,
    /// Additional host names with their addresses.
    #[serde(default)]
    pub extra_hosts: IndexMap<String, String>,
    /// Whether the container reaches the host as `host.docker.internal`.
    #[serde(default = "yes")]
    pub host_alias: bool,
    /// DNS servers.
    #[serde(default)]
    pub dns: Vec<String>,
    /// DNS search domains.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// Options of the DNS resolver.
    #[serde(default)]
    pub dns_options: Vec<String>,
    /// The networks of the profile to connect to, instead of the environment's own; `default` is that one.
    #[serde(default)]
    pub networks: IndexMap<String, NetworkPlace>,
    /// Replaces networks: `host`, `none`, or `service:NAME` for that of another service.
    #[serde(default)]
    pub network_mode: Option<String>,
    /// Names on the environment's network, besides the service's own.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Run a small init as process 1, which reaps children and passes signals on.
    #[serde(default = "yes")]
    pub init: bool,
    /// Give the program a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Keep the program's standard input open.
    #[serde(default)]
    pub stdin_open: bool,
    /// Mount the image's file system read-only.
    #[serde(default)]
    pub read_only: bool,
    /// Give the container all rights on the host.
    #[serde(default)]
    pub privileged: bool,
    /// Capabilities to add and to remove.
    #[serde(default)]
    pub capabilities: Option<Capabilities>,
    /// Security options, such as `no-new-privileges:true`.
    #[serde(default)]
    pub security_options: Vec<String>,
    /// Additional groups of the user, by name or number.
    #[serde(default)]
    pub group_add: Vec<String>,
    /// Devices of the host: `SOURCE[:TARGET[:PERMISSIONS]]`.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Rules of the device control group.
    #[serde(default)]
    pub device_cgroup_rules: Vec<String>,
    /// The namespace of processes: `host` or `service:NAME`.
    #[serde(default)]
    pub pid: Option<String>,
    /// The namespace of shared memory: `host`, `private`, `shareable` or `service:NAME`.
    #[serde(default)]
    pub ipc: Option<String>,
    /// The namespace of host names: `host`.
    #[serde(default)]
    pub uts: Option<String>,
    /// The namespace of users: `host`.
    #[serde(default)]
    pub userns_mode: Option<String>,
    /// The namespace of control groups: `host` or `private`.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// The control group above the container's.
    #[serde(default)]
    pub cgroup_parent: Option<String>,
    /// The engine's runtime to use.
    #[serde(default)]
    pub runtime: Option<String>,
    /// The processors to run on, such as `0-1`.
    #[serde(default)]
    pub cpuset: Option<String>,
    /// The MAC address on the network.
    #[serde(default)]
    pub mac_address: Option<String>,
    /// The size of `/dev/shm`.
    #[serde(default)]
    pub shm_size: Option<Size>,
    /// Limits of the program, such as `nofile`.
    #[serde(default)]
    pub ulimits: IndexMap<String, UserLimit>,
    /// Kernel settings of the container's namespaces.
    #[serde(default)]
    pub sysctls: IndexMap<String, String>,
    /// Options of the engine's storage driver.
    #[serde(default)]
    pub storage_opt: IndexMap<String, String>,
    /// Limits beyond `resources`.
    #[serde(default)]
    pub limits: Option<ContainerLimits>,
    /// Labels, besides devenv's own.
    #[serde(default)]
    pub labels: IndexMap<String, String>,
    /// The platform of the image, such as `linux/arm64`.
    #[serde(default)]
    pub platform: Option<String>,
    /// When to ask the registry. Default: when the image is missing.
    #[serde(default)]
    pub pull: Option<PullWhen>,
    /// GPUs and other devices that the engine reserves by a driver; `[{}]` for all GPUs.
    #[serde(default)]
    pub gpus: Vec<DeviceRequest>,
    /// Commands to run in the container after each start and before each stop.
    #[serde(default)]
    pub hooks: Option<Hooks>,
}

/// A port of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The port in the container.
    pub port: u16,
    /// The port of the host. Default: a free port, which stays the same across restarts.
    #[serde(default)]
    pub host: Option<u16>,
    /// The address of the host.
    #[serde(default = "loopback")]
    pub address: String,
    #[serde(default)]
    pub protocol: Protocol,
}

/// A directory of the project (`./…`, `/…`), a named volume, or the files of an image, in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// A path, the name of a volume, `docker-image://NAME`, or `service:NAME` for the image of another service. The files of an image are
    /// copied into a volume anew whenever the container is made.
    pub source: String,
    pub target: String,
    #[serde(default)]
    pub read_only: bool,
    /// The service whose volume it is. Default: this one.
    #[serde(default)]
    pub of: Option<String>,
    /// The volume exists, under this name, and is not devenv's.
    #[serde(default)]
    pub external: bool,
    /// Make the host's directory if it does not exist.
    #[serde(default)]
    pub create: bool,
    /// How mounts below the directory spread: `rprivate`, `rshared`, `rslave`.
    #[serde(default)]
    pub propagation: Option<String>,
    /// Give the directory an SELinux label: `z` or `Z`.
    #[serde(default)]
    pub selinux: Option<String>,
    /// Leave an empty volume empty, whatever the image has there.
    #[serde(default)]
    pub no_copy: bool,
    /// The directory of the volume or of the image to mount, instead of all of it; it must exist.
    #[serde(default)]
    pub subpath: Option<String>,
}

/// Capabilities, as the kernel names them, with or without `CAP_`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    #[serde(default)]
    pub add: Vec<String>,
    /// `ALL` removes all but those that are added.
    #[serde(default)]
    pub drop: Vec<String>,
}

/// A file that is written into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerFile {
    /// The file's text. Not allowed together with `file`.
    #[serde(default)]
    pub content: Option<String>,
    /// A file of the project with the text.
    #[serde(default)]
    pub file: Option<String>,
    /// The file's mode, in octal.
    #[serde(default)]
    pub mode: Option<String>,
    /// The number of the user that the file belongs to.
    #[serde(default)]
    pub uid: u32,
    /// The number of the group that the file belongs to.
    #[serde(default)]
    pub gid: u32,
}

/// A file with a secret that is written into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// The name of one of the profile's `secrets`.
    #[serde(default)]
    pub secret: Option<String>,
    /// The file's text, where it is no secret of the profile. Not allowed together with `secret` or `file`.
    #[serde(default)]
    pub content: Option<String>,
    /// A file of the project with the text. Not allowed together with `secret` or `content`.
    #[serde(default)]
    pub file: Option<String>,
    /// The file's mode, in octal.
    #[serde(default)]
    pub mode: Option<String>,
    /// The number of the user that the file belongs to.
    #[serde(default)]
    pub uid: u32,
    /// The number of the group that the file belongs to.
    #[serde(default)]
    pub gid: u32,
}

/// A container's place on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkPlace {
    /// Names on this network, besides the service's own.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The fixed IPv4 address.
    #[serde(default)]
    pub address: Option<String>,
}

/// A limit of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserLimit {
    pub soft: i64,
    pub hard: i64,
}

/// Limits beyond `resources`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerLimits {
    /// The share of processor time, relative to 1024.
    #[serde(default)]
    pub cpu_shares: Option<i64>,
    /// The period of the processor quota, in microseconds.
    #[serde(default)]
    pub cpu_period: Option<i64>,
    /// Processor time in each period, in microseconds.
    #[serde(default)]
    pub cpu_quota: Option<i64>,
    /// The number of processes.
    #[serde(default)]
    pub pids: Option<i64>,
    /// How likely the kernel ends this container when memory runs out, from -1000 to 1000.
    #[serde(default)]
    pub oom_score_adj: Option<i64>,
    /// Never end this container when memory runs out.
    #[serde(default)]
    pub oom_kill_disable: bool,
    /// How readily memory is swapped out, from 0 to 100.
    #[serde(default)]
    pub swappiness: Option<i64>,
    /// Memory to leave when memory is scarce.
    #[serde(default)]
    pub memory_reservation: Option<Size>,
    /// Memory and swap together: a size, or `unlimited`. Default: no swap.
    #[serde(default)]
    pub swap: Option<String>,
}

/// When to ask the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PullWhen {
    /// When the image is missing.
    Missing,
    /// Before each creation of the container.
    Always,
    /// Never.
    Never,
}

impl PullWhen {
    pub(super) fn policy(self) -> Option<PullPolicy> {
        match self {
            Self::Missing => None,
            Self::Always => Some(PullPolicy::Always),
            Self::Never => Some(PullPolicy::Never),
        }
    }
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

fn yes() -> bool {
    true
}
