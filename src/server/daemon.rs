//! The daemon itself.

use std::sync::Arc;

use axum::{Json, extract::State};
use devenv_api::DaemonStatus;
use serde_json::{Value, json};

use super::Daemon;

pub(super) async fn status(State(daemon): State<Arc<Daemon>>) -> Json<DaemonStatus> {
    Json(DaemonStatus {
        running: true,
        pid: Some(std::process::id()),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        socket: daemon.paths.socket().display().to_string(),
        uptime_ms: Some(daemon.started.elapsed().as_millis() as u64),
        engine: Some(daemon.engine.clone()),
        environments: daemon.environments.statuses(),
    })
}

pub(super) async fn stop(State(daemon): State<Arc<Daemon>>) -> Json<Value> {
    daemon.stop.cancel();
    Json(json!({}))
}

/// What this interface is.
pub(super) async fn openapi() -> Json<Value> {
    Json(crate::openapi::document())
}
