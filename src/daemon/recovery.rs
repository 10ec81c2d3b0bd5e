//! Takes over what an earlier daemon left: adopts running services, continues interrupted operations, removes orphans.

use std::collections::HashMap;

use devenv_api::ApiError;

use super::{Environments, environments::Environment, golden, internal, no_engine};
use crate::{
    reconcile::Observed,
    spec::EnvironmentId,
    store::{Goal, Record},
};

/// Everything of this owner that the engine has, by environment.
pub(super) async fn observe(environments: &Environments) -> Result<HashMap<EnvironmentId, Observed>, ApiError> {
    let shared = &environments.shared;
    let (containers, networks) = tokio::try_join!(shared.engine.containers(&shared.owner), shared.engine.networks(&shared.owner))
        .map_err(|error| no_engine(&error))?;
    let mut found: HashMap<EnvironmentId, Observed> = HashMap::new();
    for container in containers {
        found.entry(container.labels.environment.clone()).or_default().containers.push(container);
    }
    for network in networks {
        let environment = network.labels.environment.clone();
        found.entry(environment).or_default().networks.push(network);
    }
    Ok(found)
}

/// Starts a task for each environment on record, with what is there of it.
pub(super) async fn adopt(environments: &Environments) -> Result<(), ApiError> {
    let records = environments.shared.store.records().map_err(internal)?;
    lease_again(environments, &records);
    golden::discard_unfinished(&environments.shared.store, environments.engine().as_ref()).await;
    let mut observed = observe(environments).await?;
    let mut holders = Vec::new();
    for record in records {
        let mut observed = observed.remove(&record.id).unwrap_or_default();
        holders.extend(observed.containers.extract_if(.., |container| container.labels.role.as_deref() == Some(super::faults::ROLE)));
        adopt_one(environments, record, observed).await?;
    }
    for (id, nobodys) in observed {
        tracing::info!(environment = %id, "Removing resources of an unknown environment.");
        reap(environments, nobodys).await;
    }
    environments.take_up_faults(holders).await;
    Ok(())
}

/// Starts the tasks of one environment with what is there of it.
pub(super) async fn adopt_one(environments: &Environments, record: Record, mut observed: Observed) -> Result<Environment, ApiError> {
    reap_helpers(environments, &mut observed).await;
    let processes = environments.processes(&record.id);
    observed.processes = Some(processes.adopt().await);
    let watched = record.spec.clone().filter(|_| record.goal == Goal::Up);
    let environment = environments.begin(record, observed, processes.clone())?;
    if let Some(spec) = watched {
        environment.reloader.watch_adopted(&spec, &processes).await;
    }
    environments.resume_all(&environment).await;
    Ok(environment)
}

/// Ports that environments had stay theirs.
fn lease_again(environments: &Environments, records: &[Record]) {
    let mut leases = environments.shared.leases.lock().expect("no code panics while it holds this lock");
    for record in records {
        for (service, ports) in &record.ports {
            for host in ports.values() {
                leases.adopt(&record.id, service, *host);
            }
        }
    }
}

/// Helpers do one thing and go; one that is there now lost its daemon half way.
async fn reap_helpers(environments: &Environments, observed: &mut Observed) {
    let (helpers, services) = observed.containers.drain(..).partition(|container| container.labels.role.is_some());
    observed.containers = services;
    reap(environments, Observed { containers: helpers, ..Observed::default() }).await;
}

async fn reap(environments: &Environments, observed: Observed) {
    let engine = environments.engine();
    for container in observed.containers {
        if let Err(error) = engine.remove_container(&container.id).await {
            tracing::warn!(%error, container = %container.name, "Cannot remove an orphaned container.");
        }
    }
    for network in observed.networks {
        if let Err(error) = engine.remove_network(&network.id).await {
            tracing::warn!(%error, network = %network.name, "Cannot remove an orphaned network.");
        }
    }
}
