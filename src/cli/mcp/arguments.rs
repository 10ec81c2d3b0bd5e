//! The arguments of the tools; the comments are what agents read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Logs {
    /// Only these services. Default: all.
    #[serde(default)]
    pub(super) services: Vec<String>,
    /// How many of the last lines, at most 2000. Default: 200.
    #[serde(default)]
    pub(super) lines: Option<usize>,
    /// Only lines that match this regular expression.
    #[serde(default)]
    pub(super) grep: Option<String>,
    /// Only lines since this time, in RFC 3339.
    #[serde(default)]
    pub(super) since: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Events {
    /// Only events of this service.
    #[serde(default)]
    pub(super) service: Option<String>,
    /// How many of the last events, at most 500. Default: 50.
    #[serde(default)]
    pub(super) count: Option<usize>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    /// The service to explain.
    pub(super) service: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Outline {
    /// The service to look into.
    pub(super) service: String,
    /// Only items whose name contains this text.
    #[serde(default)]
    pub(super) filter: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// The service, a PostgreSQL or MariaDB server.
    pub(super) service: String,
    /// One statement.
    pub(super) sql: String,
    /// Default: the service's first database.
    #[serde(default)]
    pub(super) database: Option<String>,
    /// The most rows, up to 500. Default: 100.
    #[serde(default)]
    pub(super) limit: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Traces {
    /// Exactly this trace.
    #[serde(default)]
    pub(super) id: Option<String>,
    /// Only traces of this traced service.
    #[serde(default)]
    pub(super) service: Option<String>,
    #[serde(default)]
    pub(super) operation: Option<String>,
    /// Only traces that took at least this long.
    #[serde(default)]
    pub(super) min_duration_ms: Option<u64>,
    /// The most traces, up to 100. Default: 10.
    #[serde(default)]
    pub(super) limit: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Up {
    /// The profile. Default: the one that the environment runs, else `default`.
    #[serde(default)]
    pub(super) profile: Option<String>,
    /// Only these services and what they depend on. Default: all.
    #[serde(default)]
    pub(super) services: Vec<String>,
    /// The time limit. Default: 300.
    #[serde(default)]
    pub(super) timeout_seconds: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Down {
    /// Also remove the data. It needs the scope `destroy`.
    #[serde(default)]
    pub(super) volumes: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Services {
    /// At least one service.
    #[schemars(length(min = 1))]
    pub(super) services: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotName {
    /// The snapshot's name.
    pub(super) name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Inject {
    /// The fault, such as `latency`, `partition`, `pause`, `kill`. An unknown one is refused with the list of all.
    pub(super) fault: String,
    /// The service to break.
    pub(super) service: String,
    /// How long it lasts. Default: 60; faults that happen once have no duration.
    #[serde(default)]
    pub(super) seconds: Option<u64>,
    /// Parameters of the fault, such as `{"delay": "80ms"}`.
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Heal {
    /// The ids of the faults. Default: all.
    #[serde(default)]
    pub(super) ids: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunScenario {
    /// The name of a scenario in `chaos/` of the project, or of a built-in one.
    pub(super) scenario: String,
    /// Seed for random choices. Default: the scenario's own.
    #[serde(default)]
    pub(super) seed: Option<u64>,
}
