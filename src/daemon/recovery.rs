//! Takes over what an earlier daemon left: adopts running services, continues interrupted operations, removes orphans.

use devenv_api::ApiError;

use crate::{
    environment::{
        Environments,
        adopt::{adopt_one, observe, reap},
    },
    error::internal,
    golden,
};

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
