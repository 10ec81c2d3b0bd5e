//! Adopts what exists of an environment: its record, its objects in the engine, and its processes.
//! Called when a daemon starts (`daemon::recovery`), and when an environment is restarted after a bug (`lifecycle`).

use std::collections::HashMap;

use devenv_api::ApiError;
use devenv_engine::ObservedContainer;
use devenv_spec::EnvironmentId;

use super::{Environment, Environments};
use crate::{
    error::no_engine,
    faults,
    reconcile::Observed,
    store::{Goal, Record},
};

/// Everything of this owner that the engine has, by environment.
pub(crate) async fn observe(environments: &Environments) -> Result<HashMap<EnvironmentId, Observed>, ApiError> {
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

/// Starts the tasks of one environment with what exists of it.
pub(crate) async fn adopt_one(environments: &Environments, record: Record, mut observed: Observed) -> Result<Environment, ApiError> {
    let is_agent = |container: &mut ObservedContainer| container.labels.role.as_deref() == Some(faults::ROLE);
    let agents: Vec<ObservedContainer> = observed.containers.extract_if(.., is_agent).collect();
    reap_helpers(environments, &mut observed).await;
    let processes = environments.processes(&record.id);
    observed.processes = Some(processes.adopt().await);
    let watched = record.spec.clone().filter(|_| record.goal == Goal::Up);
    let environment = environments.begin(record, observed, processes.clone())?;
    if let Some(spec) = watched {
        environment.reloader.watch_adopted(&spec, &processes).await;
    }
    environment.faults.take_up(&agents).await;
    Ok(environment)
}

/// Helpers are short-lived; one that still exists belonged to a daemon that died.
async fn reap_helpers(environments: &Environments, observed: &mut Observed) {
    let (helpers, services) = observed.containers.drain(..).partition(|container| container.labels.role.is_some());
    observed.containers = services;
    reap(environments, Observed { containers: helpers, ..Observed::default() }).await;
}

pub(crate) async fn reap(environments: &Environments, observed: Observed) {
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
