//! The requests to an engine, and the objects that it reports.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use ipnet::Ipv4Net;

use super::Labels;
use devenv_spec::{ContainerOptions, MountOptions, PublishedPort, Resources, Size};

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine answers there.
    #[error("no container engine answers at {endpoint}: {reason}")]
    Unreachable { endpoint: String, reason: String },
    /// It answers, but supports no API version that devenv supports.
    #[error("the engine at {endpoint} supports API {api}, but devenv needs {needed}")]
    Version { endpoint: String, api: String, needed: String },
    #[error("{what} `{name}` does not exist")]
    NotFound { what: &'static str, name: String },
    /// A host port is in use.
    #[error("host port {port} is in use")]
    PortTaken { port: u16 },
    /// A subnet overlaps that of another network.
    #[error("the subnet {0} is in use")]
    SubnetTaken(Ipv4Net),
    /// A build ended without an image.
    #[error("cannot build the image `{tag}`: {message}")]
    BuildFailed {
        tag: String,
        message: String,
        /// The last lines of the step that failed.
        output: Vec<String>,
    },
    /// The engine refused; in its own words.
    #[error("the engine refused to {action}: {message}")]
    Refused { action: String, status: u16, message: String },
    #[error("cannot decode the engine's answer to {action}: {message}")]
    Protocol { action: String, message: String },
    /// More than is ever held in memory.
    #[error("could not {action}: it is larger than {} MiB", limit >> 20)]
    TooLarge { action: String, limit: usize },
    /// The request did not end within its time limit.
    #[error("the engine did not {action} within {limit:?}")]
    TimedOut { action: String, limit: Duration },
}

#[derive(Debug, Clone, PartialEq)]
pub struct ObservedContainer {
    pub id: String,
    pub name: String,
    pub labels: Labels,
    pub image: String,
    pub state: ContainerState,
    /// Restarted by the engine or started again: RFC 3339 of the last start.
    pub started_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    Created,
    Running {
        pid: u32,
    },
    Paused {
        pid: u32,
    },
    Exited {
        code: i64,
        out_of_memory: bool,
        error: Option<String>,
        finished_at: String,
    },
    /// Being removed, or in a state that is not known here.
    Other(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ObservedNetwork {
    pub id: String,
    pub name: String,
    pub labels: Labels,
    pub subnet: Option<Ipv4Net>,
}

/// A subnet of a network of the engine.
#[derive(Debug, Clone, PartialEq)]
pub struct UsedSubnet {
    pub subnet: ipnet::IpNet,
    /// The network's name; empty if the engine does not tell it.
    pub network: String,
    /// Of a network of devenv, whoever owns it.
    pub labels: Option<Labels>,
}

/// How this process reaches the ports that the engine publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// They are on this process's loopback.
    Here,
    /// This process is in a container of the engine: it reaches others over its networks, and no port is published.
    Beside,
    /// They are on that host, on all of its addresses.
    Elsewhere { host: String },
    /// The engine is on another machine, of which only the engine's own interface is reached: no port is published on its loopback, and
    /// connections go through a relay in the environment's network (`Tunnel`).
    Relayed,
}

/// A local image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    pub id: String,
    /// `NAME@sha256:…`, if a registry reported it.
    pub digest: Option<String>,
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ObservedVolume {
    pub name: String,
    pub labels: Labels,
    pub mountpoint: PathBuf,
    pub created_at: Option<String>,
}

/// What Docker Compose has made of one of its projects. It is read and never changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComposeProject {
    pub volumes: Vec<ComposeVolume>,
    /// The names of running or paused containers that mount one of the volumes, also those of other projects, and of the project's others.
    pub running: Vec<String>,
}

/// A volume of a Compose project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeVolume {
    /// The engine's name.
    pub name: String,
    /// The name in the Compose file; `None` for an anonymous one.
    pub key: Option<String>,
    pub mountpoint: PathBuf,
    /// Where the project's containers, running or not, have it.
    pub mounts: Vec<ComposeMount>,
}

/// Where a container of a Compose project has a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeMount {
    /// The service's name in the Compose file.
    pub service: String,
    /// The number of the copy, from 1.
    pub copy: u16,
    /// The path in the container.
    pub target: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    pub container: String,
    pub labels: Labels,
    pub kind: EngineEventKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineEventKind {
    Started,
    /// Exited, for any reason: its exit code.
    Died {
        code: i64,
    },
    OutOfMemory,
    Paused,
    Unpaused,
    Removed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkCreate {
    pub name: String,
    pub labels: Labels,
    pub subnet: Ipv4Net,
    /// No connection to the outside.
    pub internal: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeCreate {
    pub name: String,
    pub labels: Labels,
    /// Driver options, for a volume on a device of its own.
    pub options: BTreeMap<String, String>,
}

/// A container to create, with every secret and volume already resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerCreate {
    pub name: String,
    pub hostname: String,
    pub labels: Labels,
    pub image: String,
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    pub user: Option<String>,
    pub environment: Vec<(String, String)>,
    pub mounts: Vec<CreatedMount>,
    pub ports: Vec<PublishedPort>,
    pub network: String,
    pub aliases: Vec<String>,
    pub resources: Resources,
    pub shared_memory: Option<Size>,
    pub init: bool,
    /// Empty for the image's own.
    pub stop_signal: String,
    /// As in the spec, except for networks and shared namespaces, which are resolved here.
    pub options: Box<ContainerOptions>,
    /// How each mount is mounted, by its path in the container; defaults are left out.
    pub mount_options: BTreeMap<String, MountOptions>,
    /// Networks besides the first one.
    pub attachments: Vec<CreatedAttachment>,
    /// The fixed address on the first network.
    pub address: Option<std::net::Ipv4Addr>,
    /// The namespaces of processes and of shared memory, in the engine's terms.
    pub pid_mode: Option<String>,
    pub ipc_mode: Option<String>,
}

/// A network to which a container is connected after its creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedAttachment {
    pub network: String,
    pub aliases: Vec<String>,
    pub address: Option<std::net::Ipv4Addr>,
}

