//! Takes over what an earlier daemon left: adopts running services, continues interrupted operations, removes orphans.

use std::time::Duration;

use devenv_api::ApiError;
use devenv_engine::Reach;
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::{
    environment::{
        Environments,
        adopt::{adopt_one, observe, reap},
    },
    error::internal,
    golden,
};

/// How long the first client waits at most for the services that were adopted.
const PROVED_WITHIN: Duration = Duration::from_millis(500);
/// On another machine's engine, where a relay is started first.
const PROVED_AFAR_WITHIN: Duration = Duration::from_secs(15);

/// Starts a task for each environment on record, with what exists of it.
pub(super) async fn adopt(environments: &Environments) -> Result<(), ApiError> {
    let records = environments.store().records().map_err(internal)?;
    environments.lease_again(&records);
    golden::discard_unfinished(environments.store(), environments.engine().as_ref()).await;
    let mut observed = observe(environments).await?;
    for record in records {
        let observed = observed.remove(&record.id).unwrap_or_default();
        adopt_one(environments, record, observed).await?;
    }
    for (id, nobodys) in observed {
        tracing::info!(environment = %id, "Removing resources of an unknown environment.");
        reap(environments, nobodys).await;
    }
    Ok(())
}

/// Waits until the ports of services that sleep are held, and those that were adopted have answered: a client that finds the daemon then gets their states, and not that each
/// is being looked at.
pub(super) async fn prove(environments: &Environments) {
    let proved = environments.all().into_iter().map(|environment| async move {
        // Until then, clients of what sleeps are refused.
        environment.fronts.are_open().await;
        // An environment that ends has nothing to prove.
        let _ = environment.handle.views().wait_for(|view| view.all_settled() || view.engine_lost).await.map(drop);
    });
    let within = if *environments.reach() == Reach::Relayed { PROVED_AFAR_WITHIN } else { PROVED_WITHIN };
    let _ = timeout(within, join_all(proved)).await;
}
