//! `reset`: resets data to the state after a first start.

use devenv_api::{ApiError, ErrorCode, OperationKind, ServicesRequest};
use devenv_spec::ServiceName;
use serde_json::{Value, json};

use super::{
    Context, Prepared, Work,
    copy::{held, move_to, not_up},
    ready::Concerned,
    services::names,
};
use crate::{
    environment::{Environment, Environments},
    store::{Goal, Record},
};

pub(super) async fn prepare(environments: &Environments, request: ServicesRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    let names = names(&request.services)?;
    keys(&environment.handle.record().await?, &names)?;
    let body = async move |context: Context, environment: Environment| reset(&context, &environment, &names).await;
    Ok(Prepared::in_environment(OperationKind::Reset, &environment, Work::Replace, body))
}

/// Moves services to empty volumes, or to copies of their golden ones, on which they initialise and seed themselves again.
async fn reset(context: &Context, environment: &Environment, names: &[ServiceName]) -> Result<Value, ApiError> {
    context.follow(environment);
    let record = environment.handle.record().await?;
    let keys = keys(&record, names)?;
    let touched: Vec<ServiceName> = held(&record, names)?.into_iter().map(|held| held.spec.name).collect();
    let concerned = Concerned::of(environment, &touched);
    let _lifted = environment.faults.lift_halting(names).await;
    context.check()?;
    let fresh = environment.handle.reserve_volumes(keys).await?;
    let turn = move_to(context, environment, fresh, "reset").await?;
    let left = "the previous data is in the trash, and the services keep starting on fresh data";
    Ok(json!(concerned.until_ready(context, turn, left).await?))
}

fn keys(record: &Record, names: &[ServiceName]) -> Result<Vec<String>, ApiError> {
    if record.goal != Goal::Up || record.spec.is_none() {
        return Err(not_up());
    }
    let held = held(record, names)?;
    if held.is_empty() {
        return Err(ApiError::new(ErrorCode::Usage, "none of these services stores data").hint("run `devenv status` to list the services"));
    }
    Ok(held.into_iter().map(|held| held.key).collect())
}
