//! What is asked of an engine and what is seen of it.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use ipnet::Ipv4Net;

use super::Labels;
use crate::spec::{PublishedPort, Resources, Size};

#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// Nothing answers there.
    #[error("no container engine answers at {endpoint}: {reason}")]
    Unreachable { endpoint: String, reason: String },
    /// It answers, and speaks no version that we speak.
    #[error("the engine at {endpoint} speaks API {api}, and devenv needs {needed}")]
    Version { endpoint: String, api: String, needed: String },
    #[error("there is no {what} `{name}`")]
    NotFound { what: &'static str, name: String },
    /// A port of the host is taken.
    #[error("port {port} of the host is taken")]
    PortTaken { port: u16 },
    /// A subnet overlaps one that another network holds.
    #[error("the subnet {0} is taken")]
    SubnetTaken(Ipv4Net),
    /// The engine refused, in its own words.
    #[error("the engine refused to {action}: {message}")]
    Refused { action: String, status: u16, message: String },
    #[error("the engine's answer to {action} was not understood: {message}")]
    Protocol { action: String, message: String },
    /// What was asked for did not end in the time it was given.
    #[error("could not {action} within {limit:?}")]
    TimedOut { action: String, limit: Duration },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ObservedContainer {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) image: String,
    pub(crate) state: ContainerState,
    /// Restarted by the engine or started again: RFC 3339 of the last start.
    pub(crate) started_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContainerState {
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
    /// On its way out, or in a state that this engine knows and we do not.
    Other(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ObservedNetwork {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) subnet: Option<Ipv4Net>,
}

/// How the ports that the engine publishes are reached from this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    /// They are on the loopback that this process has.
    Here,
    /// This process is in a container of the engine: others are reached on the networks that it is on, and none is published.
    Beside,
    /// They are on that host, on all of its addresses.
    Elsewhere { host: String },
}

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageFacts {
    pub(crate) id: String,
    /// `NAME@sha256:…`, where a registry gave it one.
    pub(crate) digest: Option<String>,
    pub(crate) size: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ObservedVolume {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) mountpoint: PathBuf,
    pub(crate) created_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EngineEvent {
    pub(crate) container: String,
    pub(crate) labels: Labels,
    pub(crate) kind: EngineEventKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineEventKind {
    Started,
    /// Ended by itself or by somebody: its exit code.
    Died {
        code: i64,
    },
    OutOfMemory,
    Paused,
    Unpaused,
    Removed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkCreate {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) subnet: Ipv4Net,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeCreate {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    /// Driver options, for a volume on a device of its own.
    pub(crate) options: BTreeMap<String, String>,
}

/// A container to create, with every secret and volume already resolved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ContainerCreate {
    pub(crate) name: String,
    pub(crate) hostname: String,
    pub(crate) labels: Labels,
    pub(crate) image: String,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) user: Option<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) mounts: Vec<CreatedMount>,
    pub(crate) ports: Vec<PublishedPort>,
    pub(crate) network: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) resources: Resources,
    pub(crate) shared_memory: Option<Size>,
    pub(crate) init: bool,
    pub(crate) stop_signal: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CreatedMount {
    Volume { name: String, target: String, read_only: bool },
    Host { path: PathBuf, target: String, read_only: bool },
    Memory { target: String },
}

/// What an image runs unless it is told otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImageDefaults {
    pub(crate) entrypoint: Vec<String>,
    /// The arguments of the entrypoint, or the whole command where there is none.
    pub(crate) command: Vec<String>,
}

/// A file for the engine to write into a container.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UploadFile {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) content: Bytes,
}

impl fmt::Debug for UploadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadFile({}, {} bytes)", self.path, self.content.len())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PullProgress {
    pub(crate) current_bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) message: String,
}

impl fmt::Display for PullProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{} bytes", self.message, self.current_bytes, self.total_bytes)
    }
}

/// A piece of a container's output: a line, or a part of a very long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogChunk {
    /// The engine's time stamp, RFC 3339 with nanoseconds.
    pub(crate) time: String,
    pub(crate) stderr: bool,
    /// Without its line end.
    pub(crate) text: String,
}

#[derive(Clone, Default)]
pub(crate) struct ExecRequest {
    pub(crate) command: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: Option<String>,
    /// What it reads from its standard input, which is then closed.
    pub(crate) input: Option<ExecInput>,
    pub(crate) deadline: Option<Duration>,
}

pub(crate) type ExecInput = std::sync::Arc<std::sync::Mutex<Option<std::pin::Pin<Box<dyn tokio::io::AsyncRead + Send>>>>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecOutput {
    pub(crate) code: i64,
    pub(crate) stdout: Bytes,
    pub(crate) stderr: Bytes,
}

/// A command with somebody at the other side.
#[derive(Debug, Clone, Default)]
pub(crate) struct SessionRequest {
    pub(crate) command: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: Option<String>,
    /// Give it a terminal of this size, in which its two outputs are one.
    pub(crate) terminal: Option<TerminalSize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TerminalSize {
    pub(crate) columns: u16,
    pub(crate) rows: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExecStream {
    Stdout,
    Stderr,
}

/// A command that runs. Its input is closed by shutting it down; dropping all of it leaves the command to itself.
pub(crate) struct ExecSession {
    pub(crate) input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
    pub(crate) output: BoxStream<'static, Result<(ExecStream, Bytes), EngineError>>,
    pub(crate) resize: Resize,
    /// To be awaited when the output has ended. A command that could not be run has 126, or 127 if it is not there.
    pub(crate) exit_code: BoxFuture<'static, Result<i64, EngineError>>,
}

/// Tells a session's terminal its new size.
pub(crate) type Resize = std::sync::Arc<dyn Fn(TerminalSize) -> BoxFuture<'static, Result<(), EngineError>> + Send + Sync>;

/// A short-lived container of ours that works on volumes.
#[derive(Debug, Clone)]
pub(crate) struct HelperRun {
    pub(crate) labels: Labels,
    pub(crate) image: String,
    /// The program and its arguments, instead of the image's own.
    pub(crate) command: Vec<String>,
    pub(crate) mounts: Vec<CreatedMount>,
    pub(crate) user: Option<String>,
}

/// A container of ours in the namespaces of another.
#[derive(Debug, Clone)]
pub(crate) struct Sidecar {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    /// The container whose network it joins; none at all without one.
    pub(crate) network_of: Option<String>,
    /// The container whose processes it sees.
    pub(crate) processes_of: Option<String>,
    /// Beyond none: `NET_ADMIN`.
    pub(crate) capabilities: Vec<String>,
    /// Paths of the engine's host.
    pub(crate) devices: Vec<String>,
    pub(crate) mounts: Vec<CreatedMount>,
}

/// What a container has used since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Of all processors together.
    pub(crate) cpu: Duration,
    /// Of the machine.
    pub(crate) processors: u32,
    /// Bytes, without the page cache.
    pub(crate) memory: u64,
    pub(crate) memory_limit: u64,
}

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    pub(crate) address: std::net::Ipv4Addr,
    pub(crate) gateway: Option<std::net::Ipv4Addr>,
    pub(crate) prefix: u8,
}
