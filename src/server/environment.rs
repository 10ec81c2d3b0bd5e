//! Environments: status, plan and wait.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, extract::State, response::Response};
use devenv_api::{
    ApiError, Condition, EnvironmentTarget, EnvironmentUsage, ErrorCode, Plan, ServiceState, Status, UpMessage, UpRequest, WaitRequest,
};
use devenv_spec::ServiceName;
use futures_util::future::join_all;

use super::{Daemon, failure::Failed, stream};
use crate::{
    blocking::is_gone,
    environment::awake,
    operation::{
        absent, names,
        ready::{failures_of, timed_out},
    },
    reconcile::{CommandError, Handle, View},
    store::Goal,
};

pub(super) async fn list(State(daemon): State<Arc<Daemon>>) -> Json<Vec<Status>> {
    let mut statuses = daemon.environments.statuses();
    // All at once: disks that do not answer are waited for only once.
    let gone = join_all(statuses.iter().map(|status| is_gone(Path::new(&status.project)))).await;
    for (status, gone) in statuses.iter_mut().zip(gone) {
        status.project_gone = gone;
    }
    Json(statuses)
}

pub(super) async fn usage(State(daemon): State<Arc<Daemon>>) -> Json<Vec<EnvironmentUsage>> {
    Json(daemon.environments.usage().await)
}

pub(super) async fn status(State(daemon): State<Arc<Daemon>>, Json(target): Json<EnvironmentTarget>) -> Json<Status> {
    let drift = match daemon.environments.find(&target) {
        Some(environment) => environment.drift().await,
        None => Vec::new(),
    };
    Json(Status { drift, ..daemon.status(&target) })
}

impl Daemon {
    /// An environment with the operations on it, without drift, which is read from its project.
    pub(super) fn status(&self, target: &EnvironmentTarget) -> Status {
        match self.environments.find(target) {
            Some(environment) => Status { operations: self.operations.store().under_way(&environment.id), ..environment.status() },
            None => absent(&self.environments, target),
        }
    }
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
            let ready = within(limit, async {
                awake(&handle, &names, "`wait` waits for it").await?;
                handle.until_ready(&request.services).await
            });
            let ready = ready.await;
            finish(ready, begun, limit, &handle, |view| waited(view, &names))
        }
    }))
}

/// `Err` if the time limit expired.
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
    // Optional services are waited for only if they are named.
    let needed = |service: &devenv_api::Service| match names {
        [] => service.optional != Some(true),
        names => names.iter().any(|name| name.as_str() == service.name),
    };
    let services = &view.status.services;
    if let Some(stopped) = services.iter().find(|service| service.state == ServiceState::Stopped && needed(service)) {
        let message = format!("`{}` is stopped, and `wait` does not start services", stopped.name);
        let hint = format!("run `devenv start {}` to start it", stopped.name);
        return Err(ApiError::new(ErrorCode::Failed, message).hint(hint));
    }
    match services.iter().find(|service| names.iter().any(|name| name.as_str() == service.name) && has_ended_unasked(service, services)) {
        Some(ended) => {
            let message = format!("`{}` does not run: it ended by itself with exit code 0", ended.name);
            Err(ApiError::new(ErrorCode::Failed, message).hint(format!(
                "run `devenv logs {0}` for its output; a service has no standard input, so a program that runs until its input ends needs an \
                 option against that (`--watch=always` for Tailwind); if `{0}` is meant to end, let what needs it say \
                 `depends_on: {{ {0}: completed }}`",
                ended.name
            )))
        }
        None => Ok(()),
    }
}

/// It has completed, and no service waits for that: then it is not a one-shot, but a program that exited.
fn has_ended_unasked(service: &devenv_api::Service, all: &[devenv_api::Service]) -> bool {
    let is_awaited = all.iter().any(|other| other.depends_on.get(&service.name) == Some(&Condition::Completed));
    service.state == ServiceState::Completed && !is_awaited
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, state: ServiceState, depends_on: &[(&str, Condition)]) -> devenv_api::Service {
        let depends_on = depends_on.iter().map(|(name, condition)| ((*name).to_owned(), *condition)).collect();
        devenv_api::Service { depends_on, ..devenv_api::Service::new(name, "process", state) }
    }

    #[test]
    fn a_program_that_exits_is_a_one_shot_only_if_another_service_waits_for_its_end() {
        let css = service("css", ServiceState::Completed, &[]);
        let migrate = service("migrate", ServiceState::Completed, &[]);
        let api = service("api", ServiceState::Ready, &[("migrate", Condition::Completed), ("css", Condition::Started)]);
        let all = [css, migrate, api];
        let unasked: Vec<&str> = all.iter().filter(|one| has_ended_unasked(one, &all)).map(|one| one.name.as_str()).collect();
        assert_eq!(unasked, ["css"]);
    }
}
