//! What is in an environment now: data of its servers, traces, metrics. Nothing here changes anything, but for one record that is
//! produced on request.

use std::time::Duration;

use devenv_api::{
    AlertRule, ApiError, ErrorCode, MetricSeries, Metrics, Outline, ProduceRequest, Produced, QueryRequest, Rows, RowsRequest, Traces,
    TracesRequest,
};
use devenv_kinds::{
    browse::{self, BrowseError, MetricsQuery, NewRecord, ReadQuery, RowsPage, TraceQuery},
    provision::ProvisionContext,
};
use devenv_spec::ServiceSpec;

use super::Environment;
use crate::{error::describe, reconcile::CommandError};

/// The longest statement, in bytes.
const LONGEST_STATEMENT: usize = 64 << 10;
/// The largest record that can be produced, in bytes.
const LARGEST_RECORD: usize = 1 << 20;

impl Environment {
    pub(crate) async fn outline(&self, service: &str, filter: Option<&str>) -> Result<Outline, ApiError> {
        let service = self.running(service).await?;
        browse::outline(&service, filter, &self.browsing()).await.map_err(|error| refused(&error))
    }

    pub(crate) async fn rows(&self, request: RowsRequest) -> Result<Rows, ApiError> {
        let service = self.running(&request.service).await?;
        let RowsRequest { group, item, offset, limit, filter, sort, .. } = request;
        let page = RowsPage { group, item, offset, limit, filter, sort };
        browse::rows(&service, &page, &self.browsing()).await.map_err(|error| refused(&error))
    }

    /// The rows of one statement that only reads.
    pub(crate) async fn query(&self, request: QueryRequest) -> Result<Rows, ApiError> {
        bounded("statement", request.text.len(), LONGEST_STATEMENT)?;
        let service = self.running(&request.service).await?;
        let query = ReadQuery { database: request.database, text: request.text, limit: request.limit, time: browse::STATEMENT };
        browse::query(&service, &query, &self.browsing()).await.map_err(|error| refused(&error))
    }

    pub(crate) async fn produce(&self, request: ProduceRequest) -> Result<Produced, ApiError> {
        let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let size = request.value.len() + request.key.as_ref().map_or(0, String::len) + headers;
        bounded("record", size, LARGEST_RECORD)?;
        let service = self.running(&request.service).await?;
        let record = NewRecord { topic: request.topic, key: request.key, value: request.value, headers: request.headers };
        browse::produce(&service, &record, &self.browsing()).await.map_err(|error| refused(&error))
    }

    /// From the first service of the environment that collects traces.
    pub(crate) async fn traces(&self, request: TracesRequest) -> Result<Traces, ApiError> {
        let spec = self.spec().await?;
        let query = TraceQuery {
            id: request.id,
            service: request.service,
            operation: request.operation,
            min_duration: request.min_duration_ms.map(Duration::from_millis),
            tags: request.tags,
            limit: request.limit,
        };
        let Some(traces) = browse::traces(spec.services.values(), &query).await else {
            return Err(ApiError::new(ErrorCode::NotFound, "no service of this environment collects traces")
                .hint("add one to the profile, as in `devenv init jaeger`"));
        };
        traces.map_err(|error| refused(&error))
    }

    /// The current metrics of the environment, its services and their servers.
    pub(crate) async fn metrics(&self) -> Result<Metrics, ApiError> {
        Ok(Metrics { samples: self.metrics.samples().await.ok_or(CommandError::NotUp)? })
    }

    /// From the service of the environment that keeps metrics; without one, what the daemon has measured in the last hour.
    pub(crate) async fn metric_series(&self, names: Vec<String>, over: Duration) -> Result<Vec<MetricSeries>, ApiError> {
        let until_s = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
        let query = MetricsQuery { names, until_s, over };
        match browse::metric_series(self.spec().await?.services.values(), &query).await {
            Some(series) => series.map_err(|error| refused(&error)),
            None => Ok(self.metrics.past(&query.names, over)),
        }
    }

    pub(crate) async fn alert_rules(&self) -> Result<Vec<AlertRule>, ApiError> {
        let rules = browse::alert_rules(self.spec().await?.services.values()).await;
        rules.ok_or_else(no_history)?.map_err(|error| refused(&error))
    }

    async fn running(&self, name: &str) -> Result<ServiceSpec, ApiError> {
        self.activity.note();
        let spec = self.spec().await?;
        let (name, service) = spec.services.get_key_value(name).ok_or_else(|| CommandError::NoService(name.to_owned()))?;
        self.awake(std::slice::from_ref(name), "its data is looked at").await?;
        self.instance(name)?;
        Ok(service.clone())
    }

    fn browsing(&self) -> ProvisionContext {
        ProvisionContext { vault: self.vault.clone(), authority: Some(self.runtime.authority().to_owned()), again: true }
    }
}

fn no_history() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "no service of this environment keeps metrics").hint("add one of the kind prometheus to the profile")
}

fn bounded(what: &str, size: usize, largest: usize) -> Result<(), ApiError> {
    if size <= largest {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::Usage, format!("the {what} has {size} bytes, and at most {largest} are allowed")))
}

fn refused(error: &BrowseError) -> ApiError {
    let code = match error {
        BrowseError::Refused(_) | BrowseError::Secret(_) => ErrorCode::Failed,
        BrowseError::NotFound(_) => ErrorCode::NotFound,
        BrowseError::Unsupported(_) => ErrorCode::Usage,
        BrowseError::Late(_) => ErrorCode::TimedOut,
    };
    ApiError::new(code, describe(error))
}
