//! `build`: builds the images of a profile, without starting anything.

use std::sync::Arc;

use devenv_api::{ApiError, BuildRequest, Built, BuiltImage, ErrorCode, OperationKind};
use devenv_spec::{EnvironmentSpec, ServiceName, ServiceSpec};
use serde_json::{Value, json};

use super::{Context, Prepared, Work, services::names};
use crate::{
    environment::{Environment, Environments},
    error::describe,
    operation_store::Step,
    reconcile::Evidence,
};

pub(super) async fn prepare(environments: &Environments, request: BuildRequest) -> Result<Prepared, ApiError> {
    let spec = environments.draft(&request.target, request.document.clone()).await?;
    let chosen = chosen(&spec, &names(&request.services)?)?;
    let id = environments.find(&request.target).map_or_else(|| environments.id_of(&request.target), |environment| environment.id.clone());
    let body = async move |context: Context| build(&context, request, chosen).await;
    Ok(Prepared::new(OperationKind::Build, &id, Work::Read, body))
}

fn chosen(spec: &EnvironmentSpec, names: &[ServiceName]) -> Result<Vec<ServiceSpec>, ApiError> {
    for name in names {
        let Some(service) = spec.services.get(name) else {
            return Err(ApiError::new(ErrorCode::NotFound, format!("unknown service `{name}` in the profile `{}`", spec.profile)));
        };
        if service.build().is_none() {
            return Err(ApiError::new(ErrorCode::Usage, format!("`{name}` has no image of its own: it has no `build`")));
        }
    }
    let wanted = |service: &&ServiceSpec| service.build().is_some() && (names.is_empty() || names.contains(&service.name));
    Ok(spec.services.values().filter(wanted).cloned().collect())
}

async fn build(context: &Context, request: BuildRequest, services: Vec<ServiceSpec>) -> Result<Value, ApiError> {
    let environments = context.environments();
    if environments.find(&request.target).is_none() {
        context.owe(vec![Step::ForgetEnvironment { environment: environments.id_of(&request.target) }]).await?;
    }
    let environment = environments.ensure(&request.target)?;
    environment.is_open()?;
    // Nothing is undone from here on: built images stay.
    context.commit(Vec::new()).await?;
    context.follow(&environment);
    if let Some(variables) = request.inherited {
        environment.inherit(variables)?;
    }
    let work = images(context, &environment, &services, request.no_cache);
    let Ok(images) = context.unless_cancelled(work).await else { return Err(context.cancelled("no image was replaced")) };
    Ok(json!(Built { images: images? }))
}

/// One after another, because builders run steps in parallel themselves.
pub(super) async fn images(
    context: &Context,
    environment: &Environment,
    services: &[ServiceSpec],
    no_cache: bool,
) -> Result<Vec<BuiltImage>, ApiError> {
    let mut images = Vec::new();
    for (done, service) in services.iter().enumerate() {
        let Some(build) = service.build() else { continue };
        context.progress(done as u64, Some(services.len() as u64), "images");
        let progress = environment.progress.clone();
        let name = service.name.clone();
        let tell = move |line: &str| {
            // There may be no receiver.
            let _ = progress.send(crate::reconcile::Progress { service: name.clone(), message: line.to_owned() });
        };
        environment.runtime.build(service, no_cache, tell).await.map_err(|evidence| failed(&service.name, evidence))?;
        let engine = Arc::clone(context.environments().engine());
        let id = engine.image(&build.tag).await.map_err(|error| ApiError::new(ErrorCode::Failed, describe(&error)))?;
        images.push(BuiltImage { service: service.name.to_string(), image: build.tag.clone(), id: id.unwrap_or_default() });
    }
    Ok(images)
}

fn failed(service: &ServiceName, evidence: Evidence) -> ApiError {
    let failure = evidence.into_failure();
    let message = format!("{service}: {}\n{}", failure.reason, failure.detail);
    ApiError::new(ErrorCode::Failed, message.trim_end()).hint(format!("run `devenv logs {service}` for the whole output"))
}
