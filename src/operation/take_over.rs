//! `move --from-compose`: data that Docker Compose has made in a project's volumes becomes the environment's.
//!
//! The engine copies each volume into a new one of devenv, to which the service then moves. Nothing of Docker Compose is
//! changed: while one of its containers could write to the data, the operation is refused. Data that the environment had goes
//! to the trash, where `undo` finds it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, ErrorCode, OperationKind, TakeOverRequest, TakenOver, TakenVolume};
use devenv_engine::{ComposeProject, ComposeVolume};
use devenv_spec::{EnvironmentSpec, MountSource, ServiceName, ServiceSpec};
use serde_json::{Value, json};

use super::{
    Context, Prepared, Work,
    copy::{Held, copy_from, move_to, service_of},
    ready::Concerned,
};
use crate::{environment::Environments, error::no_engine, operation_store::Step, store::Goal};

/// A volume of Docker Compose, and the environment's volume that gets its data.
#[derive(Debug, Clone)]
struct Pair {
    from: ComposeVolume,
    /// `db/data`.
    key: String,
    spec: ServiceSpec,
}

pub(super) async fn prepare(environments: &Environments, request: TakeOverRequest) -> Result<Prepared, ApiError> {
    let target = request.up.target.clone();
    let spec = environments.draft(&target, request.up.document.clone()).await?;
    let (pairs, _) = pairs(&spec, at_rest(environments, &request.compose_project).await?.volumes);
    if pairs.is_empty() {
        return Err(nothing(&request.compose_project));
    }
    let id = environments.find(&target).map_or_else(|| environments.id_of(&target), |environment| environment.id.clone());
    Ok(Prepared::new(OperationKind::Move, &id, Work::Replace, async move |context: Context| take_over(&context, &request).await))
}

async fn take_over(context: &Context, request: &TakeOverRequest) -> Result<Value, ApiError> {
    let (environments, target) = (context.environments(), &request.up.target);
    let spec = environments.draft(target, request.up.document.clone()).await?;
    let (pairs, left) = pairs(&spec, at_rest(environments, &request.compose_project).await?.volumes);
    if environments.find(target).is_none() {
        context.owe(vec![Step::ForgetEnvironment { environment: environments.id_of(target) }]).await?;
    }
    let environment = environments.ensure(target)?;
    environment.is_open()?;
    context.follow(&environment);
    let record = environment.handle.record().await?;
    let fresh = environment.handle.reserve_volumes(pairs.iter().map(|pair| pair.key.clone()).collect()).await?;
    let mut taken = Vec::new();
    for (count, pair) in pairs.iter().enumerate() {
        context.progress(count as u64, Some(pairs.len() as u64), "volumes");
        let (service, volume) = (service_of(&pair.key), pair.key.rsplit('/').next().unwrap_or_default());
        let from = Held { key: pair.key.clone(), spec: pair.spec.clone(), volume: pair.from.name.clone() };
        let size = copy_from(context, &record, &from, pair.from.mountpoint.clone(), (&fresh[&pair.key], volume)).await?;
        taken.push(TakenVolume { from: pair.from.name.clone(), service: service.to_owned(), volume: volume.to_owned(), size });
    }
    // A container that was started meanwhile may have written to what is copied.
    at_rest(environments, &request.compose_project).await?;
    let is_up = record.goal == Goal::Up && record.spec.is_some();
    let services: Vec<ServiceName> = pairs.iter().map(|pair| pair.spec.name.clone()).collect();
    let concerned = Concerned::of(&environment, &services);
    let _lifted = if is_up { Some(environment.faults.lift_halting(&services).await) } else { None };
    context.check()?;
    let revision = move_to(context, &environment, fresh, "move --from-compose").await?;
    if is_up {
        concerned.until_ready(context, revision, "the data is in place, and services keep starting on it").await?;
    }
    Ok(json!(TakenOver { compose_project: request.compose_project.clone(), volumes: taken, left, running: is_up }))
}

/// What Docker Compose has of a project, while nothing can write to its volumes.
async fn at_rest(environments: &Environments, project: &str) -> Result<ComposeProject, ApiError> {
    let found = environments.engine().compose_project(project).await.map_err(|error| no_engine(&error))?;
    if found.running.is_empty() {
        return Ok(found);
    }
    let message = format!("containers can write to the data of the Compose project `{project}`: {}", found.running.join(", "));
    Err(ApiError::new(ErrorCode::Conflict, message)
        .hint(format!("run `docker compose -p {project} stop` first; nothing of the project was changed, and its data stays where it is")))
}

fn nothing(project: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("the Compose project `{project}` has no volume on this engine that a service of the file has"))
        .hint("`docker volume ls --filter label=com.docker.compose.project` lists the volumes of all projects; name the project with `--from-compose NAME`")
}

/// Which volume gets the data of which: by its name in the file, otherwise by where a service has it. Returns the names of
/// those that no service has, too.
fn pairs(spec: &EnvironmentSpec, found: Vec<ComposeVolume>) -> (Vec<Pair>, Vec<String>) {
    let mut own: BTreeMap<String, (&ServiceSpec, String, PathBuf)> = BTreeMap::new();
    for (name, service) in &spec.services {
        for mount in service.container().into_iter().flat_map(|container| &container.mounts) {
            if let MountSource::Volume(volume) = &mount.source {
                own.insert(format!("{name}/{volume}"), (service, volume.clone(), PathBuf::from(&mount.target)));
            }
        }
    }
    let (mut pairs, mut left) = (Vec::new(), Vec::new());
    for from in found {
        let named = own.iter().find(|(_, (_, volume, _))| from.key.as_ref() == Some(volume));
        let mounted = || {
            own.iter().find(|(_, (service, _, target))| {
                from.mounts
                    .iter()
                    .any(|mount| is_copy(service.name.as_str(), &mount.service, mount.copy) && target.as_path() == Path::new(&mount.target))
            })
        };
        match named.or_else(mounted).map(|(key, _)| key.clone()) {
            Some(key) => {
                let (service, ..) = own.remove(&key).expect("it was found there");
                pairs.push(Pair { from, key, spec: service.clone() });
            }
            None => left.push(from.name),
        }
    }
    (pairs, left)
}

/// Whether a service is that copy of a service of a Compose file, whose names may have capitals and `_`.
fn is_copy(name: &str, service: &str, copy: u16) -> bool {
    let plain: String = service.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    if copy > 1 { name == format!("{plain}-{copy}") } else { name == plain }
}
