//! Faults: inject, heal, list.

use std::sync::Arc;

use axum::{Json, extract::State};
use devenv_api::{Fault, Faults, FaultsRequest, HealRequest, Impairments, ImpairmentsRequest, InjectRequest};

use super::{Daemon, failure::Failed};

pub(super) async fn inject(State(daemon): State<Arc<Daemon>>, Json(request): Json<InjectRequest>) -> Result<Json<Fault>, Failed> {
    let environment = daemon.environments.require(&request.target)?;
    // It does not fall asleep again before the fault is on record, which keeps it awake.
    let _used = environment.activity.begin();
    // A name that is none is reported by the injection.
    if let Ok(name) = request.service.parse() {
        environment.awake(&[name], "a fault is injected into it").await?;
    }
    Ok(Json(environment.faults.inject(request).await?))
}

pub(super) async fn check(State(daemon): State<Arc<Daemon>>, Json(request): Json<InjectRequest>) -> Result<Json<()>, Failed> {
    Ok(Json(daemon.environments.require(&request.target)?.faults.check(request).await?))
}

pub(super) async fn heal(State(daemon): State<Arc<Daemon>>, Json(request): Json<HealRequest>) -> Result<Json<Faults>, Failed> {
    let healed = match daemon.environments.find(&request.target) {
        Some(environment) => environment.faults.heal(&request.ids).await?,
        None => Vec::new(),
    };
    Ok(Json(Faults { faults: healed }))
}

pub(super) async fn status(State(daemon): State<Arc<Daemon>>, Json(request): Json<FaultsRequest>) -> Json<Faults> {
    let environment = daemon.environments.find(&request.target);
    Json(Faults { faults: environment.map(|environment| environment.faults.list(request.healed)).unwrap_or_default() })
}

pub(super) async fn impairments(
    State(daemon): State<Arc<Daemon>>,
    Json(request): Json<ImpairmentsRequest>,
) -> Result<Json<Vec<Impairments>>, Failed> {
    Ok(Json(daemon.environments.require(&request.target)?.faults.impairments(&request.services).await?))
}
