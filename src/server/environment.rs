//! Environments: up, down, and everything in between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, extract::State, response::Response};
use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, Plan, ServiceState, Status, UpMessage, UpRequest, WaitRequest};

use super::{Daemon, failure::Failed, stream};
use crate::{
    operation::{
        absent, names,
        ready::{failures_of, timed_out},
    },
    reconcile::{CommandError, Handle, View},
    spec::ServiceName,
    store::Goal,
};

pub(super) async fn list(State(daemon): State<Arc<Daemon>>) -> Json<Vec<Status>> {
    Json(daemon.environments.statuses())
}

pub(super) async fn status(State(daemon): State<Arc<Daemon>>, Json(target): Json<EnvironmentTarget>) -> Json<Status> {
    Json(match daemon.environments.find(&target) {
        Some(environment) => Status {
            drift: environment.drift().await,
            operations: daemon.operations.store().under_way(&environment.id),
            ..environment.status()
        },
        None => absent(&daemon.environments, &target),
    })
}

pub(super) async fn plan(State(daemon): State<Arc<Daemon>>, Json(request): Json<UpRequest>) -> Result<Json<Plan>, Failed> {
    Ok(Json(daemon.environments.plan(&request.target, request.document).await?))
}

pub(super) async fn wait(State(daemon): State<Arc<Daemon>>, Json(request): Json<WaitRequest>) -> Result<Response, Failed> {
    let environment = daemon.environments.require(&request.target)?;
    let names = names(&request.services)?;
    let known = environment.handle.status();
    if let Some(unknown) = request.services.iter().find(|name| !known.services.iter().any(|service| service.name == **name)) {
        return Err(CommandError::NoService(unknown.clone()).into());
    }
    let begun = Instant::now();
    let limit = request.timeout_ms.map(Duration::from_millis);
    Ok(stream::stream_events(&environment, || {
        let handle = environment.handle.clone();
        async move {
            let ready = within(limit, handle.until_ready(&request.services)).await;
            finish(ready, begun, limit, &handle, |view| waited(view, &names))
        }
    }))
}

/// `Err` if the time ran out.
async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Result<T, ()> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| ()),
        None => Ok(work.await),
    }
}

/// The last message of a long answer.
fn finish(
    result: Result<Result<View, CommandError>, ()>,
    begun: Instant,
    limit: Option<Duration>,
    handle: &Handle,
    outcome: impl FnOnce(&View) -> Result<(), ApiError>,
) -> UpMessage {
    let view = match result {
        Ok(Ok(view)) => view,
        Ok(Err(error)) => return UpMessage::Failed(error.into()),
        Err(()) => return UpMessage::Failed(timed_out(&handle.view(), limit.unwrap_or_default())),
    };
    match outcome(&view) {
        Ok(()) => UpMessage::Done(Status { elapsed_ms: Some(begun.elapsed().as_millis() as u64), ..view.status }),
        Err(error) => UpMessage::Failed(error),
    }
}

/// The result of waiting for these services, or for all.
fn waited(view: &View, names: &[ServiceName]) -> Result<(), ApiError> {
    if view.goal != Goal::Up {
        return Err(CommandError::NotUp.into());
    }
    failures_of(view, names)?;
    // What can be done without is waited for only by name.
    let needed = |service: &devenv_api::Service| match names {
        [] => service.optional != Some(true),
        names => names.iter().any(|name| name.as_str() == service.name),
    };
    match view.status.services.iter().find(|service| service.state == ServiceState::Stopped && needed(service)) {
        Some(stopped) => {
            Err(ApiError::new(ErrorCode::Failed, format!("`{}` is stopped, and `wait` does not start services", stopped.name))
                .hint(format!("run `devenv start {}` to start it", stopped.name)))
        }
        None => Ok(()),
    }
}
