//! What is in an environment: data, traces, metrics.

use std::sync::Arc;

use axum::{Json, extract::State};
use devenv_api::{
    Metrics, MetricsRequest, Outline, OutlineRequest, ProduceRequest, Produced, QueryRequest, Rows, RowsRequest, Traces, TracesRequest,
};

use super::{Daemon, failure::Failed};

pub(super) async fn outline(State(daemon): State<Arc<Daemon>>, Json(request): Json<OutlineRequest>) -> Result<Json<Outline>, Failed> {
    let environment = daemon.environments.require(&request.target)?;
    Ok(Json(environment.outline(&request.service, request.filter.as_deref()).await?))
}

pub(super) async fn rows(State(daemon): State<Arc<Daemon>>, Json(request): Json<RowsRequest>) -> Result<Json<Rows>, Failed> {
    Ok(Json(daemon.environments.require(&request.target)?.rows(request).await?))
}

pub(super) async fn query(State(daemon): State<Arc<Daemon>>, Json(request): Json<QueryRequest>) -> Result<Json<Rows>, Failed> {
    Ok(Json(daemon.environments.require(&request.target)?.query(request).await?))
}

pub(super) async fn produce(State(daemon): State<Arc<Daemon>>, Json(request): Json<ProduceRequest>) -> Result<Json<Produced>, Failed> {
    Ok(Json(daemon.environments.require(&request.target)?.produce(request).await?))
}

pub(super) async fn traces(State(daemon): State<Arc<Daemon>>, Json(request): Json<TracesRequest>) -> Result<Json<Traces>, Failed> {
    Ok(Json(daemon.environments.require(&request.target)?.traces(request).await?))
}

pub(super) async fn metrics(State(daemon): State<Arc<Daemon>>, Json(request): Json<MetricsRequest>) -> Result<Json<Metrics>, Failed> {
    Ok(Json(daemon.environments.require(&request.target)?.metrics().await?))
}
