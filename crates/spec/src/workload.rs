//! What runs: a container or a process on the host.

use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{ContainerOptions, ServiceName, Size, Template};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    Container(ContainerSpec),
    Process(ProcessSpec),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub image: Image,
    /// Replaces that of the image.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces that of the image.
    pub command: Option<Vec<String>>,
    pub user: Option<String>,
    pub environment: IndexMap<String, Template>,
    /// Written into the container before each start.
    pub files: Vec<FileSpec>,
    pub mounts: Vec<Mount>,
    pub ports: Vec<PublishedPort>,
    /// The daemon holds the ports that are published on the loopback, and forwards their connections, so that these can wake it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fronted: bool,
    /// Names on the environment's network, besides the service's own.
    pub aliases: Vec<String>,
    pub resources: Resources,
    /// Size of `/dev/shm`.
    pub shared_memory: Option<Size>,
    /// Have the engine run a small init as process 1, which reaps children.
    pub init: bool,
    /// Rare options.
    #[serde(default, skip_serializing_if = "ContainerOptions::is_default")]
    pub options: Box<ContainerOptions>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Image {
    Named(String),
    Built(ImageBuild),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageBuild {
    /// Absolute; or the address of a Git repository, until the daemon has a checkout of it.
    pub context: PathBuf,
    /// Relative to the context.
    pub dockerfile: String,
    pub target: Option<String>,
    pub arguments: IndexMap<String, String>,
    /// The name of the built image.
    pub tag: String,
    #[serde(default, skip_serializing_if = "BuildOptions::is_default")]
    pub options: Box<BuildOptions>,
    /// The fingerprint of the files that it is built from: another fingerprint means another image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Rare options of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildOptions {
    /// The text of the Dockerfile, instead of a file.
    pub dockerfile_inline: Option<String>,
    pub labels: IndexMap<String, String>,
    pub network: Option<String>,
    pub no_cache: bool,
    /// Ask the registry for newer base images.
    pub pull: bool,
    pub platform: Option<String>,
    /// `HOST:ADDRESS`.
    pub extra_hosts: Vec<String>,
    pub shared_memory: Option<Size>,
    /// Additional contexts by name: directories (absolute), images as `docker-image://NAME`, addresses of Git repositories until
    /// the daemon has a checkout of them.
    pub contexts: IndexMap<String, String>,
    /// Builds of other services whose images these contexts are, in the order in which they are made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<ImageBuild>,
    /// Agents or keys by name, as `ID` or `ID=PATH`.
    pub ssh: Vec<String>,
    /// Secrets of the build, by id.
    pub secrets: IndexMap<String, BuildSecret>,
    /// Images whose layers may be reused.
    pub cache_from: Vec<String>,
}

/// Where a build secret comes from, read at build time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuildSecret {
    /// Absolute.
    File(PathBuf),
    Variable(String),
}

impl BuildOptions {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl ImageBuild {
    /// The build of the Dockerfile in `context`, with defaults.
    pub fn new(context: PathBuf, tag: impl Into<String>) -> Self {
        Self {
            context,
            dockerfile: "Dockerfile".to_owned(),
            target: None,
            arguments: IndexMap::new(),
            tag: tag.into(),
            options: Box::default(),
            content: None,
        }
    }
}

impl Image {
    pub fn name(&self) -> &str {
        match self {
            Self::Named(name) => name,
            Self::Built(build) => &build.tag,
        }
    }
}

/// A file that the supervisor writes into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Absolute path in the container.
    pub path: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub content: Template,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    pub read_only: bool,
    /// A volume with a file system of its own, of this size, on a loop device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Size>,
    #[serde(default, skip_serializing_if = "MountOptions::is_default")]
    pub options: MountOptions,
    /// The volume is filled from an image, anew for each container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Box<ImageFiles>>,
}

/// The files of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFiles {
    /// The image's name; `service:NAME` until the environment is compiled.
    pub image: String,
    /// The directory of the image, instead of all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
    /// The build of the image, if another service builds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<ImageBuild>,
}

