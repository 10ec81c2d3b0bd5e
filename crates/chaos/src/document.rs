//! PURE: a scenario as written in its file. The checks, their messages and the schema come from these types.

use devenv_kinds::capability::WorkloadKind;
use devenv_spec::{OfKind, Period};
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    scenario::{COMMAND, HTTP},
    workload,
};

/// Workloads, faults and checks.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Scenario")]
pub(super) struct Document {
    /// What the scenario tests, in one line.
    #[serde(default)]
    pub(super) description: Option<String>,
    /// The profile that it runs on. Default: the profile that the environment runs, else `default`.
    #[serde(default)]
    #[expect(dead_code, reason = "it is parsed on its own, before the other fields can be checked")]
    pub(super) profile: Option<String>,
    /// Seed for random choices.
    #[serde(default)]
    pub(super) seed: Option<u64>,
    /// The time limit of the whole run.
    #[serde(default)]
    pub(super) deadline: Option<Period>,
    /// Work that goes on during the whole run, by name.
    pub(super) workload: IndexMap<String, WorkloadDocument>,
    /// Conditions that must hold before the timeline begins, and again at the end.
    #[serde(default)]
    pub(super) steady: IndexMap<String, String>,
    /// The faults.
    pub(super) timeline: Vec<EntryDocument>,
    /// Conditions that abort the run.
    #[serde(default, rename = "stop-if")]
    pub(super) stop_if: Vec<String>,
    /// The checks, by `WORKLOAD.lost`, `ID.recovery` and so on.
    #[serde(default)]
    pub(super) checks: IndexMap<String, CheckDocument>,
}

/// What a workload does: one kind of work with its fields. Kinds of services have work of their own.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct WorkloadDocument(OfKind);

impl JsonSchema for WorkloadDocument {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WorkloadDocument".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = |name: &str, about: &str, fields: Schema| {
            json!({
                "type": "object",
                "description": about,
                "properties": { name: fields },
                "required": [name],
                "additionalProperties": false,
            })
        };
        let mut variants: Vec<Value> = workload::kinds().map(|kind| one(kind.name(), kind.about(), kind.schema(generator))).collect();
        variants.push(one(HTTP, "Requests that are answered with the wanted status.", generator.subschema_for::<HttpWorkload>()));
        variants.push(one(
            COMMAND,
            "A command of yours, run again and again; it succeeds with 0.",
            generator.subschema_for::<CommandWorkload>(),
        ));
        json_schema!({ "description": "What a workload does: exactly one of these.", "oneOf": variants })
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the fields that all workloads have are read by their names")]
pub(super) struct HttpWorkload {
    /// The service.
    pub(super) service: String,
    /// The request path.
    #[serde(default)]
    pub(super) path: Option<String>,
    /// The status code that counts as success. Default: 200.
    #[serde(default)]
    pub(super) status: Option<u16>,
    /// The number of concurrent clients.
    #[serde(default)]
    pub(super) clients: Option<u32>,
    /// Operations per second of all clients together: `400/s`.
    #[serde(default)]
    pub(super) rate: Option<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the fields that all workloads have are read by their names")]
pub(super) struct CommandWorkload {
    /// The service whose recovery time this measures.
    #[serde(default)]
    pub(super) service: Option<String>,
    /// The command and its arguments. It gets the environment's variables and `DEVENV_CHAOS_SEQUENCE`.
    pub(super) command: Vec<String>,
    /// The number of commands at a time.
    #[serde(default)]
    pub(super) clients: Option<u32>,
    /// Operations per second of all clients together: `10/s`.
    #[serde(default)]
    pub(super) rate: Option<String>,
}

/// One fault and its time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryDocument {
    /// The name by which the rest of the file refers to it.
    pub(super) id: String,
    /// The time since the start of the timeline.
    #[serde(default)]
    pub(super) at: Option<Period>,
    /// The time after something happened to another entry: `ID.recovered + 3s`, also `ID.injected` and `ID.healed`.
    #[serde(default)]
    pub(super) after: Option<String>,
    /// A condition that starts it: `jobs.outstanding > 100`.
    #[serde(default)]
    pub(super) when: Option<String>,
    /// How long it lasts. Without it, a fault that does not end by itself lasts to the end of the timeline.
    #[serde(default, rename = "for")]
    pub(super) lasting: Option<Period>,
    /// A random delay of up to this much, drawn from the seed. For `at` and `after`.
    #[serde(default)]
    pub(super) spread: Option<Period>,
    /// The name of the fault, as `devenv chaos faults` lists it.
    pub(super) fault: String,
    /// The service.
    pub(super) on: String,
    /// Parameters of the fault.
    #[serde(default)]
    pub(super) set: Settings,
}

/// Parameters by name. The fault defines which exist.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Settings(pub(super) IndexMap<String, Value>);

impl JsonSchema for Settings {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Settings".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": {} })
    }
}

/// The conditions of a passed run.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckDocument {
    /// The largest allowed value: a number, or for `recovery` a duration.
    #[serde(default)]
    pub(super) max: Option<String>,
    /// The most that may be lost: the time from the newest write that survived to the last that was acknowledged.
    #[serde(default, rename = "max-window")]
    pub(super) max_window: Option<Period>,
    /// For `available`: the least fraction of the time, such as `99%`.
    #[serde(default)]
    pub(super) min: Option<String>,
    /// For `available`: the faults during which the service may be down.
    #[serde(default)]
    pub(super) except: Vec<String>,
    /// A command of yours that runs at the end with the environment's variables. The check holds if it exits with 0.
    #[serde(default)]
    pub(super) command: Option<Vec<String>>,
}

impl WorkloadDocument {
    /// The name of the kind of work.
    pub(super) fn name(&self) -> &str {
        &self.0.kind
    }

    /// For work that a kind of service defines; `None` for work that any service can have.
    pub(super) fn kind(&self) -> Option<&'static dyn WorkloadKind> {
        workload::find(self.name())
    }

    pub(super) fn service(&self) -> Option<&str> {
        self.text("service")
    }

    pub(super) fn clients(&self) -> Option<u32> {
        self.0.value["clients"].as_u64().and_then(|clients| u32::try_from(clients).ok())
    }

    pub(super) fn rate(&self) -> Option<&str> {
        self.text("rate")
    }

    pub(super) fn database(&self) -> Option<&str> {
        self.text("database")
    }

    pub(super) fn command(&self) -> Option<CommandWorkload> {
        (self.name() == COMMAND).then(|| self.0.decode().ok())?
    }

    pub(super) fn http(&self) -> Option<HttpWorkload> {
        (self.name() == HTTP).then(|| self.0.decode().ok())?
    }

    pub(super) fn of_kind(&self) -> &OfKind {
        &self.0
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.0.value[field].as_str()
    }
}
