//! The start and the end of `test`: an environment that belongs to a connection, and is removed with it.
//!
//! The environment's record says so; a daemon that finds it later, when its connection is gone,
//! removes it.

use std::time::Duration;

use devenv_api::{ApiError, AskedBy, EnvironmentTarget, ErrorCode, OperationKind, Phase};
use devenv_engine::EngineError;
use devenv_spec::EnvironmentId;
use serde_json::{Value, json};

use super::{Context, Operations, Prepared, Work, internal, lease};
use crate::{
    backups::Backups,
    environment::{Environment, Environments},
};

/// How often, and after how long, objects that the engine created late are looked for.
const LATE_LOOKS: u32 = 3;
const LATE: Duration = Duration::from_secs(1);

impl Operations {
    /// Creates a temporary environment.
    pub(crate) async fn hold(&self, target: &EnvironmentTarget, asked_by: AskedBy) -> Result<Environment, ApiError> {
        let environments = &self.shared.environments;
        refuse_used(environments, target).await?;
        let id = environments.find(target).map_or_else(|| environments.id_of(target), |environment| environment.id.clone());
        let wanted = target.clone();
        let prepared = Prepared::new(OperationKind::Test, &id, Work::Hold, async move |context: Context| {
            let environments = context.environments();
            if let Some(found) = refuse_used(environments, &wanted).await? {
                environments.forget(&found.id).await.map_err(|error| internal(&error))?;
            }
            let environment = environments.make_ephemeral(&wanted)?;
            context.message("a test run starts");
            Ok(json!(environment.id.to_string()))
        });
        self.begin(prepared, asked_by).await?.result().await?;
        environments.require(target)
    }

    /// Removes an environment for good: nothing of it is put into the trash.
    pub(crate) async fn dissolve(&self, environment: &EnvironmentId, asked_by: AskedBy) -> Result<(), ApiError> {
        self.begin(dissolve(environment), asked_by).await?.result().await.map(drop)
    }
}

/// An existing, empty environment of that name; an error if it is not empty.
async fn refuse_used(environments: &Environments, target: &EnvironmentTarget) -> Result<Option<Environment>, ApiError> {
    let Some(found) = environments.find(target) else { return Ok(None) };
    let record = found.handle.record().await?;
    let refuse = |what: String, hint: String| Err(ApiError::new(ErrorCode::Conflict, what).hint(hint));
    let instance = &target.instance;
    if !record.snapshots.is_empty() || !Backups::of(environments.store(), &found.id).is_empty() {
        return refuse(
            format!("the instance `{instance}` has backups or snapshots, which a test run would remove"),
            format!("omit `--instance`, or check them with `devenv --instance {instance} backup list` and `snapshot list`"),
        );
    }
    let is_absent = found.handle.status().phase == Phase::Absent;
    if record.ephemeral || !is_absent || record.all_volumes().next().is_some() {
        return refuse(
            format!("environment `{instance}` already exists"),
            "omit `--instance` to use a unique name, or use `--warm` to share an environment between runs".to_owned(),
        );
    }
    Ok(Some(found))
}

/// Removes the environment, and ends every operation in it.
pub(super) fn dissolve(environment: &EnvironmentId) -> Prepared {
    let id = environment.clone();
    Prepared::new(OperationKind::Test, environment, Work::Dissolve, async move |context: Context| {
        context.message("a test run ends");
        match context.environments().get(&id) {
            Some(environment) => dissolve_now(context.environments(), environment).await,
            // Somebody else has removed it while this operation waited.
            None => Ok(json!({})),
        }
    })
}

async fn dissolve_now(environments: &Environments, environment: Environment) -> Result<Value, ApiError> {
    environment.close();
    // No fault outlives its service.
    if let Err(error) = environment.faults.heal_before_removal().await {
        tracing::warn!(reason = %error.message, "Cannot undo a fault before its environment is removed.");
    }
    lease::end_commands(&environment.id).await;
    let revision = environment.handle.down(true).await?;
    environment.handle.until_down(revision).await?;
    let record = environment.handle.record().await?;
    let mut volumes: Vec<String> = record.all_volumes().cloned().collect();
    volumes.extend(environment.handle.empty_trash(Duration::ZERO).await?);
    for volume in volumes {
        // A volume that is in use, by a container that is being removed, is looked for again below.
        let _ = environments.engine().remove_volume(&volume).await;
    }
    let id = environment.id.clone();
    drop(environment);
    let rest = remove_rest(environments, &id).await;
    environments.forget(&id).await.map_err(|error| internal(&error))?;
    if !rest.is_ok_and(|found| found == 0) {
        remove_late(environments, id).await;
    }
    Ok(json!({}))
}

/// Looks for objects that the engine was still creating when it was asked to remove everything.
pub(crate) async fn remove_late(environments: &Environments, id: EnvironmentId) {
    for _ in 0..LATE_LOOKS {
        tokio::time::sleep(LATE).await;
        if environments.get(&id).is_some() {
            // Somebody has made another environment of that name.
            return;
        }
        if let Err(error) = remove_rest(environments, &id).await {
            // It has no owner, and `gc` and the next daemon remove such objects.
            tracing::warn!(%error, environment = %id, "Cannot remove the remains of an environment.");
        }
    }
}

/// Removes everything that the engine has of an environment. Returns the number of objects.
async fn remove_rest(environments: &Environments, id: &EnvironmentId) -> Result<usize, EngineError> {
    let (engine, owner) = (environments.engine(), environments.owner());
    let mut found = 0;
    for container in engine.containers(owner).await?.into_iter().filter(|container| container.labels.environment == *id) {
        found += 1;
        engine.remove_container(&container.id).await?;
    }
    for network in engine.networks(owner).await?.into_iter().filter(|network| network.labels.environment == *id) {
        found += 1;
        engine.remove_network(&network.id).await?;
    }
    for volume in engine.volumes(owner).await?.into_iter().filter(|volume| volume.labels.environment == *id) {
        found += 1;
        engine.remove_volume(&volume.name).await?;
    }
    Ok(found)
}
