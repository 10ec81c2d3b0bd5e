//! What clients ask of the daemon.

use std::{collections::BTreeMap, fmt};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{EnvironmentTarget, Event};

/// `init` and `seed`: apply what is pending now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApplyRequest {
    pub target: EnvironmentTarget,
    #[serde(default)]
    pub services: Vec<String>,
    /// Data sets instead of scripts of the schema.
    #[serde(default)]
    pub seed: bool,
    /// The seed set, a directory of `seed-data/`. Default: the seeds that the profile declares.
    #[serde(default)]
    pub set: Option<String>,
}

/// Says that a changed script is fine as it was applied, or that a script is to be applied again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AcceptRequest {
    pub target: EnvironmentTarget,
    pub path: String,
}

/// A snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NamedRequest {
    pub target: EnvironmentTarget,
    pub name: String,
}

/// Another instance with a copy of this one's data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForkRequest {
    pub target: EnvironmentTarget,
    /// The new instance.
    pub name: String,
    /// How it is brought up once the copy is complete. Without, it stays down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<UpRequest>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpRequest {
    pub target: EnvironmentTarget,
    /// What the user calls the profile.
    pub profile: String,
    /// The validated profile, as the daemon's own binary serialises it.
    pub document: serde_json::Value,
    /// Use images that are here, never pull.
    #[serde(default)]
    pub offline: bool,
    #[serde(default)]
    pub fail_on_drift: bool,
    /// Build images anew even if nothing that they are built from has changed.
    #[serde(default)]
    pub build: bool,
    /// Replace the containers even if nothing has changed.
    #[serde(default)]
    pub force_recreate: bool,
    /// If it is made now, it is one that `gc` removes when nobody has used it for a while.
    #[serde(default)]
    pub warm: bool,
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Start only these and what they depend on; what runs besides is left alone. All services if empty.
    #[serde(default)]
    pub services: Vec<String>,
    /// Those of the shell that asks: processes on the host inherit them. Without, they inherit what they did before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited: Option<ShellVariables>,
    /// The values of the profile's `secrets` that the client reads: from its variables, from files and from commands.
    #[serde(default)]
    pub secrets: ShellVariables,
}

/// Variables of a shell. They may hold secrets, so that `Debug` shows none.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShellVariables(pub BTreeMap<String, String>);

impl fmt::Debug for ShellVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShellVariables({})", self.0.len())
    }
}

/// Images of a profile that are to be built; of all services that have one if none is named.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildRequest {
    pub target: EnvironmentTarget,
    /// The validated profile, as the daemon's own binary serialises it.
    pub document: serde_json::Value,
    #[serde(default)]
    pub services: Vec<String>,
    /// Run each step again, whatever earlier builds have left.
    #[serde(default)]
    pub no_cache: bool,
    /// Variables that secrets of builds are taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited: Option<ShellVariables>,
}

/// What `build --json` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Built {
    pub images: Vec<BuiltImage>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuiltImage {
    pub service: String,
    pub image: String,
    pub id: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DownRequest {
    pub target: EnvironmentTarget,
    #[serde(default)]
    pub volumes: bool,
}

/// Some services of an environment; none named means all.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServicesRequest {
    pub target: EnvironmentTarget,
    #[serde(default)]
    pub services: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WaitRequest {
    pub target: EnvironmentTarget,
    #[serde(default)]
    pub services: Vec<String>,
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogsRequest {
    pub target: EnvironmentTarget,
    #[serde(default)]
    pub services: Vec<String>,
    #[serde(default)]
    pub follow: bool,
    /// RFC 3339; lines before it are left out.
    #[serde(default)]
    pub since: Option<String>,
    #[serde(default)]
    pub grep: Option<String>,
    /// Only the end of each service's last crash.
    #[serde(default)]
    pub crash: bool,
    /// Only so many of the last lines that are kept, and those that follow.
    #[serde(default)]
    pub tail: Option<usize>,
    /// RFC 3339; lines after it are left out.
    #[serde(default)]
    pub until: Option<String>,
}

impl LogsRequest {
    /// All that is kept of all services.
    pub fn of(target: EnvironmentTarget) -> Self {
        Self { target, services: Vec::new(), follow: false, since: None, grep: None, crash: false, tail: None, until: None }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventsRequest {
    pub target: EnvironmentTarget,
    #[serde(default)]
    pub follow: bool,
}

/// What led to a service's last change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WhyRequest {
    pub target: EnvironmentTarget,
    pub service: String,
}

/// A chain of causes, newest last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Why {
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VariablesFor {
    Host,
    Container,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VariablesRequest {
    pub target: EnvironmentTarget,
    #[serde(rename = "for")]
    pub form: VariablesFor,
    /// The variables that this service is given, instead of all.
    #[serde(default)]
    pub service: Option<String>,
}

/// The environment's variables, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Variables {
    pub variables: IndexMap<String, Variable>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Variable {
    pub value: String,
    /// The value with every secret replaced by `********`; the same as `value` where it holds none.
    pub redacted: String,
}

/// Where `exec` has to go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecTarget {
    pub container: Option<String>,
    pub directory: Option<String>,
    /// How to reach the engine: the value for `DOCKER_HOST`.
    pub engine: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GcRequest {
    #[serde(default)]
    pub dry_run: bool,
    /// The trash and golden volumes too.
    #[serde(default)]
    pub all: bool,
    /// Environments that nobody has used for so long: those that `test --warm` left are removed, others are taken down.
    /// Default: only trash older than a day.
    #[serde(default)]
    pub idle_ms: Option<u64>,
    /// What volumes may take on the disk, in bytes: beyond it the oldest trash goes first, then golden volumes.
    #[serde(default)]
    pub budget: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GcReport {
    pub removed: Vec<Removed>,
    pub dry_run: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Removed {
    /// `container`, `network`, `volume`, `environment` or `state`.
    pub kind: String,
    pub name: String,
    pub reason: String,
}
