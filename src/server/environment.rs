//! Environments: up, down, and everything in between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, extract::State, response::Response};
use devenv_api::{
    ApiError, DownRequest, EnvironmentTarget, ErrorCode, Phase, Plan, ServiceState, ServicesRequest, Status, UpMessage, UpRequest,
    WaitRequest,
};

use super::{failure::Failed, stream};
use crate::{
    daemon::{Daemon, Environments, environments::Environment},
    reconcile::{CommandError, Verb, View},
    spec::{InvalidName, ServiceName},
    store::Goal,
};

pub(super) async fn list(State(daemon): State<Arc<Daemon>>) -> Json<Vec<Status>> {
    Json(daemon.environments.statuses())
}

pub(super) async fn status(State(daemon): State<Arc<Daemon>>, Json(target): Json<EnvironmentTarget>) -> Json<Status> {
    Json(match daemon.environments.find(&target) {
        Some(environment) => Status { drift: environment.drift().await, ..daemon.environments.status(&environment) },
        None => absent(&daemon.environments, &target),
    })
}

pub(super) async fn plan(State(daemon): State<Arc<Daemon>>, Json(request): Json<UpRequest>) -> Result<Json<Plan>, Failed> {
    let environment = daemon.environments.ensure(&request.target)?;
    let spec = daemon.environments.compile(&environment, request.document).await?;
    Ok(Json(environment.handle.preview(spec).await?))
}

pub(super) async fn up(State(daemon): State<Arc<Daemon>>, Json(request): Json<UpRequest>) -> Result<Response, Failed> {
    let environment =
        if request.warm { daemon.environments.ensure_warm(&request.target)? } else { daemon.environments.ensure(&request.target)? };
    environment.usage.note();
    environment.ask_no_registry(request.offline);
    if let Some(variables) = request.inherited {
        environment.inherit(variables)?;
    }
    let spec = daemon.environments.compile(&environment, request.document).await?;
    let begun = Instant::now();
    let limit = request.timeout_ms.map(Duration::from_millis);
    let environments = daemon.environments.clone();
    Ok(stream::told(&environment, || {
        let environment = environment.clone();
        async move {
            let bring_up = async {
                let _place = environments.place_to_come_up(&environment).await?;
                let turn = {
                    // Waits for a `down` in progress; a second `up` of the same profile joins the first.
                    let _turn = environment.turn.lock().await;
                    environment.is_open()?;
                    environment.handle.up(spec.clone()).await?
                };
                environment.reloader.watch(&spec).await;
                environment.handle.until_up(turn).await
            };
            let brought_up = within(limit, bring_up).await;
            with_drift(finish(brought_up, begun, limit, &environment, ready_or_failed), &environment, request.fail_on_drift).await
        }
    }))
}

pub(super) async fn down(State(daemon): State<Arc<Daemon>>, Json(request): Json<DownRequest>) -> Result<Response, Failed> {
    let begun = Instant::now();
    let Some(environment) = daemon.environments.find(&request.target) else {
        let nothing = UpMessage::Done(Status { elapsed_ms: Some(0), ..absent(&daemon.environments, &request.target) });
        return Ok(stream::ndjson(futures_util::stream::iter([nothing])));
    };
    let environments = daemon.environments.clone();
    Ok(stream::told(&environment, || {
        let environment = environment.clone();
        async move {
            let _turn = environment.turn.clone().lock_owned().await;
            // Undo faults first: no fault outlives its service.
            if let Err(error) = environments.heal_in(&environment, &[]).await {
                tracing::warn!(reason = %error.message, "Cannot undo a fault before its service is removed.");
            }
            if environment.is_open().is_err() {
                // The previous operation has removed it.
                return UpMessage::Done(Status {
                    elapsed_ms: Some(begun.elapsed().as_millis() as u64),
                    ..absent(&environments, &request.target)
                });
            }
            let take_down = async {
                let turn = environment.handle.down(request.volumes).await?;
                environment.handle.until_down(turn).await
            };
            finish(Ok(take_down.await), begun, None, &environment, |view| match view.goal {
                Goal::Up => Err(interrupted("another command started the environment again")),
                Goal::Down | Goal::DownWithVolumes => Ok(()),
            })
        }
    }))
}

pub(super) async fn start(daemon: State<Arc<Daemon>>, request: Json<ServicesRequest>) -> Result<Response, Failed> {
    services(daemon, request, Verb::Start).await
}

pub(super) async fn stop(daemon: State<Arc<Daemon>>, request: Json<ServicesRequest>) -> Result<Response, Failed> {
    services(daemon, request, Verb::Stop).await
}

