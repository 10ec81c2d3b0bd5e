//! `init` and `seed`: applies scripts and data sets that are pending.

use devenv_api::{ApiError, ApplyRequest, OperationKind};
use devenv_spec::ServiceName;
use serde_json::{Value, json};

use super::{Context, Prepared, Work, ready::with_time, services::names};
use crate::environment::{Environment, Environments};

pub(super) fn prepare(environments: &Environments, request: ApplyRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    let names = names(&request.services)?;
    let kind = if request.seed { OperationKind::Seed } else { OperationKind::Init };
    Ok(Prepared::in_environment(kind, &environment, Work::Read, async move |context: Context, environment: Environment| {
        apply(&context, &environment, &names, &request).await
    }))
}

/// A running script is not interrupted: it would be half applied.
async fn apply(context: &Context, environment: &Environment, names: &[ServiceName], request: &ApplyRequest) -> Result<Value, ApiError> {
    context.follow(environment);
    let check = || {
        if context.cancel().is_cancelled() {
            return Err(context.cancelled("the scripts that were applied stay applied").hint("run the command again to apply the rest"));
        }
        Ok(())
    };
    for (name, service) in &environment.spec().await?.services {
        if service.scripts.is_some() && (names.is_empty() || names.contains(name)) {
            context.environments().refuse_halted(environment, name.as_str()).await?;
        }
    }
    environment.apply(names, request.seed, request.set.as_deref(), check).await?;
    Ok(json!(with_time(context, environment.handle.status())))
}
