//! The validated profile: what the loader hands on, and what the schema and the reference are generated from.

use std::{collections::BTreeMap, path::PathBuf};

use devenv_kinds::{
    Kind,
    describe::declared::{Declared, Probe},
};
use devenv_spec::{OnDependencyRestart, Period, RestartWhen, ServiceName, Size};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One environment's description, with everything it extends merged in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// What the user calls it.
    pub name: String,
    pub description: Option<String>,
    /// The project's directory; relative paths start there.
    pub project: PathBuf,
    /// Given to every service and to `devenv env`; `env_file` merged in.
    pub variables: IndexMap<String, String>,
    pub services: IndexMap<ServiceName, ServiceProfile>,
    /// The text of project files that services are configured with (alert rules, dashboards), by their path in the profile.
    pub assets: BTreeMap<String, String>,
}

/// One service: the common fields and its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceProfile {
    pub kind: Kind,
    pub depends_on: IndexMap<ServiceName, devenv_api::Condition>,
    pub on_dependency_restart: Option<OnDependencyRestart>,
    pub optional: bool,
    pub environment: IndexMap<String, String>,
    pub probe: Option<Probe>,
    pub ready_timeout: Option<Period>,
    pub stop: Option<StopProfile>,
    pub restart: Option<Restart>,
    pub resources: ResourceLimits,
    pub storage: Option<Storage>,
    /// Fixed host ports by container port.
    pub ports: BTreeMap<u16, u16>,
    pub image: Option<String>,
    pub watch: Vec<Watch>,
}

impl ServiceProfile {
    /// What its kind is told of it.
    pub fn declared(&self) -> Declared<'_> {
        Declared {
            environment: &self.environment,
            probe: self.probe.as_ref(),
            ports: &self.ports,
            memory: self.resources.memory,
            faultable: self.storage.as_ref().is_some_and(|storage| storage.faultable),
            swapped: self.watch.iter().any(|watch| watch.on_change == OnChange::Swap),
        }
    }
}

/// What an environment holds, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Profile")]
#[expect(dead_code, reason = "its schema is read, and the merged tree is converted field by field")]
pub(super) struct Document {
    /// What the environment is for, in a line.
    #[serde(default)]
    description: Option<String>,
    /// Profiles that this one starts from, by name or path: left to right, then this file. Maps merge by key, lists replace.
    #[serde(default)]
    extends: Vec<String>,
    /// Files of variables, relative to the project. A missing one is an error unless written as `.env?`.
    #[serde(default)]
    env_file: Vec<String>,
    /// Given to every service, to `devenv env` and to interpolation.
    #[serde(default)]
    variables: IndexMap<String, String>,
    /// What the environment holds, by name.
    services: IndexMap<String, ServiceFields>,
}

/// The fields that every service may have, whatever its kind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Service")]
pub(super) struct ServiceFields {
    /// What must be so before this service is started: `ready`, `started` or `completed`.
    #[serde(default)]
    #[schemars(with = "IndexMap<String, devenv_api::Condition>")]
    depends_on: IndexMap<ServiceName, devenv_api::Condition>,
    /// What to do when a dependency has restarted: `restart` for a process or container, `ignore` for the rest, unless said.
    #[serde(default)]
    on_dependency_restart: Option<OnDependencyRestart>,
    /// The environment counts as ready without it.
    #[serde(default)]
    optional: bool,
    /// Variables of this service, after those of its connections. For the kinds `process` and `container`.
    #[serde(default)]
    environment: IndexMap<String, String>,
    /// How to tell that it is ready: exactly one of the four. For the kinds `process` and `container`.
    #[serde(default)]
    probe: Option<Probe>,
    /// How long it may take to become ready.
    #[serde(default)]
    ready_timeout: Option<Period>,
    /// How it is stopped; its kind has its own good defaults.
    #[serde(default)]
    stop: Option<StopProfile>,
    /// What follows when it ends by itself.
    #[serde(default)]
    restart: Option<Restart>,
    /// The most it may use.
    #[serde(default)]
    resources: ResourceLimits,
    /// Storage of its own for its data.
    #[serde(default)]
    storage: Option<Storage>,
    /// Fixed host ports by container port; without one, a port is leased and stays the same.
    #[serde(default)]
    ports: BTreeMap<u16, u16>,
    /// Instead of the kind's own image.
    #[serde(default)]
    image: Option<String>,
    /// What to do when files change.
    #[serde(default)]
    watch: Vec<Watch>,
}

impl ServiceFields {
    pub(super) fn with_kind(self, kind: Kind) -> ServiceProfile {
        ServiceProfile {
            kind,
            depends_on: self.depends_on,
            on_dependency_restart: self.on_dependency_restart,
            optional: self.optional,
            environment: self.environment,
            probe: self.probe,
            ready_timeout: self.ready_timeout,
            stop: self.stop,
            restart: self.restart,
            resources: self.resources,
            storage: self.storage,
            ports: self.ports,
            image: self.image,
            watch: self.watch,
        }
    }
}

/// How the service is stopped; its kind has its own good defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopProfile {
    /// A signal's name, such as `SIGTERM`.
    #[serde(default)]
    pub signal: Option<String>,
    /// How long it may take before SIGKILL.
    #[serde(default)]
    pub grace: Option<Period>,
}

/// What follows when the service ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    #[serde(default)]
    pub policy: Option<RestartWhen>,
    /// Restarts in a row before it is a crash loop.
    #[serde(default)]
    pub attempts: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimits {
    #[serde(default)]
    pub memory: Option<Size>,
    #[serde(default)]
    pub cpus: Option<f64>,
}

/// Storage of its own kind for the service's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    #[serde(default)]
    pub size: Option<Size>,
    /// Its own file system on a loop device, so that power cut, disk full and read-only can be injected.
    #[serde(default)]
    pub faultable: bool,
}

/// What to do when files change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Files and directories, relative to the project.
    pub paths: Vec<String>,
    /// Globs of what does not count; `.gitignore` and `.dockerignore` hold besides.
    #[serde(default)]
    pub ignore: Vec<String>,
    pub on_change: OnChange,
    /// A command that must succeed first.
    #[serde(default)]
    pub build: Option<Vec<String>>,
    /// For `signal`, and for `sync` in a container.
    #[serde(default)]
    pub signal: Option<String>,
    /// The command of `run`.
    #[serde(default)]
    pub run: Option<Vec<String>>,
    /// Where `sync` copies to in the container.
    #[serde(default)]
    pub to: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnChange {
    Restart,
    Signal,
    Swap,
    Sync,
    Rebuild,
    Run,
}
