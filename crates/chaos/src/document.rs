//! PURE: a scenario as written in its file. The checks, their messages and the schema come from these types.

use devenv_spec::Period;
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Workloads, faults and checks.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Scenario")]
pub(super) struct Document {
    /// What is put to the test, in a line.
    #[serde(default)]
    pub(super) description: Option<String>,
    /// The profile that it runs on; without one, that which the environment runs, else `default`.
    #[serde(default)]
    #[expect(dead_code, reason = "it is parsed on its own, before the other fields can be checked")]
    pub(super) profile: Option<String>,
    /// What is drawn by chance is drawn from this.
    #[serde(default)]
    pub(super) seed: Option<u64>,
    /// How long the whole run may take.
    #[serde(default)]
    pub(super) deadline: Option<Period>,
    /// What is done all the time, by name.
    pub(super) workload: IndexMap<String, WorkloadDocument>,
    /// Conditions under which the timeline begins, and which have to hold again at the end.
    #[serde(default)]
    pub(super) steady: IndexMap<String, String>,
    /// The faults.
    pub(super) timeline: Vec<EntryDocument>,
    /// Conditions under which the run is broken off.
    #[serde(default, rename = "stop-if")]
    pub(super) stop_if: Vec<String>,
    /// The checks, by `WORKLOAD.lost`, `ID.recovery` and so on.
    #[serde(default)]
    pub(super) checks: IndexMap<String, CheckDocument>,
}