impl ContainerCreate {
    /// Whether its network is another container's, or none: it has no name there.
    pub fn shares_network(&self) -> bool {
        matches!(self.network.as_str(), "host" | "none") || self.network.starts_with("container:")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreatedMount {
    Volume { name: String, target: String, read_only: bool },
    Host { path: PathBuf, target: String, read_only: bool },
    Memory { target: String },
}

/// The default command of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageDefaults {
    pub entrypoint: Vec<String>,
    /// The arguments of the entrypoint, or the whole command if there is none.
    pub command: Vec<String>,
}

/// A file for the engine to write into a container.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadFile {
    pub path: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub content: Bytes,
}

impl fmt::Debug for UploadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadFile({}, {} bytes)", self.path, self.content.len())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    pub current_bytes: u64,
    pub total_bytes: u64,
    pub message: String,
}

impl fmt::Display for PullProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{} bytes", self.message, self.current_bytes, self.total_bytes)
    }
}

/// A chunk of a container's output: a line, or a part of a very long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// The engine's time stamp, RFC 3339 with nanoseconds.
    pub time: String,
    pub stderr: bool,
    /// Without its line end.
    pub text: String,
}

#[derive(Clone, Default)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub user: Option<String>,
    pub environment: Vec<(String, String)>,
    pub directory: Option<String>,
    /// Its standard input, which is then closed.
    pub input: Option<ExecInput>,
    pub deadline: Option<Duration>,
    /// With all rights on the host.
    pub privileged: bool,
}

pub type ExecInput = std::sync::Arc<std::sync::Mutex<Option<std::pin::Pin<Box<dyn tokio::io::AsyncRead + Send>>>>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    pub code: i64,
    pub stdout: Bytes,
    pub stderr: Bytes,
}

/// An interactive command.
#[derive(Debug, Clone, Default)]
pub struct SessionRequest {
    pub command: Vec<String>,
    pub user: Option<String>,
    pub environment: Vec<(String, String)>,
    pub directory: Option<String>,
    /// Give it a terminal of this size, which combines its two outputs.
    pub terminal: Option<TerminalSize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub columns: u16,
    pub rows: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecStream {
    Stdout,
    Stderr,
}

/// A running command. Shut the input down to close it; dropping all parts does not stop the command.
pub struct ExecSession {
    pub input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
    pub output: BoxStream<'static, Result<(ExecStream, Bytes), EngineError>>,
    pub resize: Resize,
    /// Await it when the output has ended. The code is 126 for a command that could not be run, 127 if it does not exist.
    pub exit_code: BoxFuture<'static, Result<i64, EngineError>>,
}

/// Sets the size of a session's terminal.
pub(crate) type Resize = std::sync::Arc<dyn Fn(TerminalSize) -> BoxFuture<'static, Result<(), EngineError>> + Send + Sync>;

/// A short-lived container of ours that works on volumes.
#[derive(Debug, Clone)]
pub struct HelperRun {
    pub labels: Labels,
    pub image: String,
    /// The program and its arguments. Replaces the image's own.
    pub command: Vec<String>,
    pub mounts: Vec<CreatedMount>,
    pub user: Option<String>,
    /// The network that it joins; none by default.
    pub network: Option<String>,
}

/// A container of ours in the namespaces of another.
#[derive(Debug, Clone)]
pub struct Sidecar {
    pub name: String,
    pub labels: Labels,
    pub image: String,
    pub command: Vec<String>,
    /// The container whose network it joins; without one it has no network.
    pub network_of: Option<String>,
    /// The container whose processes it sees.
    pub processes_of: Option<String>,
    /// Capabilities; none by default: `NET_ADMIN`.
    pub capabilities: Vec<String>,
    /// Paths of the engine's host.
    pub devices: Vec<String>,
    pub mounts: Vec<CreatedMount>,
}

/// The resource usage of a container since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Of all processors together.
    pub cpu: Duration,
    /// Of the machine.
    pub processors: u32,
    /// Bytes, without the page cache.
    pub memory: u64,
    pub memory_limit: u64,
}

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub network: String,
    pub address: std::net::Ipv4Addr,
    pub gateway: Option<std::net::Ipv4Addr>,
    pub prefix: u8,
}
