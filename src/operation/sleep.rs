//! `sleep` and `wake`: containers that nobody uses are stopped or frozen, and continue when a client needs them.
//!
//! Which services sleep is on the environment's record before the engine is called, so whatever ends the operation, they are on their
//! way there. Both are also submitted by the daemon's task `sleeper`, for clients that it sees come and go.

use devenv_api::{ApiError, OperationKind, ServicesRequest};
use devenv_spec::ServiceName;
use serde_json::{Value, json};

use super::{
    Context, Prepared, Work,
    ready::{failures_of, with_time},
    services::names,
};
use crate::environment::{Environment, Environments, HeldGates};

pub(super) fn sleep(environments: &Environments, request: &ServicesRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    let names = names(&request.services)?;
    Ok(Prepared::in_environment(
        OperationKind::Sleep,
        &environment,
        Work::Sleep,
        async move |context: Context, environment: Environment| {
            // A container that a fault holds still can be neither stopped nor frozen.
            let _lifted = environment.faults.lift_halting(&names).await;
            // Clients that come from now on wait, and wake it again.
            let held = environment.hold_clients();
            fall_asleep(&context, &environment, names, held).await
        },
    ))
}

/// For an environment that seems to be unused; `for_memory`: before its profile says so.
pub(crate) fn when_unused(environment: &Environment, for_memory: bool) -> Prepared {
    Prepared::in_environment(OperationKind::Sleep, environment, Work::Sleep, async move |context: Context, environment: Environment| {
        // First this, so that no client is missed by the look that follows.
        let held = environment.hold_clients();
        let due = if for_memory { environment.spare().map(|(names, _)| names).unwrap_or_default() } else { environment.due() };
        if due.is_empty() {
            context.message("a client uses it again");
            return Ok(json!(with_time(&context, environment.status())));
        }
        fall_asleep(&context, &environment, due, held).await
    })
}

/// Lets the clients of what stays awake through, and those of the others once they sleep.
async fn fall_asleep(
    context: &Context,
    environment: &Environment,
    names: Vec<ServiceName>,
    mut held: HeldGates,
) -> Result<Value, ApiError> {
    context.follow(environment);
    let (revision, falling) = environment.handle.sleep(names).await?;
    held.only(&falling);
    context.commit(Vec::new()).await?;
    settled(context, environment, revision, &falling).await
}

pub(super) fn wake(environments: &Environments, request: &ServicesRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    Ok(waking(&environment, names(&request.services)?, "`wake` was requested"))
}

/// `why` is a clause for the events.
pub(crate) fn waking(environment: &Environment, names: Vec<ServiceName>, why: &'static str) -> Prepared {
    let work = Work::Start(names.clone());
    Prepared::in_environment(OperationKind::Wake, environment, work, async move |context: Context, environment: Environment| {
        context.follow(&environment);
        let (revision, woken) = environment.handle.wake(names, why).await?;
        context.commit(Vec::new()).await?;
        settled(&context, &environment, revision, &woken).await
    })
}

async fn settled(context: &Context, environment: &Environment, revision: u64, names: &[ServiceName]) -> Result<Value, ApiError> {
    let settled = environment.handle.until_settled(revision, names);
    let Ok(view) = context.unless_cancelled(settled).await else {
        return Err(context.cancelled("the services keep changing").hint("run `devenv status` to see their state"));
    };
    let view = view?;
    if !names.is_empty() {
        failures_of(&view, names)?;
    }
    Ok(json!(with_time(context, view.status)))
}
