//! `move`: takes over the environments of a project's former directory.
//!
//! An environment keeps its id, by which the engine's objects, the data, snapshots, backups, secrets and ports belong to it;
//! only the directory on its record changes. All instances move or none: the steps are on record before the first one.

use std::path::{Path, PathBuf};

use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, MoveRequest, OperationKind, Phase, Status};
use devenv_spec::EnvironmentSpec;
use serde_json::{Value, json};

use super::{Claim, Context, Prepared, Work};
use crate::{
    backups::Backups,
    blocking::is_gone,
    environment::{Environment, Environments},
    error::absolute,
    operation_store::Step,
    store::Goal,
};

pub(super) async fn prepare(environments: &Environments, request: MoveRequest) -> Result<Prepared, ApiError> {
    absolute("`from`", &request.from)?;
    absolute("`to`", &request.to)?;
    let mut claims = Vec::new();
    for environment in found(environments, &request).await? {
        let there = there(&environment, &request);
        let theirs = environments.find(&there).map_or_else(|| environments.id_of(&there), |found| found.id.clone());
        for id in [environment.id.clone(), theirs] {
            claims.push(Claim { environment: Some(id), work: Work::Replace });
        }
    }
    steps(environments, &request).await?;
    Ok(Prepared::with_claims(OperationKind::Move, claims, async move |context: Context| relocate(&context, &request).await))
}

async fn relocate(context: &Context, request: &MoveRequest) -> Result<Value, ApiError> {
    let environments = context.environments();
    let steps = steps(environments, request).await?;
    context.check()?;
    context.commit(steps.clone()).await?;
    let mut moved: Vec<Status> = Vec::new();
    for step in &steps {
        super::owed::carry_out(environments, step).await.map_err(|reason| {
            ApiError::new(ErrorCode::Failed, format!("the environment did not move: {reason}"))
                .hint("the next daemon finishes it: run `devenv daemon stop`, then `devenv list`")
        })?;
        let environment = step.environment().and_then(|id| environments.get(id));
        moved.extend(environment.map(|environment| environment.status()));
    }
    context.settle(&steps).await?;
    Ok(json!(moved))
}

/// What moves each environment. An error if one of them cannot move.
async fn steps(environments: &Environments, request: &MoveRequest) -> Result<Vec<Step>, ApiError> {
    let mut steps = Vec::new();
    for environment in found(environments, request).await? {
        let instead_of = match environments.find(&there(&environment, request)) {
            Some(theirs) => {
                refuse_data(environments, &theirs, request).await?;
                Some(theirs.id.clone())
            }
            None => None,
        };
        steps.push(Step::Relocate { environment: environment.id.clone(), project: PathBuf::from(&request.to), instead_of });
    }
    Ok(steps)
}

/// The directory of an environment that a new one probably continues: it does not exist any more, and the environment has data, the
/// same instance and the same services.
pub(super) async fn former_project(environments: &Environments, target: &EnvironmentTarget, spec: &EnvironmentSpec) -> Option<String> {
    for environment in environments.all() {
        let Ok(record) = environment.handle.record().await else { continue };
        let services = record.spec.as_ref().map(|spec| &spec.services);
        let is_alike = record.instance == target.instance && services.is_some_and(|services| services.keys().eq(spec.services.keys()));
        if is_alike && !record.ephemeral && !record.volumes.is_empty() && is_gone(&record.project).await {
            return Some(record.project.display().to_string());
        }
    }
    None
}

/// The environments of the former directory. Those of test runs end with their client, and stay.
async fn found(environments: &Environments, request: &MoveRequest) -> Result<Vec<Environment>, ApiError> {
    let mut found = Vec::new();
    for environment in environments.all() {
        let record = environment.handle.record().await?;
        let is_meant = request.instance.as_ref().is_none_or(|instance| *instance == record.instance);
        if record.project == Path::new(&request.from) && is_meant && !record.ephemeral {
            found.push(environment);
        }
    }
    if found.is_empty() {
        return Err(none(environments, request).await);
    }
    Ok(found)
}

async fn none(environments: &Environments, request: &MoveRequest) -> ApiError {
    let mut gone: Vec<String> = Vec::new();
    for status in environments.statuses() {
        if !gone.contains(&status.project) && is_gone(Path::new(&status.project)).await {
            gone.push(status.project);
        }
    }
    let what = request.instance.as_ref().map_or_else(|| "no environment".to_owned(), |instance| format!("no environment `{instance}`"));
    let hint = if gone.is_empty() {
        "run `devenv list` to list all environments with their directories".to_owned()
    } else {
        format!("these directories have environments and do not exist any more: {}", gone.join(", "))
    };
    ApiError::new(ErrorCode::NotFound, format!("{what} of the directory {} is on record", request.from)).hint(hint)
}

/// An environment in the new directory makes way only if nothing is lost with it. Its trash is, which the hint says.
async fn refuse_data(environments: &Environments, theirs: &Environment, request: &MoveRequest) -> Result<(), ApiError> {
    let record = theirs.handle.record().await?;
    let backups = Backups::of(environments.store(), &theirs.id);
    let is_absent = theirs.handle.status().phase == Phase::Absent && record.goal != Goal::Up;
    if is_absent && record.volumes.is_empty() && record.snapshots.is_empty() && backups.is_empty() {
        return Ok(());
    }
    let instance = &record.instance;
    let message = format!("the project {} already has an environment `{instance}` with services or data", request.to);
    let error = ApiError::new(ErrorCode::Conflict, message);
    Err(if !record.snapshots.is_empty() || !backups.is_empty() {
        error.hint("it has snapshots or backups: remove or export them first, or move the project to another directory")
    } else {
        error.hint(format!(
            "if it is not needed, run `devenv down --volumes --instance {instance}` and then `devenv move {}`, after which `undo` cannot \
             bring it back",
            request.from
        ))
    })
}

fn there(environment: &Environment, request: &MoveRequest) -> EnvironmentTarget {
    EnvironmentTarget { project: request.to.clone(), instance: environment.handle.status().instance }
}
