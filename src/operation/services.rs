//! `start`, `stop` and `restart`: single services of an environment that is up.

use devenv_api::{ApiError, ErrorCode, OperationKind, ServicesRequest};
use devenv_spec::{InvalidName, ServiceName};
use serde_json::{Value, json};

use super::{
    Context, Prepared, Work,
    ready::{failures_of, with_time},
};
use crate::{
    environment::{Environment, Environments},
    reconcile::ServiceAction,
};

pub(super) fn prepare(environments: &Environments, request: ServicesRequest, verb: ServiceAction) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    let names = names(&request.services)?;
    let (kind, work) = match verb {
        ServiceAction::Start => (OperationKind::Start, Work::Start(names.clone())),
        ServiceAction::Restart => (OperationKind::Restart, Work::Start(names.clone())),
        ServiceAction::Stop => (OperationKind::Stop, Work::Stop(names.clone())),
    };
    let body = async move |context: Context, environment: Environment| act(&context, &environment, names, verb).await;
    Ok(Prepared::in_environment(kind, &environment, work, body))
}

async fn act(context: &Context, environment: &Environment, names: Vec<ServiceName>, verb: ServiceAction) -> Result<Value, ApiError> {
    context.follow(environment);
    let _lifted = match verb {
        ServiceAction::Start => None,
        ServiceAction::Stop | ServiceAction::Restart => Some(environment.faults.lift_halting(&names).await),
    };
    let revision = environment.handle.services(names.clone(), verb).await?;
    // Which services are stopped is on record; a pending restart is not.
    if verb != ServiceAction::Restart {
        context.commit(Vec::new()).await?;
    }
    let all: Vec<ServiceName> = if names.is_empty() {
        environment.handle.status().services.iter().filter_map(|service| service.name.parse().ok()).collect()
    } else {
        names.clone()
    };
    let Ok(view) = context.unless_cancelled(environment.handle.until_settled(revision, &all)).await else {
        return Err(context.cancelled("the services keep changing").hint("run `devenv status` to see their state"));
    };
    let view = view?;
    failures_of(&view, &names)?;
    Ok(json!(with_time(context, view.status)))
}

pub(crate) fn names(given: &[String]) -> Result<Vec<ServiceName>, ApiError> {
    given.iter().map(|name| name.parse().map_err(|error: InvalidName| ApiError::new(ErrorCode::Usage, error.to_string()))).collect()
}
