//! What is in an environment: data of servers, traces, current metrics. Only producing a record changes anything.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EnvironmentTarget;

/// What a server holds: databases with their tables, keys, topics, consumer groups, buckets.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct OutlineRequest {
    pub target: EnvironmentTarget,
    pub service: String,
    /// Only items whose name contains this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// The contents of a server, without the data itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outline {
    pub groups: Vec<DataGroup>,
}

/// Part of a server: a database, the keys of a numbered database, all topics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DataGroup {
    pub name: String,
    pub kind: DataGroupKind,
    pub items: Vec<DataItem>,
    /// There are more items than these.
    pub more: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DataGroupKind {
    Database,
    Keys,
    Topics,
    ConsumerGroups,
    Buckets,
}

/// One thing that has rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DataItem {
    /// As a request for its rows names it: a table with its schema, a key, a topic, a group.
    pub name: String,
    pub kind: DataItemKind,
    /// An estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// More about it, for people, such as `string, ttl 590 s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DataItemKind {
    Table,
    View,
    Key,
    Topic,
    ConsumerGroup,
    Bucket,
    Object,
}

/// The rows of one item: of a table, the elements of a key, the records of a topic (newest first), the partitions of a consumer group.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RowsRequest {
    pub target: EnvironmentTarget,
    pub service: String,
    /// The name of a group of the outline.
    pub group: String,
    /// The name of an item of that group.
    pub item: String,
    /// How many rows to leave out.
    #[serde(default)]
    pub offset: u64,
    /// At most 500.
    #[serde(default = "page")]
    pub limit: u32,
    /// Only rows that contain this text in one of their columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Default: by the primary key, if the table has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
}

/// The order of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sort {
    pub column: String,
    #[serde(default)]
    pub descending: bool,
}

/// Rows as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rows {
    pub columns: Vec<Column>,
    /// `null` is the database's own null.
    pub rows: Vec<Vec<Option<String>>>,
    /// There are more rows than these.
    pub more: bool,
    /// What a person should know of this answer, such as that long values are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Column {
    pub name: String,
    /// The server's name of the type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// One statement that only reads. It runs as a role that cannot write, in a read-only transaction, for at most 5 s.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct QueryRequest {
    pub target: EnvironmentTarget,
    pub service: String,
    /// Default: the first database of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The statement.
    pub text: String,
    /// At most 500.
    #[serde(default = "page")]
    pub limit: u32,
}

/// One record for a topic.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ProduceRequest {
    pub target: EnvironmentTarget,
    pub service: String,
    pub topic: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub value: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// Where the record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Produced {
    pub partition: i32,
    pub offset: i64,
}

/// Traces of the environment's tracing service, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TracesRequest {
    pub target: EnvironmentTarget,
    /// Exactly this trace; the other fields are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Only traces with a span of this traced service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only traces with a span of this operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_duration_ms: Option<u64>,
    /// Only traces with a span that has all of these tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// At most 100.
    #[serde(default = "traces")]
    pub limit: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traces {
    /// The traced services that are known.
    pub services: Vec<String>,
    pub traces: Vec<Trace>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    pub id: String,
    /// Microseconds since 1970.
    pub start_us: u64,
    pub duration_us: u64,
    /// By start.
    pub spans: Vec<Span>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    pub id: String,
    /// The span that this one is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    pub service: String,
    pub operation: String,
    /// Microseconds since 1970.
    pub start_us: u64,
    pub duration_us: u64,
    pub error: bool,
    pub tags: BTreeMap<String, String>,
}

/// The current metrics of an environment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MetricsRequest {
    pub target: EnvironmentTarget,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metrics {
    pub samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Empty for the environment itself.
    pub service: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
    /// `bytes`, `seconds` or `ratio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// What a metric was over a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricSeries {
    /// Empty for the environment itself.
    pub service: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970.
    pub times: Vec<f64>,
    pub values: Vec<f64>,
}

/// A rule that says when something is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRule {
    pub group: String,
    pub name: String,
    pub expression: String,
    /// Seconds for which the expression must hold.
    pub for_s: f64,
    /// `inactive`, `pending`, `firing` or `unknown`.
    pub state: String,
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    pub alerts: Vec<Alert>,
    /// Why it cannot be evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a rule has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    pub value: String,
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

fn page() -> u32 {
    100
}

fn traces() -> u32 {
    20
}
