//! Faults: inject, heal, list.

use std::sync::Arc;

use axum::{Json, extract::State};
use devenv_api::{Fault, Faults, FaultsRequest, HealRequest, Impairments, ImpairmentsRequest, InjectRequest};

use super::{Daemon, failure::Failed};

pub(super) async fn inject(State(daemon): State<Arc<Daemon>>, Json(request): Json<InjectRequest>) -> Result<Json<Fault>, Failed> {
    Ok(Json(daemon.environments.inject(request).await?))
}

pub(super) async fn rehearse(State(daemon): State<Arc<Daemon>>, Json(request): Json<InjectRequest>) -> Result<Json<()>, Failed> {
    Ok(Json(daemon.environments.rehearse(request).await?))
}

pub(super) async fn heal(State(daemon): State<Arc<Daemon>>, Json(request): Json<HealRequest>) -> Result<Json<Faults>, Failed> {
    Ok(Json(Faults { faults: daemon.environments.heal(&request).await? }))
}

pub(super) async fn status(State(daemon): State<Arc<Daemon>>, Json(request): Json<FaultsRequest>) -> Json<Faults> {
    Json(Faults { faults: daemon.environments.faults(&request) })
}

pub(super) async fn impairments(
    State(daemon): State<Arc<Daemon>>,
    Json(request): Json<ImpairmentsRequest>,
) -> Result<Json<Vec<Impairments>>, Failed> {
    Ok(Json(daemon.environments.impairments(&request).await?))
}
