//! Data: scripts and their ledger, snapshots, backups.

use std::sync::Arc;

use axum::{Json, extract::State};
use devenv_api::{AcceptRequest, Backups, EnvironmentTarget, Ledger, LedgerChanges, Snapshots};

use super::{Daemon, failure::Failed};

pub(super) async fn ledger(State(daemon): State<Arc<Daemon>>, Json(target): Json<EnvironmentTarget>) -> Result<Json<Ledger>, Failed> {
    Ok(Json(daemon.environments.require(&target)?.ledger().await?))
}

pub(super) async fn accept(State(daemon): State<Arc<Daemon>>, Json(request): Json<AcceptRequest>) -> Result<Json<Ledger>, Failed> {
    Ok(Json(daemon.environments.require(&request.target)?.accept(&request.path).await?))
}

pub(super) async fn run_again(State(daemon): State<Arc<Daemon>>, Json(request): Json<AcceptRequest>) -> Result<Json<Ledger>, Failed> {
    Ok(Json(daemon.environments.require(&request.target)?.run_again(&request.path).await?))
}

pub(super) async fn changes(State(daemon): State<Arc<Daemon>>, Json(request): Json<AcceptRequest>) -> Result<Json<LedgerChanges>, Failed> {
    Ok(Json(daemon.environments.require(&request.target)?.ledger_changes(&request.path).await?))
}

pub(super) async fn snapshots(State(daemon): State<Arc<Daemon>>, Json(target): Json<EnvironmentTarget>) -> Result<Json<Snapshots>, Failed> {
    let environment = daemon.environments.require(&target)?;
    let record = environment.handle.record().await?;
    Ok(Json(Snapshots { snapshots: record.snapshots.iter().map(|(name, snapshot)| snapshot.shown(name)).collect() }))
}

pub(super) async fn backups(State(daemon): State<Arc<Daemon>>, Json(target): Json<EnvironmentTarget>) -> Result<Json<Backups>, Failed> {
    let environment = daemon.environments.require(&target)?;
    Ok(Json(Backups { backups: crate::backups::Backups::of(daemon.environments.store(), &environment.id).list() }))
}
