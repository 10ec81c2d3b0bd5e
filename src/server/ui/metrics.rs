//! The past of metrics and alert rules for the page, from the service of the environment that keeps them.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use devenv_api::{AlertRule, EnvironmentTarget, MetricSeries};
use serde::Deserialize;

use super::Page;
use crate::server::failure::Failed;

#[derive(Deserialize)]
pub(super) struct HistoryRequest {
    target: EnvironmentTarget,
    names: Vec<String>,
    seconds: u64,
}

#[derive(Deserialize)]
pub(super) struct AlertsRequest {
    target: EnvironmentTarget,
}

pub(super) async fn history(State(page): State<Arc<Page>>, Json(asked): Json<HistoryRequest>) -> Result<Json<Vec<MetricSeries>>, Failed> {
    let environment = page.daemon.environments.require(&asked.target)?;
    Ok(Json(environment.metric_series(asked.names, Duration::from_secs(asked.seconds)).await?))
}

pub(super) async fn alerts(State(page): State<Arc<Page>>, Json(asked): Json<AlertsRequest>) -> Result<Json<Vec<AlertRule>>, Failed> {
    Ok(Json(page.daemon.environments.require(&asked.target)?.alert_rules().await?))
}
