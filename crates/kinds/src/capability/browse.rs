//! What a server holds, for people and agents who look at it. Nothing here writes, but for producing a record.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use devenv_api::{AlertRule, DataGroup, MetricSeries, Produced, Rows, Sort, Traces};
use devenv_secrets::SecretError;
use devenv_spec::ServiceSpec;

use super::{ProvisionContext, ProvisionError};

/// The contents of one kind of server. Each call is one short connection; the generic part ([`crate::browse`]) checks limits and
/// sets the deadline.
#[async_trait]
pub trait Browse: Send + Sync {
    /// Groups and their items; `filter`: only items whose name contains this text.
    async fn outline(&self, service: &ServiceSpec, filter: Option<&str>, cx: &ProvisionContext) -> Result<Vec<DataGroup>, BrowseError>;

    async fn rows(&self, service: &ServiceSpec, page: &RowsPage, cx: &ProvisionContext) -> Result<Rows, BrowseError>;

    /// One statement that only reads: the server refuses everything else.
    async fn query(&self, _service: &ServiceSpec, _query: &ReadQuery, _cx: &ProvisionContext) -> Result<Rows, BrowseError> {
        Err(BrowseError::Unsupported("take a query"))
    }

    async fn produce(&self, _service: &ServiceSpec, _record: &NewRecord, _cx: &ProvisionContext) -> Result<Produced, BrowseError> {
        Err(BrowseError::Unsupported("take a record"))
    }
}

/// The traces that one kind of server collects.
#[async_trait]
pub trait TraceSource: Send + Sync {
    async fn traces(&self, service: &ServiceSpec, query: &TraceQuery) -> Result<Traces, BrowseError>;

    /// Takes spans: a request of the OpenTelemetry protocol, in JSON.
    async fn collect(&self, service: &ServiceSpec, request: &serde_json::Value) -> Result<(), BrowseError>;
}

/// The past of metrics that one kind of server keeps, and its alert rules.
#[async_trait]
pub trait MetricHistory: Send + Sync {
    async fn series(&self, service: &ServiceSpec, query: &MetricsQuery) -> Result<Vec<MetricSeries>, BrowseError>;

    async fn alert_rules(&self, service: &ServiceSpec) -> Result<Vec<AlertRule>, BrowseError>;
}

/// A part of an item's rows.
#[derive(Debug, Clone)]
pub struct RowsPage {
    pub group: String,
    pub item: String,
    pub offset: u64,
    pub limit: u32,
    /// Only rows that contain this text.
    pub filter: Option<String>,
    pub sort: Option<Sort>,
}

/// One statement.
#[derive(Debug, Clone)]
pub struct ReadQuery {
    /// Default: the first one.
    pub database: Option<String>,
    pub text: String,
    pub limit: u32,
    /// After this, the server ends the statement.
    pub time: Duration,
}

/// One record for a topic.
#[derive(Debug, Clone)]
pub struct NewRecord {
    pub topic: String,
    pub key: Option<String>,
    pub value: String,
    pub headers: BTreeMap<String, String>,
}

/// Which traces are wanted.
#[derive(Debug, Clone, Default)]
pub struct TraceQuery {
    /// Exactly this one.
    pub id: Option<String>,
    pub service: Option<String>,
    pub operation: Option<String>,
    pub min_duration: Option<Duration>,
    pub tags: BTreeMap<String, String>,
    pub limit: u32,
}

/// Which metrics are wanted.
#[derive(Debug, Clone)]
pub struct MetricsQuery {
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub until_s: u64,
    /// The time before that.
    pub over: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum BrowseError {
    /// The server's own message.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    NotFound(String),
    #[error("a service of this kind does not {0}")]
    Unsupported(&'static str),
    #[error("cannot read a secret")]
    Secret(#[from] SecretError),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

impl From<ProvisionError> for BrowseError {
    fn from(error: ProvisionError) -> Self {
        match error {
            ProvisionError::Secret(error) => Self::Secret(error),
            error => Self::Refused(error.to_string()),
        }
    }
}