pub(super) async fn restart(daemon: State<Arc<Daemon>>, request: Json<ServicesRequest>) -> Result<Response, Failed> {
    services(daemon, request, Verb::Restart).await
}

async fn services(State(daemon): State<Arc<Daemon>>, Json(request): Json<ServicesRequest>, verb: Verb) -> Result<Response, Failed> {
    let environment = daemon.environments.require(&request.target)?;
    let names = names(&request.services)?;
    let begun = Instant::now();
    Ok(stream::told(&environment, || {
        let environment = environment.clone();
        async move {
            let work = async {
                let turn = environment.handle.services(names.clone(), verb).await?;
                let all: Vec<ServiceName> = if names.is_empty() {
                    environment.handle.status().services.iter().filter_map(|service| service.name.parse().ok()).collect()
                } else {
                    names.clone()
                };
                environment.handle.until_settled(turn, &all).await
            };
            finish(Ok(work.await), begun, None, &environment, |view| failures_of(view, &names))
        }
    }))
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
    Ok(stream::told(&environment, || {
        let environment = environment.clone();
        async move {
            let ready = within(limit, environment.handle.until_ready(&request.services)).await;
            finish(ready, begun, limit, &environment, |view| waited(view, &names))
        }
    }))
}

/// The answer with what has drifted; an error, if that was to be one.
async fn with_drift(message: UpMessage, environment: &Environment, fatal: bool) -> UpMessage {
    let UpMessage::Done(status) = message else { return message };
    let drift = environment.drift().await;
    if fatal && let Some(first) = drift.first() {
        let paths: Vec<&str> = drift.iter().map(|entry| entry.path.as_str()).collect();
        let message = format!("these scripts have changed since they were applied: {}", paths.join(", "));
        let hint = format!(
            "run `devenv reset {}` to start over with the current files, or `devenv ledger accept {}` to keep the data as it is",
            first.service, first.path
        );
        return UpMessage::Failed(ApiError::new(ErrorCode::Drift, message).hint(hint));
    }
    UpMessage::Done(Status { drift, ..status })
}

/// `Err` if the time ran out.
async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Result<T, ()> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| ()),
        None => Ok(work.await),
    }
}

/// The last message of a long answer.
pub(super) fn finish(
    result: Result<Result<View, CommandError>, ()>,
    begun: Instant,
    limit: Option<Duration>,
    environment: &Environment,
    outcome: impl FnOnce(&View) -> Result<(), ApiError>,
) -> UpMessage {
    let view = match result {
        Ok(Ok(view)) => view,
        Ok(Err(error)) => return UpMessage::Failed(error.into()),
        Err(()) => return UpMessage::Failed(timed_out(&environment.handle.view(), limit.unwrap_or_default())),
    };
    match outcome(&view) {
        Ok(()) => UpMessage::Done(Status { elapsed_ms: Some(begun.elapsed().as_millis() as u64), ..view.status }),
        Err(error) => UpMessage::Failed(error),
    }
}

pub(super) fn ready_or_failed(view: &View) -> Result<(), ApiError> {
    if view.goal != Goal::Up {
        return Err(interrupted("another command stopped the environment in the meantime"));
    }
    if let Some(stuck) = &view.stuck {
        return Err(ApiError::new(ErrorCode::Failed, format!("the environment cannot be started: {stuck}"))
            .hint("run `devenv doctor` to check the engine"));
    }
    failures_of(view, &[])
}

/// What gave up among the named services (all that are not optional, if none is named).
fn failures_of(view: &View, names: &[ServiceName]) -> Result<(), ApiError> {
    let failed: Vec<_> =
        view.failures.iter().filter(|failed| if names.is_empty() { !failed.optional } else { names.contains(&failed.name) }).collect();
    let Some(first) = failed.first() else { return Ok(()) };
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

fn timed_out(view: &View, limit: Duration) -> ApiError {
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

fn interrupted(what: &str) -> ApiError {
    ApiError::new(ErrorCode::Interrupted, what).hint("run `devenv events` to see what happened")
}

pub(super) fn names(given: &[String]) -> Result<Vec<ServiceName>, ApiError> {
    given.iter().map(|name| name.parse().map_err(|error: InvalidName| ApiError::new(ErrorCode::Usage, error.to_string()))).collect()
}

fn absent(environments: &Environments, target: &EnvironmentTarget) -> Status {
    Status {
        environment: environments.id_of(target).as_str().to_owned(),
        project: target.project.clone(),
        instance: target.instance.clone(),
        profile: None,
        phase: Phase::Absent,
        services: Vec::new(),
        elapsed_ms: None,
        drift: Vec::new(),
        faults: Vec::new(),
    }
}
