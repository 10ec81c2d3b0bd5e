//! Leases: the connection itself is the claim. And what a failed run leaves to be read.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use devenv_api::{BundleRequest, HoldRequest, LEASE_PROTOCOL, LeaseRequest};
use hyper_util::rt::TokioIo;

use super::{
    exec::{switch, upgrade},
    failure::Failed,
    stream::{ndjson, received},
};
use crate::daemon::Daemon;

pub(super) async fn lease(State(daemon): State<Arc<Daemon>>, request: Request) -> Result<Response, Failed> {
    let (connection, wanted) = upgrade::<LeaseRequest>(request).await?;
    let environments = daemon.environments.clone();
    daemon.environments.look_after(async move {
        if let Ok(connection) = connection.await {
            environments.hold_lease(TokioIo::new(connection), wanted).await;
        }
    });
    Ok(switch(LEASE_PROTOCOL))
}

pub(super) async fn hold(State(daemon): State<Arc<Daemon>>, request: Request) -> Result<Response, Failed> {
    let (connection, wanted) = upgrade::<HoldRequest>(request).await?;
    let environments = daemon.environments.clone();
    daemon.environments.look_after(async move {
        if let Ok(connection) = connection.await {
            environments.hold_environment(TokioIo::new(connection), wanted).await;
        }
    });
    Ok(switch(LEASE_PROTOCOL))
}

pub(super) async fn bundle(State(daemon): State<Arc<Daemon>>, Json(request): Json<BundleRequest>) -> Result<Response, Failed> {
    Ok(ndjson(received(daemon.bundle(request).await?)))
}
