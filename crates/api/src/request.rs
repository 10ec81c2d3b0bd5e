//! The requests of clients.

use std::{collections::BTreeMap, fmt};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{EnvironmentTarget, Event};

/// `init` and `seed`: applies what is pending.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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

/// Names a script: to accept it as already applied, to apply it again, or to see how it differs from what was applied.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AcceptRequest {
    pub target: EnvironmentTarget,
    pub path: String,
}

/// A snapshot.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct NamedRequest {
    pub target: EnvironmentTarget,
    pub name: String,
}

/// Another instance with a copy of this one's data.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ForkRequest {
    pub target: EnvironmentTarget,
    /// The new instance.
    pub name: String,
    /// How it is started once the copy is complete. Without it, the instance stays down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<UpRequest>,
}

/// Gives the environments of a directory that was moved or renamed to the project in its new place.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MoveRequest {
    /// The project's former directory, which need not exist any more.
    pub from: String,
    /// The project's directory now.
    pub to: String,
    /// Only this instance. Without it, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// Takes over the data that Docker Compose has made in a project's volumes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TakeOverRequest {
    /// What `up` of the Compose file asks for: it says which volumes the environment has.
    pub up: UpRequest,
    /// The project's name in Docker Compose.
    pub compose_project: String,
}

/// What was taken over from a Compose project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TakenOver {
    pub compose_project: String,
    pub volumes: Vec<TakenVolume>,
    /// Volumes of the project that the environment has no volume for.
    pub left: Vec<String>,
    /// Whether the environment runs on the data now; otherwise the next `up` starts it there.
    pub running: bool,
}

/// A volume whose data was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TakenVolume {
    /// The volume of Docker Compose, which stays as it is.
    pub from: String,
    pub service: String,
    /// The volume's name in the service.
    pub volume: String,
    /// Bytes of files; unknown if the engine counted nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct UpRequest {
    pub target: EnvironmentTarget,
    /// What the user calls the profile.
    pub profile: String,
    /// The validated profile, as the daemon's own binary serialises it.
    pub document: serde_json::Value,
    /// Use local images, never pull.
    #[serde(default)]
    pub offline: bool,
    #[serde(default)]
    pub fail_on_drift: bool,
    /// Build images again even if nothing that they are built from has changed.
    #[serde(default)]
    pub build: bool,
    /// Replace the containers even if nothing has changed.
    #[serde(default)]
    pub force_recreate: bool,
    /// An environment that is created now may be removed by `gc` when it has not been used for a while.
    #[serde(default)]
    pub warm: bool,
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Start only these and what they depend on; other running services are left alone. All services if empty.
    #[serde(default)]
    pub services: Vec<String>,
    /// The variables of the shell that asks: processes on the host inherit them. Without, they inherit the former ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited: Option<ShellVariables>,
    /// The values of the profile's `secrets` that the client reads: from its variables, from files and from commands.
    #[serde(default)]
    pub secrets: ShellVariables,
}

impl UpRequest {
    /// All services, as the profile has them.
    pub fn of(target: EnvironmentTarget, profile: String, document: serde_json::Value) -> Self {
        Self {
            target,
            profile,
            document,
            offline: false,
            fail_on_drift: false,
            build: false,
            force_recreate: false,
            warm: false,
            timeout_ms: None,
            services: Vec::new(),
            inherited: None,
            secrets: ShellVariables::default(),
        }
    }
}

/// Variables of a shell. They may hold secrets, so `Debug` prints none.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ShellVariables(pub BTreeMap<String, String>);

impl fmt::Debug for ShellVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShellVariables({})", self.0.len())
    }
}

/// Builds images of a profile: of the named services, or of all that have a build.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BuildRequest {
    pub target: EnvironmentTarget,
    /// The validated profile, as the daemon's own binary serialises it.
    pub document: serde_json::Value,
    #[serde(default)]
    pub services: Vec<String>,
    /// Run every step again, without the cache of earlier builds.
    #[serde(default)]
    pub no_cache: bool,
    /// Variables that build secrets are taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited: Option<ShellVariables>,
}

/// What `build --json` prints.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Built {
    pub images: Vec<BuiltImage>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BuiltImage {
    pub service: String,
    pub image: String,
    pub id: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DownRequest {
    pub target: EnvironmentTarget,
    #[serde(default)]
    pub volumes: bool,
}

/// Some services of an environment; an empty list means all.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ServicesRequest {
    pub target: EnvironmentTarget,
    #[serde(default)]
    pub services: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WaitRequest {
    pub target: EnvironmentTarget,
    #[serde(default)]
    pub services: Vec<String>,
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
    /// Only the last lines before each service's last crash.
    #[serde(default)]
    pub crash: bool,
    /// Only this many of the last lines, and those that follow.
    #[serde(default)]
    pub tail: Option<usize>,
    /// RFC 3339; lines after it are left out.
    #[serde(default)]
    pub until: Option<String>,
}

impl LogsRequest {
    /// Everything of all services.
    pub fn of(target: EnvironmentTarget) -> Self {
        Self { target, services: Vec::new(), follow: false, since: None, grep: None, crash: false, tail: None, until: None }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EventsRequest {
    pub target: EnvironmentTarget,
    #[serde(default)]
    pub follow: bool,
}

/// What led to a service's last change.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WhyRequest {
    pub target: EnvironmentTarget,
    pub service: String,
}

/// A chain of causes, newest last.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VariablesFor {
    Host,
    Container,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct VariablesRequest {
    pub target: EnvironmentTarget,
    #[serde(rename = "for")]
    pub form: VariablesFor,
    /// Only the variables that this service gets. Default: all variables.
    #[serde(default)]
    pub service: Option<String>,
}

/// The environment's variables, in order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Variables {
    pub variables: IndexMap<String, Variable>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Variable {
    pub value: String,
    /// The value with every secret replaced by `********`; equal to `value` if it holds none.
    pub redacted: String,
}

/// Where `exec` runs the command.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ExecTarget {
    pub container: Option<String>,
    pub directory: Option<String>,
    /// How to reach the engine: the value for `DOCKER_HOST`.
    pub engine: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct GcRequest {
    #[serde(default)]
    pub dry_run: bool,
    /// Also remove the trash and golden volumes.
    #[serde(default)]
    pub all: bool,
    /// Also handle environments that have been unused for this long: those of `test --warm` are removed, others are taken down.
    /// Default: only trash older than a day.
    #[serde(default)]
    pub idle_ms: Option<u64>,
    /// The most disk space for volumes, in bytes: beyond it the oldest trash is removed first, then golden volumes.
    #[serde(default)]
    pub budget: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GcReport {
    pub removed: Vec<Removed>,
    pub dry_run: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Removed {
    /// `container`, `network`, `volume`, `environment`, `checkout` or `state`.
    pub kind: String,
    pub name: String,
    pub reason: String,
}