/// How a path or a volume is mounted. The default suits most mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountOptions {
    /// Create the host's directory if it does not exist.
    pub create: bool,
    /// `rshared` and the like.
    pub propagation: Option<String>,
    /// `z` or `Z`: give the path an SELinux label.
    pub selinux: Option<String>,
    /// Do not copy the image's files into an empty volume.
    pub no_copy: bool,
    /// The directory of the volume to mount, instead of the whole volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
}

impl MountOptions {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A volume of the service, by its short name (`data`); the state maps it to a volume of the engine.
    Volume(String),
    /// A path on the host.
    Host(PathBuf),
    /// A memory file system.
    Memory,
    /// A volume of another service.
    Shared { service: ServiceName, volume: String },
    /// A volume of the engine that devenv does not own, by the engine's name.
    External(String),
}

/// A container's port, published on the host's loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    pub container: u16,
    pub host: u16,
    /// `127.0.0.1` unless the profile says otherwise.
    pub address: String,
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
}

impl PublishedPort {
    /// TCP on the host's loopback.
    pub fn local(container: u16, host: u16) -> Self {
        Self { container, host, address: "127.0.0.1".to_owned(), protocol: Protocol::Tcp }
    }

    /// Whether it is TCP on the host's loopback, and nowhere else.
    pub fn is_local(&self) -> bool {
        self.address == "127.0.0.1" && self.protocol == Protocol::Tcp
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_tcp(&self) -> bool {
        *self == Self::Tcp
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    pub memory: Option<Size>,
    pub cpus: Option<f64>,
}

/// A program that runs on the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessSpec {
    pub command: Vec<String>,
    /// Absolute.
    pub directory: PathBuf,
    pub environment: IndexMap<String, Template>,
    /// The ports that it must listen on, and the debugger's.
    pub ports: Vec<u16>,
    /// The daemon holds these ports and gives the process other ones, so that versions can be swapped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fronted: bool,
    #[serde(default, skip_serializing_if = "Resources::are_unlimited")]
    pub resources: Resources,
}

impl Resources {
    pub fn are_unlimited(&self) -> bool {
        self.memory.is_none() && self.cpus.is_none()
    }
}

impl ContainerSpec {
    /// A container of `image` with defaults.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: Image::Named(image.into()),
            entrypoint: None,
            command: None,
            user: None,
            environment: IndexMap::new(),
            files: Vec::new(),
            mounts: Vec::new(),
            ports: Vec::new(),
            fronted: false,
            aliases: Vec::new(),
            resources: Resources::default(),
            shared_memory: None,
            init: false,
            options: Box::default(),
        }
    }

    /// The variables that must not be in the container's description.
    pub fn secret_variables(&self) -> impl Iterator<Item = (&String, &Template)> {
        self.environment.iter().filter(|(_, value)| value.holds_secret())
    }

    pub fn plain_variables(&self) -> impl Iterator<Item = (&String, &Template)> {
        self.environment.iter().filter(|(_, value)| !value.holds_secret())
    }
}

impl FileSpec {
    /// Only the service's user can read it.
    pub fn private(path: impl Into<String>, user: u32, content: impl Into<Template>) -> Self {
        Self { path: path.into(), mode: 0o400, uid: user, gid: user, content: content.into() }
    }

    /// All users in the container can read it.
    pub fn readable(path: impl Into<String>, content: impl Into<Template>) -> Self {
        Self { path: path.into(), mode: 0o444, uid: 0, gid: 0, content: content.into() }
    }
}

impl Mount {
    /// A volume of the service.
    pub fn volume(name: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            source: MountSource::Volume(name.into()),
            target: target.into(),
            read_only: false,
            device: None,
            options: MountOptions::default(),
            image: None,
        }
    }

    /// A memory file system, where an image declares a volume that nobody needs: without it the engine makes an anonymous one.
    pub fn memory(target: impl Into<String>) -> Self {
        Self {
            source: MountSource::Memory,
            target: target.into(),
            read_only: false,
            device: None,
            options: MountOptions::default(),
            image: None,
        }
    }
}
