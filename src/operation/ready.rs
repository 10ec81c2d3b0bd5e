//! The result of waiting for services: the status, or why they are not ready.

use std::time::Duration;

use devenv_api::{ApiError, ErrorCode, ServiceState, Status};
use devenv_spec::ServiceName;

use super::Context;
use crate::{
    environment::Environment,
    reconcile::{BlockedService, View},
    store::Goal,
};

/// The services whose readiness decides on an operation that replaces data: all but those that had failed before it, or waited for
/// one that had, and that it does not touch.
pub(super) struct Concerned<'a> {
    environment: &'a Environment,
    apart: Vec<ServiceName>,
}

impl<'a> Concerned<'a> {
    /// Call it before the operation touches these services.
    pub(super) fn of(environment: &'a Environment, touched: &[ServiceName]) -> Self {
        let view = environment.handle.view();
        let failed = view.failures.iter().map(|failed| failed.name.clone());
        let mut apart: Vec<ServiceName> = failed.filter(|name| !touched.contains(name)).collect();
        let waits = |apart: &[ServiceName]| {
            let in_vain = |blocked: &&BlockedService| apart.contains(&blocked.on) && !apart.contains(&blocked.name);
            view.blocked.iter().filter(in_vain).find(|blocked| !touched.contains(&blocked.name)).map(|blocked| blocked.name.clone())
        };
        while let Some(name) = waits(&apart) {
            apart.push(name);
        }
        Self { environment, apart }
    }

    /// Waits until they are as requested and returns the environment's status. `left` describes the state after a cancelled wait.
    pub(super) async fn until_ready(&self, context: &Context, revision: u64, left: &str) -> Result<Status, ApiError> {
        let view = self.until_up(context, revision, left).await??;
        Ok(with_time(context, view.status))
    }

    /// As above. The inner error is that of services that are not ready.
    pub(super) async fn until_up(&self, context: &Context, revision: u64, left: &str) -> Result<Result<View, ApiError>, ApiError> {
        let handle = &self.environment.handle;
        let spec = handle.record().await?.spec;
        let needed = spec.iter().flat_map(|spec| spec.services.values()).filter(|service| !service.optional);
        let names: Vec<ServiceName> = match self.apart.as_slice() {
            // Then the others count as well: a service that the profile has no more may not be stoppable.
            [] => Vec::new(),
            apart => needed.map(|service| service.name.clone()).filter(|name| !apart.contains(name)).collect(),
        };
        let Ok(view) = context.unless_cancelled(handle.until_up(revision, &names)).await else { return Err(context.cancelled(left)) };
        let view = view?;
        Ok(ready_or_failed(&view, &names).map(|()| view))
    }
}

/// The status with the duration of the operation.
pub(super) fn with_time(context: &Context, status: Status) -> Status {
    Status { elapsed_ms: Some(context.elapsed().as_millis() as u64), ..status }
}

/// Whether the named services are ready (all that are not optional, if none is named).
pub(crate) fn ready_or_failed(view: &View, names: &[ServiceName]) -> Result<(), ApiError> {
    if view.goal != Goal::Up {
        return Err(interrupted("another command stopped the environment in the meantime"));
    }
    if let Some(stuck) = &view.stuck {
        return Err(ApiError::new(ErrorCode::Failed, format!("the environment cannot be started: {stuck}"))
            .hint("run `devenv doctor` to check the engine"));
    }
    failures_of(view, names)
}

/// The services that failed for good among the named ones (all that are not optional, if none is named).
pub(crate) fn failures_of(view: &View, names: &[ServiceName]) -> Result<(), ApiError> {
    let failed: Vec<_> = view.failures_of(names).collect();
    let Some(first) = failed.first() else { return blocked(view, names) };
    let mut message = String::new();
    for failed in &failed {
        if !message.is_empty() {
            message.push('\n');
        }
        message.push_str(&format!("{} is not ready: {}\n{}", failed.name, failed.failure.reason, failed.failure.detail));
    }
    let hint = first
        .failure
        .hint
        .clone()
        .unwrap_or_else(|| format!("run `devenv logs {0}` for the whole log, or `devenv why {0}` for the cause", first.name));
    Err(ApiError::new(ErrorCode::Failed, message.trim_end()).hint(hint))
}

/// The services that cannot start because of another one, among the named ones (all that are not optional, if none is named).
fn blocked(view: &View, names: &[ServiceName]) -> Result<(), ApiError> {
    match view.blocked_of(names).next() {
        Some(BlockedService { name, on, why, .. }) => {
            let message = format!("{name} is not ready: it depends on {on}, {why}");
            Err(ApiError::new(ErrorCode::Failed, message).hint(format!("run `devenv why {on}` for the cause")))
        }
        None => Ok(()),
    }
}

pub(crate) fn timed_out(view: &View, limit: Duration) -> ApiError {
    let late: Vec<String> = view
        .status
        .services
        .iter()
        .filter(|service| !matches!(service.state, ServiceState::Ready | ServiceState::Completed))
        .map(|service| match &service.reason {
            Some(reason) => format!("{} is {}: {reason}", service.name, service.state),
            None => format!("{} is {}", service.name, service.state),
        })
        .collect();
    let message = format!("not ready within {} ms: {}", limit.as_millis(), late.join("; "));
    ApiError::new(ErrorCode::TimedOut, message).hint("the environment keeps starting; see `devenv status`, or stop it with `devenv down`")
}

pub(super) fn interrupted(what: &str) -> ApiError {
    ApiError::new(ErrorCode::Interrupted, what).hint("run `devenv events` to see what happened")
}
