//! The validated profile: the loader's result, and the source of the schema and the reference.

use std::{borrow::Cow, collections::BTreeMap, fmt, path::PathBuf};

use devenv_kinds::{
    Kind,
    describe::declared::{Declared, Probe},
};
use devenv_spec::{Hook, OnDependencyRestart, Period, RestartWhen, ServiceName, Size, SleepMode};
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Unexpected, Visitor, value::SeqAccessDeserializer},
};

/// One environment's description, with everything it extends merged in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The name that the user gave.
    pub name: String,
    pub description: Option<String>,
    /// The project's directory; relative paths start there.
    pub project: PathBuf,
    /// For every service and `devenv env`; `env_file` merged in.
    pub variables: IndexMap<String, String>,
    /// Variables of services that `variables` may replace.
    #[serde(default)]
    pub overrides: Vec<String>,
    /// Secrets that users give, by name.
    #[serde(default)]
    pub secrets: IndexMap<String, SecretSource>,
    pub services: IndexMap<ServiceName, ServiceProfile>,
    /// The environment's own network.
    #[serde(default)]
    pub network: OwnNetwork,
    /// Networks for containers, besides the environment's own.
    #[serde(default)]
    pub networks: IndexMap<String, Network>,
    /// For all containers that do not say it themselves.
    #[serde(default)]
    pub sleep: Option<SleepFields>,
    /// The text of project files that configure services (alert rules, dashboards), by their path in the profile.
    pub assets: BTreeMap<String, String>,
}

/// Where the value of a secret comes from: exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// The variable of the shell that runs `devenv up`.
    FromEnv(String),
    /// A file, relative to the project. A line break at its end is not part of the secret.
    File(String),
    /// A random secret of this many letters and digits, which is generated once and kept.
    Generate(u32),
    /// A command, whose standard output is the secret: for password managers. Runs on the host at every `devenv up`.
    Command(Vec<String>),
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
    /// The services whose variables it gets; those that it depends on, if it does not say.
    #[serde(default)]
    pub variables_from: Option<VariablesFrom>,
    #[serde(default)]
    pub sleep: Option<SleepFields>,
    /// The services that may connect to it; all, if it does not say.
    #[serde(default)]
    pub access: Option<Vec<String>>,
}

/// The word for all services.
const ALL: &str = "all";

/// The services whose variables a service gets, where the profile says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariablesFrom {
    All,
    /// None at all, not even devenv's own and the profile's, if it is empty.
    Services(Vec<String>),
}

impl Serialize for VariablesFrom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str(ALL),
            Self::Services(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for VariablesFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = VariablesFrom;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`{ALL}` or a list of services")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Self::Value, E> {
                if word == ALL { Ok(VariablesFrom::All) } else { Err(E::invalid_value(Unexpected::Str(word), &self)) }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(VariablesFrom::Services)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl JsonSchema for VariablesFrom {
    fn schema_name() -> Cow<'static, str> {
        "VariablesFrom".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string", "enum": [ALL] }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl ServiceProfile {
    /// The input for its kind.
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
#[expect(dead_code, reason = "the tree has been checked against the schema, and is converted field by field")]
pub(super) struct Document {
    /// A one-line description of the environment.
    #[serde(default)]
    description: Option<String>,
    /// Profiles to extend, by name or path. Merged from left to right, then this file. Mappings merge by key, lists are replaced.
    #[serde(default)]
    extends: Vec<String>,
    /// Files with variables, relative to the project. A missing file is an error unless written as `.env?`.
    #[serde(default)]
    env_file: Vec<String>,
    /// Variables for every service, for `devenv env` and for `${NAME}` in this profile.
    #[serde(default)]
    variables: IndexMap<String, String>,
    /// Variables of services, such as `DATABASE_URL`, that `variables` or `env_file` may replace. Without it that is an error.
    /// `devenv test` and `devenv chaos run` refuse such a profile, because the variable may lead to a database that is not local.
    #[serde(default)]
    r#override: Vec<String>,
    /// Secrets by name, for `${secret:NAME}` in `variables` and in the `environment` of services. Their values are kept out of
    /// everything that devenv and the engine print.
    #[serde(default)]
    secrets: IndexMap<String, SecretSource>,
    /// The environment's own network.
    #[serde(default)]
    network: OwnNetwork,
    /// Networks for containers, besides the environment's own, by name.
    #[serde(default)]
    networks: IndexMap<String, Network>,
    /// Put containers that nobody uses to sleep. The daemon holds their ports, and a connection to one of them wakes what it needs.
    #[serde(default)]
    sleep: Option<SleepFields>,
    /// The services of the environment, by name.
    services: IndexMap<String, ServiceFields>,
}

/// The environment's own network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnNetwork {
    /// The IPv4 subnet of all networks of the environment, such as `10.10.0.0/16`. An error if another network or a route of the host
    /// overlaps with it. Default: one of 61 addresses that devenv chooses from 10.213.0.0/16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
}

/// A network for containers, besides the environment's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// No connection to outside of the machine.
    #[serde(default)]
    pub internal: bool,
    /// The IPv4 subnet to use if it is free, such as `10.9.0.0/24`. Default: one that devenv chooses.
    #[serde(default)]
    pub subnet: Option<String>,
    /// The name of an existing network that devenv does not own. It is used, and neither created nor removed.
    #[serde(default)]
    pub external: Option<String>,
}

