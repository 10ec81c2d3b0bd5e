//! Data: scripts and their ledger, reset and its undoing, snapshots, forks.

use std::{sync::Arc, time::Instant};

use axum::{Json, extract::State, response::Response};
use devenv_api::{
    AcceptRequest, ApiError, ApplyRequest, EnvironmentTarget, Ledger, NamedRequest, ServicesRequest, Snapshot, Snapshots, Status, UpMessage,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    environment::{finish, names, ready_or_failed},
    failure::Failed,
    stream,
};
use crate::daemon::{Daemon, environments::Environment};

pub(super) async fn apply(State(daemon): State<Arc<Daemon>>, Json(request): Json<ApplyRequest>) -> Result<Response, Failed> {
    let environment = daemon.environments.require(&request.target)?;
    let names = names(&request.services)?;
    let begun = Instant::now();
    Ok(stream::told(&environment, || {
        let environment = environment.clone();
        async move {
            let _turn = environment.turn.clone().lock_owned().await;
            match environment.apply(&names, request.seed, request.set.as_deref()).await {
                Ok(()) => UpMessage::Done(Status { elapsed_ms: Some(begun.elapsed().as_millis() as u64), ..environment.handle.status() }),
                Err(error) => UpMessage::Failed(error),
            }
        }
    }))
}

pub(super) async fn ledger(State(daemon): State<Arc<Daemon>>, Json(target): Json<EnvironmentTarget>) -> Result<Json<Ledger>, Failed> {
    Ok(Json(daemon.environments.require(&target)?.ledger().await?))
}

pub(super) async fn accept(State(daemon): State<Arc<Daemon>>, Json(request): Json<AcceptRequest>) -> Result<Json<Ledger>, Failed> {
    Ok(Json(daemon.environments.require(&request.target)?.accept(&request.path).await?))
}

pub(super) async fn reset(State(daemon): State<Arc<Daemon>>, Json(request): Json<ServicesRequest>) -> Result<Response, Failed> {
    let names = names(&request.services)?;
    moved(&daemon, &request.target, |daemon, environment| async move { daemon.environments.reset(&environment, &names).await })
}

pub(super) async fn restore_snapshot(State(daemon): State<Arc<Daemon>>, Json(request): Json<NamedRequest>) -> Result<Response, Failed> {
    moved(&daemon, &request.target.clone(), |daemon, environment| async move {
        daemon.environments.restore_snapshot(&environment, &request.name).await
    })
}

/// Moves services to other volumes and waits until all are ready again.
fn moved<F>(
    daemon: &Arc<Daemon>,
    target: &EnvironmentTarget,
    work: impl FnOnce(Arc<Daemon>, Environment) -> F + Send + 'static,
) -> Result<Response, Failed>
where
    F: Future<Output = Result<u64, ApiError>> + Send + 'static,
{
    let environment = daemon.environments.require(target)?;
    let begun = Instant::now();
    let daemon = daemon.clone();
    Ok(stream::told(&environment, || {
        let environment = environment.clone();
        let (told, heard) = oneshot::channel();
        let environments = daemon.environments.clone();
        // Runs to its end even if the client disconnects, which must not leave services half switched.
        environments.look_after(async move {
            let _turn = environment.turn.clone().lock_owned().await;
            let last = match work(daemon, environment.clone()).await {
                Ok(turn) => finish(Ok(environment.handle.until_up(turn).await), begun, None, &environment, ready_or_failed),
                Err(error) => UpMessage::Failed(error),
            };
            // The client may have gone away.
            let _ = told.send(last);
        });
        async move {
            heard.await.unwrap_or_else(|_| UpMessage::Failed(ApiError::new(devenv_api::ErrorCode::Internal, "the daemon cancelled it")))
        }
    }))
}

pub(super) async fn snapshots(State(daemon): State<Arc<Daemon>>, Json(target): Json<EnvironmentTarget>) -> Result<Json<Snapshots>, Failed> {
    let environment = daemon.environments.require(&target)?;
    Ok(Json(Snapshots { snapshots: daemon.environments.snapshots(&environment).await? }))
}

pub(super) async fn save_snapshot(State(daemon): State<Arc<Daemon>>, Json(request): Json<NamedRequest>) -> Result<Json<Snapshot>, Failed> {
    let environment = daemon.environments.require(&request.target)?;
    let _turn = environment.turn.lock().await;
    Ok(Json(daemon.environments.save_snapshot(&environment, &request.name).await?))
}

pub(super) async fn remove_snapshot(State(daemon): State<Arc<Daemon>>, Json(request): Json<NamedRequest>) -> Result<Json<Value>, Failed> {
    let environment = daemon.environments.require(&request.target)?;
    let _turn = environment.turn.lock().await;
    daemon.environments.remove_snapshot(&environment, &request.name).await?;
    Ok(Json(json!({})))
}

pub(super) async fn fork(State(daemon): State<Arc<Daemon>>, Json(request): Json<NamedRequest>) -> Result<Json<Status>, Failed> {
    let environment = daemon.environments.require(&request.target)?;
    let _turn = environment.turn.lock().await;
    let forked = daemon.environments.fork(&environment, &request.name).await?;
    Ok(Json(forked.handle.status()))
}

pub(super) async fn undo(State(daemon): State<Arc<Daemon>>, Json(target): Json<EnvironmentTarget>) -> Result<Json<Vec<String>>, Failed> {
    let environment = daemon.environments.require(&target)?;
    let _turn = environment.turn.lock().await;
    let undone = environment.handle.undo().await??;
    if let Some(turn) = undone.turn {
        ready_or_failed(&environment.handle.until_up(turn).await?)?;
    }
    Ok(Json(undone.volumes))
}
