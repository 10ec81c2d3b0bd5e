//! `up`: brings an environment to the state that a profile describes.
//!
//! The profile is compiled before anything is made, on ports and a subnet that are not reserved by that, so a
//! refused `up` leaves nothing. An environment that was created for an `up` is removed with it until its goal is set.

use std::time::Duration;

use devenv_api::{ApiError, ErrorCode, OperationKind, ServiceState, Status, UpRequest};
use devenv_spec::{EnvironmentSpec, ServiceName, ServiceSpec};
use serde_json::{Value, json};

use super::{
    Context, Prepared, Work,
    ready::{ready_or_failed, timed_out, with_time},
    relocate,
};
use crate::{
    environment::{Environment, Environments},
    error::no_engine,
    operation_store::Step,
    store::Goal,
};

pub(super) async fn prepare(environments: &Environments, request: UpRequest) -> Result<Prepared, ApiError> {
    environments.draft(&request.target, request.document.clone()).await?;
    let id = environments.find(&request.target).map_or_else(|| environments.id_of(&request.target), |environment| environment.id.clone());
    let limit = request.timeout_ms.map(Duration::from_millis);
    let prepared = Prepared::new(OperationKind::Up, &id, Work::Up, async move |context: Context| up(&context, request, limit).await);
    Ok(prepared.within(limit))
}

async fn up(context: &Context, request: UpRequest, limit: Option<Duration>) -> Result<Value, ApiError> {
    let environments = context.environments();
    let is_new = environments.find(&request.target).is_none();
    if is_new {
        // Some errors show only now, before anything is made.
        environments.draft(&request.target, request.document.clone()).await?;
        context.owe(vec![Step::ForgetEnvironment { environment: environments.id_of(&request.target) }]).await?;
    }
    let environment = if request.warm { environments.ensure_warm(&request.target)? } else { environments.ensure(&request.target)? };
    context.follow(&environment);
    let spec = compiled(environments, &environment, &request).await?;
    if is_new && let Some(former) = relocate::former_project(environments, &request.target, &spec).await {
        context.message(format!(
            "the data of an environment with the same services is on record for {former}, which does not exist any more: if the project was \
             moved, run `devenv down --volumes` and `devenv move {former}`"
        ));
    }
    let asked = asked(&spec, &request.services)?;
    let (own, alone): (Vec<&ServiceSpec>, Vec<&ServiceSpec>) = spec.services.values().partition(|service| asked.contains(&service.name));
    let alone: Vec<ServiceName> = alone.into_iter().map(|service| service.name.clone()).collect();
    // What can be done without is waited for only by name. None: all that cannot be done without.
    let is_needed = |service: &&&ServiceSpec| !service.optional || request.services.contains(&service.name.to_string());
    let needed: Vec<ServiceName> = match request.services.as_slice() {
        [] => Vec::new(),
        _ => own.iter().filter(is_needed).map(|service| service.name.clone()).collect(),
    };
    let bring_up = async {
        let _place = environments.place_to_come_up(&environment).await?;
        let mut replaced = if request.force_recreate { asked.clone() } else { Vec::new() };
        if request.build {
            replaced.extend(built_anew(context, &environment, &own).await?);
        } else {
            build_before_replacing(context, &environment, &own).await?;
        }
        let revision = environment.handle.up_beside(spec.clone(), replaced, alone.clone()).await?;
        context.commit(Vec::new()).await?;
        environment.reloader.watch(&spec).await;
        Ok::<_, ApiError>(environment.handle.until_up(revision, &needed).await?)
    };
    let brought_up = context.unless_cancelled(in_time(context.time_left(), bring_up)).await;
    let Ok(brought_up) = brought_up else { return Err(stop_coming_up(context, &environment).await) };
    let view = brought_up.ok_or_else(|| timed_out(&environment.handle.view(), limit.unwrap_or_default()))??;
    ready_or_failed(&view, &needed)?;
    let drift = environment.drift().await;
    if request.fail_on_drift && !drift.is_empty() {
        return Err(drifted(&drift));
    }
    Ok(json!(with_time(context, Status { drift, ..view.status })))
}

/// What the environment is to be. What else the request brings is kept: variables for processes, secrets.
pub(super) async fn compiled(
    environments: &Environments,
    environment: &Environment,
    request: &UpRequest,
) -> Result<EnvironmentSpec, ApiError> {
    environment.is_open()?;
    environment.activity.note();
    environment.ask_no_registry(request.offline);
    if let Some(variables) = &request.inherited {
        environment.inherit(variables.clone())?;
    }
    environment.keep_given_secrets(request.secrets.clone()).await?;
    let mut spec = environments.compile(environment, request.document.clone()).await?;
    if !request.services.is_empty() {
        only(&mut spec, &request.services, environment).await?;
    }
    Ok(spec)
}

