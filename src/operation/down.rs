//! `down`: stops an environment and removes its containers and network.

use devenv_api::{ApiError, DownRequest, EnvironmentTarget, OperationKind, Phase, Status};
use serde_json::{Value, json};

use super::{
    Context, Prepared, Work,
    ready::{interrupted, with_time},
};
use crate::{environment::Environments, store::Goal};

pub(super) fn prepare(environments: &Environments, request: DownRequest) -> Prepared {
    let id = environments.find(&request.target).map_or_else(|| environments.id_of(&request.target), |environment| environment.id.clone());
    Prepared::new(OperationKind::Down, &id, Work::Down, async move |context: Context| down(&context, request).await)
}

async fn down(context: &Context, request: DownRequest) -> Result<Value, ApiError> {
    let environments = context.environments();
    let nothing = || json!(with_time(context, absent(environments, &request.target)));
    let Some(environment) = environments.find(&request.target) else { return Ok(nothing()) };
    context.follow(&environment);
    // Undo faults first: no fault outlives its service.
    if let Err(error) = environment.faults.heal_before_removal().await {
        tracing::warn!(reason = %error.message, "Cannot undo a fault before its service is removed.");
    }
    if environment.is_open().is_err() {
        // Its holder has ended, and it was removed while this operation waited.
        return Ok(nothing());
    }
    let revision = environment.handle.down(request.volumes).await?;
    context.commit(Vec::new()).await?;
    let Ok(view) = context.unless_cancelled(environment.handle.until_down(revision)).await else {
        return Err(context.cancelled("the environment keeps stopping").hint("run `devenv status` to see its progress"));
    };
    let view = view?;
    match view.goal {
        Goal::Up => Err(interrupted("another command started the environment again")),
        Goal::Down | Goal::DownWithVolumes => Ok(json!(with_time(context, view.status))),
    }
}

/// The status of an environment without resources.
pub(crate) fn absent(environments: &Environments, target: &EnvironmentTarget) -> Status {
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
        operations: Vec::new(),
        overridden: Vec::new(),
        project_gone: false,
        subnet: None,
        timings: None,
    }
}
