//! `undo`: brings back the volumes that were last replaced or removed.

use devenv_api::{ApiError, EnvironmentTarget, OperationKind};
use serde_json::{Value, json};

use super::{Context, Prepared, Work, copy::held, ready::Concerned};
use crate::environment::{Environment, Environments};

pub(super) fn prepare(environments: &Environments, target: &EnvironmentTarget) -> Result<Prepared, ApiError> {
    let environment = environments.require(target)?;
    let body = async move |context: Context, environment: Environment| undo(&context, &environment).await;
    Ok(Prepared::in_environment(OperationKind::Undo, &environment, Work::Replace, body))
}

/// Returns the keys of the volumes, once the running services are ready on them.
async fn undo(context: &Context, environment: &Environment) -> Result<Value, ApiError> {
    context.follow(environment);
    // Which services it moves is known afterwards.
    let _lifted = environment.faults.lift_halting(&[]).await;
    context.check()?;
    let record = environment.handle.record().await?;
    let with_data = if record.spec.is_some() { held(&record, &[])? } else { Vec::new() };
    let concerned = Concerned::of(environment, &with_data.into_iter().map(|held| held.spec.name).collect::<Vec<_>>());
    let undone = environment.handle.undo().await??;
    context.commit(Vec::new()).await?;
    if let Some(revision) = undone.revision {
        concerned.until_ready(context, revision, "the volumes are restored, and the services keep starting on them").await?;
    }
    Ok(json!(undone.volumes))
}