/// Builds all images. Returns the services whose image has changed.
async fn built_anew(context: &Context, environment: &Environment, services: &[&ServiceSpec]) -> Result<Vec<ServiceName>, ApiError> {
    let engine = context.environments().engine();
    let services: Vec<ServiceSpec> = services.iter().copied().filter(|service| service.build().is_some()).cloned().collect();
    let mut before = Vec::new();
    for build in services.iter().filter_map(ServiceSpec::build) {
        before.push(engine.image(&build.tag).await.map_err(|error| no_engine(&error))?);
    }
    let built = super::build::images(context, environment, &services, false).await?;
    let changed = services.iter().zip(before).zip(built).filter(|((_, before), built)| before.as_ref() != Some(&built.id));
    Ok(changed.map(|((service, _), _)| service.name.clone()).collect())
}

/// Builds the changed images of services that run, while these still do: after a build that fails they go on as they are.
async fn build_before_replacing(context: &Context, environment: &Environment, services: &[&ServiceSpec]) -> Result<(), ApiError> {
    let (applied, there) = (environment.handle.record().await?.applied, environment.handle.status().services);
    let runs = |name: &ServiceName| {
        let known = there.iter().find(|service| service.name == name.as_str());
        known.is_some_and(|service| service.container.is_some() && matches!(service.state, ServiceState::Ready | ServiceState::Unhealthy))
    };
    let is_changed = |service: &&ServiceSpec| applied.get(&service.name).is_some_and(|before| *before != service.workload);
    let services = services.iter().copied().filter(|service| service.build().is_some() && runs(&service.name)).filter(is_changed);
    let services: Vec<ServiceSpec> = services.cloned().collect();
    super::build::images(context, environment, &services, false).await.map(drop).map_err(|error| {
        let message = format!("{}\nthe running version was not replaced, and nothing else was changed", error.message);
        ApiError { message, ..error }
    })
}

/// The requested services and those that they need; all, if none is named.
fn asked(spec: &EnvironmentSpec, services: &[String]) -> Result<Vec<ServiceName>, ApiError> {
    if services.is_empty() {
        return Ok(spec.services.keys().cloned().collect());
    }
    let mut wanted: Vec<ServiceName> = Vec::new();
    let mut open: Vec<String> = services.to_vec();
    while let Some(name) = open.pop() {
        let Some((name, service)) = spec.services.get_key_value(name.as_str()) else {
            return Err(ApiError::new(ErrorCode::NotFound, format!("unknown service `{name}` in this profile"))
                .hint("run `devenv config` to list the services"));
        };
        if !wanted.contains(name) {
            wanted.push(name.clone());
            open.extend(service.depends_on.keys().filter(|name| spec.services.contains_key(*name)).map(ToString::to_string));
        }
    }
    Ok(wanted)
}

/// Leaves out services that are neither requested nor needed by those. What an environment that is up has of them stays as it is,
/// whatever the profile says of it now.
async fn only(spec: &mut EnvironmentSpec, services: &[String], environment: &Environment) -> Result<(), ApiError> {
    let wanted = asked(spec, services)?;
    let record = environment.handle.record().await?;
    let mut there = record.spec.filter(|_| record.goal == Goal::Up).map(|spec| spec.services).unwrap_or_default();
    spec.services.retain(|name, service| match there.shift_remove(name) {
        _ if wanted.contains(name) => true,
        Some(former) => {
            *service = former;
            true
        }
        None => false,
    });
    // Those that the profile does not have any more.
    spec.services.extend(there);
    Ok(())
}

/// `None` if the time limit expired.
async fn in_time<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}

/// Services that have not been started stay so, unless another `up` needs them; running ones keep running.
async fn stop_coming_up(context: &Context, environment: &Environment) -> ApiError {
    if context.daemon_stops() {
        return context.cancelled("the next daemon continues it");
    }
    if context.comes_up_otherwise(environment) {
        return context.cancelled("another `up` starts the environment");
    }
    if let Err(error) = environment.handle.stop_starting().await {
        return error.into();
    }
    let status = environment.handle.status();
    let named = |wanted: fn(ServiceState) -> bool| {
        let names: Vec<&str> =
            status.services.iter().filter(|service| wanted(service.state)).map(|service| service.name.as_str()).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    let runs =
        named(|state| matches!(state, ServiceState::Starting | ServiceState::Provisioning | ServiceState::Ready | ServiceState::Unhealthy));
    let waits =
        named(|state| matches!(state, ServiceState::Pending | ServiceState::Stopped | ServiceState::Pulling | ServiceState::Creating));
    context
        .cancelled(&format!("running: {runs}; not started: {waits}"))
        .hint("run `devenv up` to continue, or `devenv down` to stop what is running")
}

fn drifted(drift: &[devenv_api::LedgerEntry]) -> ApiError {
    let paths: Vec<&str> = drift.iter().map(|entry| entry.path.as_str()).collect();
    let error = ApiError::new(ErrorCode::Drift, format!("these scripts have changed since they were applied: {}", paths.join(", ")));
    match drift.first() {
        Some(first) => error.hint(format!(
            "run `devenv reset {}` to start over with the current files, or `devenv ledger accept {}` to keep the data as it is",
            first.service, first.path
        )),
        None => error,
    }
}
