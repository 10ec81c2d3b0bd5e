//! Backups, imports and exports.

use std::sync::Arc;

use axum::{Json, extract::State};
use devenv_api::{
    ApiError, Backup, Backups, EnvironmentTarget, ErrorCode, RestoreRequest, Restored, ServicesRequest, TransferRequest, Transferred,
};

use super::{environment::names, failure::Failed};
use crate::daemon::{Daemon, environments::Environment};

pub(super) async fn list(State(daemon): State<Arc<Daemon>>, Json(target): Json<EnvironmentTarget>) -> Result<Json<Backups>, Failed> {
    Ok(Json(daemon.environments.backups(&daemon.environments.require(&target)?)))
}

pub(super) async fn save(State(daemon): State<Arc<Daemon>>, Json(request): Json<ServicesRequest>) -> Result<Json<Backup>, Failed> {
    let names = names(&request.services)?;
    to_its_end(daemon, &request.target, async move |daemon, environment| daemon.environments.save_backup(&environment, &names).await).await
}

pub(super) async fn restore(State(daemon): State<Arc<Daemon>>, Json(request): Json<RestoreRequest>) -> Result<Json<Restored>, Failed> {
    let from = daemon.environments.require(request.from.as_ref().unwrap_or(&request.target))?;
    to_its_end(daemon, &request.target, async move |daemon, environment| {
        daemon.environments.restore_backup(&environment, &from, &request.id).await
    })
    .await
}

pub(super) async fn import(State(daemon): State<Arc<Daemon>>, Json(request): Json<TransferRequest>) -> Result<Json<Transferred>, Failed> {
    to_its_end(daemon, &request.target.clone(), async move |daemon, environment| daemon.environments.import(&environment, &request).await)
        .await
}

pub(super) async fn export(State(daemon): State<Arc<Daemon>>, Json(request): Json<TransferRequest>) -> Result<Json<Transferred>, Failed> {
    to_its_end(daemon, &request.target.clone(), async move |daemon, environment| daemon.environments.export(&environment, &request).await)
        .await
}

/// In its turn, on a thread of its own until it is done: a client that goes away must not leave data half moved.
async fn to_its_end<T: Send + 'static>(
    daemon: Arc<Daemon>,
    target: &EnvironmentTarget,
    work: impl AsyncFnOnce(Arc<Daemon>, Environment) -> Result<T, ApiError> + Send + 'static,
) -> Result<Json<T>, Failed> {
    let environment = daemon.environments.require(target)?;
    let task = tokio::task::spawn_blocking(move || {
        tokio::runtime::Handle::current().block_on(async {
            let _turn = environment.turn.clone().lock_owned().await;
            work(daemon, environment).await
        })
    });
    let done = task.await.map_err(|_| Failed(ApiError::new(ErrorCode::Internal, "the daemon cancelled it")))?;
    Ok(Json(done?))
}
