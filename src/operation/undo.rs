//! `undo`: brings back the volumes that were last replaced or removed.

use devenv_api::{ApiError, EnvironmentTarget, OperationKind};
use serde_json::{Value, json};

use super::{Context, Prepared, Work, ready::ready_or_failed};
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
    let undone = environment.handle.undo().await??;
    context.commit(Vec::new()).await?;
    if let Some(revision) = undone.revision {
        let Ok(view) = context.unless_cancelled(environment.handle.until_up(revision)).await else {
            return Err(context.cancelled("the volumes are restored, and the services keep starting on them"));
        };
        ready_or_failed(&view?, &[])?;
    }
    Ok(json!(undone.volumes))
}