/// The fields that every service may have, whatever its kind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Service")]
pub(super) struct ServiceFields {
    /// Services to start first, and the state to wait for: `ready`, `started` or `completed`.
    #[serde(default)]
    #[schemars(with = "IndexMap<String, devenv_api::Condition>")]
    depends_on: IndexMap<ServiceName, devenv_api::Condition>,
    /// What to do when a dependency restarts. Default: `restart` for `process` and `container`, `ignore` for other kinds.
    #[serde(default)]
    on_dependency_restart: Option<OnDependencyRestart>,
    /// Whether the environment can be ready without this service.
    #[serde(default)]
    optional: bool,
    /// Additional variables for this service, overriding those of its connections. For the kinds `process` and `container`.
    #[serde(default)]
    environment: IndexMap<String, String>,
    /// Readiness check: exactly one of `http`, `tcp`, `log` and `exec`. For the kinds `process` and `container`.
    #[serde(default)]
    probe: Option<Probe>,
    /// How long to wait for the service to become ready.
    #[serde(default)]
    ready_timeout: Option<Period>,
    /// How to stop the service. Default: depends on the kind.
    #[serde(default)]
    stop: Option<StopProfile>,
    /// What to do when the service exits on its own.
    #[serde(default)]
    restart: Option<Restart>,
    /// Resource limits. Those of a `process` need control groups that this user may change; elsewhere the service fails with the reason.
    #[serde(default)]
    resources: ResourceLimits,
    /// Storage for the service's data.
    #[serde(default)]
    storage: Option<Storage>,
    /// Fixed host ports by container port. Default: a free port, which stays the same across restarts.
    #[serde(default)]
    ports: BTreeMap<u16, u16>,
    /// Image to use instead of the kind's default image.
    #[serde(default)]
    image: Option<String>,
    /// What to do when files change.
    #[serde(default)]
    watch: Vec<Watch>,
    /// The services whose variables this one gets: a list, or `all`; `[]` for none, and none of devenv's own or the profile's. Default:
    /// the services in `depends_on`, and itself. For the kinds `process` and `container`.
    #[serde(default)]
    variables_from: Option<VariablesFrom>,
    /// As `sleep` of the profile, for this service. Containers that depend on it must be able to sleep too, or it stays awake with them.
    #[serde(default)]
    sleep: Option<SleepFields>,
    /// The services that may connect to this one over the network; `[]` for none. Default: all. Programs on the host always may. For
    /// services in containers.
    #[serde(default)]
    access: Option<Vec<String>>,
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
            variables_from: self.variables_from,
            sleep: self.sleep,
            access: self.access,
        }
    }
}

/// When containers fall asleep, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Sleep")]
pub struct SleepFields {
    /// How long no client may have used any of the services that may sleep. Default: they fall asleep only by `devenv sleep`.
    #[serde(default)]
    pub after: Option<Period>,
    /// `stop` frees their memory, and the first connection waits for their start. `freeze` keeps it, and they continue within
    /// milliseconds. Default: `stop`.
    #[serde(default)]
    pub mode: Option<SleepMode>,
}

/// How to stop the service. Default: depends on the kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopProfile {
    /// The signal to send, such as `SIGTERM`. Default for a `container`: the one that its image asks for.
    #[serde(default)]
    pub signal: Option<String>,
    /// How long to wait before SIGKILL.
    #[serde(default)]
    pub grace: Option<Period>,
}

/// What to do when the service exits on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// When to restart the service.
    #[serde(default)]
    pub policy: Option<RestartWhen>,
    /// Consecutive restarts before the service counts as a crash loop.
    #[serde(default)]
    pub attempts: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimits {
    /// Memory limit, such as `512MiB`.
    #[serde(default)]
    pub memory: Option<Size>,
    /// CPU limit in cores, such as `1.5`.
    #[serde(default)]
    pub cpus: Option<f64>,
}

/// Storage for the service's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// The size of the file system.
    #[serde(default)]
    pub size: Option<Size>,
    /// Keep the data on its own file system on a loop device, which the faults `power-cut`, `disk-full` and `disk-read-only` need.
    #[serde(default)]
    pub faultable: bool,
}

/// What to do when files change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Files and directories, relative to the project.
    pub paths: Vec<String>,
    /// Globs of files to ignore, in addition to `.gitignore` and `.dockerignore`.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Globs of the files that count. Default: all that are not ignored.
    #[serde(default)]
    pub include: Vec<String>,
    /// What to do when a file changes.
    pub on_change: OnChange,
    /// A build command that must succeed before the change takes effect.
    #[serde(default)]
    pub build: Option<Vec<String>>,
    /// The signal to send, for `signal` and `sync`.
    #[serde(default)]
    pub signal: Option<String>,
    /// The command to run, for `run`.
    #[serde(default)]
    pub run: Option<Vec<String>>,
    /// The target directory in the container, for `sync`.
    #[serde(default)]
    pub to: Option<String>,
    /// For `sync`: a command to run in the container after the files are copied, instead of a restart.
    #[serde(default)]
    pub exec: Option<Hook>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_of_the_field_are_read_and_written() {
        for (text, value) in [
            (json!("all"), VariablesFrom::All),
            (json!([]), VariablesFrom::Services(vec![])),
            (json!(["db"]), VariablesFrom::Services(vec!["db".into()])),
        ] {
            assert_eq!(serde_json::from_value::<VariablesFrom>(text.clone()).unwrap(), value);
            assert_eq!(serde_json::to_value(&value).unwrap(), text);
        }
        assert!(serde_json::from_value::<VariablesFrom>(json!("db")).is_err());
    }
}