/// What a workload does: exactly one of these.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum WorkloadDocument {
    /// Keys that are set, each once.
    RedisKeys(RedisWorkload),
    /// Jobs of a stream, which workers complete: each at least once.
    RedisJobs(RedisWorkload),
    /// Rows that are inserted, each in a transaction of its own.
    PostgresRows(PostgresWorkload),
    /// Records that are produced with `acks=all`.
    KafkaRecords(KafkaWorkload),
    /// Requests that are answered with the wanted status.
    Http(HttpWorkload),
    /// A command of yours, run again and again; it succeeds with 0.
    Command(CommandWorkload),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RedisWorkload {
    /// The service.
    pub(super) service: String,
    /// How many work at once.
    #[serde(default)]
    pub(super) clients: Option<u32>,
    /// Operations a second of all clients together: `400/s`.
    #[serde(default)]
    pub(super) rate: Option<String>,
    /// When a write counts as acknowledged: at the reply, or once the server says that it is on the disk (`WAITAOF`).
    #[serde(default)]
    pub(super) acknowledge: Acknowledge,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Acknowledge {
    #[default]
    Reply,
    Fsynced,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostgresWorkload {
    /// The service.
    pub(super) service: String,
    /// The database, used as its owner. Default: the first one.
    #[serde(default)]
    pub(super) database: Option<String>,
    /// How many work at once.
    #[serde(default)]
    pub(super) clients: Option<u32>,
    /// Operations a second of all clients together: `400/s`.
    #[serde(default)]
    pub(super) rate: Option<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KafkaWorkload {
    /// The service.
    pub(super) service: String,
    /// How many work at once.
    #[serde(default)]
    pub(super) clients: Option<u32>,
    /// Operations a second of all clients together: `400/s`.
    #[serde(default)]
    pub(super) rate: Option<String>,
    /// Whose answer makes a record an acknowledged one: that of all replicas, of the leader, or nobody's.
    #[serde(default)]
    pub(super) acks: Acks,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Acks {
    #[default]
    All,
    Leader,
    None,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpWorkload {
    /// The service.
    pub(super) service: String,
    /// The request path.
    #[serde(default)]
    pub(super) path: Option<String>,
    /// The status code of success. Default: 200.
    #[serde(default)]
    pub(super) status: Option<u16>,
    /// How many work at once.
    #[serde(default)]
    pub(super) clients: Option<u32>,
    /// Operations a second of all clients together: `400/s`.
    #[serde(default)]
    pub(super) rate: Option<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandWorkload {
    /// The service that it is about, for recovery times.
    #[serde(default)]
    pub(super) service: Option<String>,
    /// The command and its arguments. It gets the environment's variables and `DEVENV_CHAOS_SEQUENCE`.
    pub(super) command: Vec<String>,
    /// How many work at once.
    #[serde(default)]
    pub(super) clients: Option<u32>,
    /// Operations a second of all clients together: `10/s`.
    #[serde(default)]
    pub(super) rate: Option<String>,
}

/// One fault at its time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryDocument {
    /// How the rest of the file calls it.
    pub(super) id: String,
    /// When, from the start of the timeline.
    #[serde(default)]
    pub(super) at: Option<Period>,
    /// When, after something happened to another entry: `ID.recovered + 3s`, also `ID.injected` and `ID.healed`.
    #[serde(default)]
    pub(super) after: Option<String>,
    /// When, by a condition: `jobs.outstanding > 100`.
    #[serde(default)]
    pub(super) when: Option<String>,
    /// How long it lasts. Without it, a fault that does not end by itself lasts to the end of the timeline.
    #[serde(default, rename = "for")]
    pub(super) lasting: Option<Period>,
    /// Later by up to this much, drawn from the seed. For `at` and `after`.
    #[serde(default)]
    pub(super) spread: Option<Period>,
    /// Its name, as `devenv chaos faults` lists them.
    pub(super) fault: String,
    /// The service.
    pub(super) on: String,
    /// Parameters of the fault.
    #[serde(default)]
    pub(super) set: Settings,
}

/// Parameters by name; the fault knows what they are.
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

/// What has to hold.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckDocument {
    /// The most that is allowed: a number, or for `recovery` a duration.
    #[serde(default)]
    pub(super) max: Option<String>,
    /// The most that may be lost: the time from the newest write that survived to the last that was acknowledged.
    #[serde(default, rename = "max-window")]
    pub(super) max_window: Option<Period>,
    /// Of `available`: the least share of the time, such as `99%`.
    #[serde(default)]
    pub(super) min: Option<String>,
    /// Of `available`: the faults during which the service need not be.
    #[serde(default)]
    pub(super) except: Vec<String>,
    /// A command of yours, run at the end with the environment's variables; it holds if it ends with 0.
    #[serde(default)]
    pub(super) command: Option<Vec<String>>,
}

impl WorkloadDocument {
    /// The names of the kinds, and the kinds of service that each works on.
    pub(super) fn works_on(&self) -> (&'static str, Option<&'static [&'static str]>) {
        match self {
            Self::RedisKeys(_) => ("redis-keys", Some(&["redis"])),
            Self::RedisJobs(_) => ("redis-jobs", Some(&["redis"])),
            Self::PostgresRows(_) => ("postgres-rows", Some(&["postgres"])),
            Self::KafkaRecords(_) => ("kafka-records", Some(&["kafka", "redpanda"])),
            Self::Http(_) => ("http", None),
            Self::Command(_) => ("command", None),
        }
    }

    pub(super) fn service(&self) -> Option<&str> {
        match self {
            Self::RedisKeys(of) | Self::RedisJobs(of) => Some(&of.service),
            Self::PostgresRows(of) => Some(&of.service),
            Self::KafkaRecords(of) => Some(&of.service),
            Self::Http(of) => Some(&of.service),
            Self::Command(of) => of.service.as_deref(),
        }
    }

    pub(super) fn clients(&self) -> Option<u32> {
        match self {
            Self::RedisKeys(of) | Self::RedisJobs(of) => of.clients,
            Self::PostgresRows(of) => of.clients,
            Self::KafkaRecords(of) => of.clients,
            Self::Http(of) => of.clients,
            Self::Command(of) => of.clients,
        }
    }

    pub(super) fn rate(&self) -> Option<&str> {
        match self {
            Self::RedisKeys(of) | Self::RedisJobs(of) => of.rate.as_deref(),
            Self::PostgresRows(of) => of.rate.as_deref(),
            Self::KafkaRecords(of) => of.rate.as_deref(),
            Self::Http(of) => of.rate.as_deref(),
            Self::Command(of) => of.rate.as_deref(),
        }
    }
}
