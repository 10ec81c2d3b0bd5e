//! Replaces data in several services at once: all of it, or none.
//!
//! # Theory of operation
//!
//! All new data is made beside the data in use first: databases in their servers, and volumes. The step
//! that removes each is on record before it is made. Then, in [`Replacement::put_in_place`], servers swap their databases one after another
//! and keep the old ones, so the same step still undoes everything. The last action is one record: services move to
//! their new volumes, and the old databases may be removed. A death before it is undone, and a death after it is finished, by the
//! next daemon.
//!
//! Roles that a backup of PostgreSQL names are added to the server and stay.

use std::{
    collections::BTreeMap,
    pin::{Pin, pin},
    time::Duration,
};

use devenv_api::{ApiError, ErrorCode};
use devenv_engine::{Labels, VolumeCreate};
use devenv_kinds::{
    ServiceKind,
    backup::BackupError,
    capability::{Arrived, Backups, Restores, ServerSite, Staged, StagedRestore},
    provision::{self, ProvisionContext},
};
use devenv_spec::{ServiceName, ServiceSpec};

use super::{
    Context,
    copy::{Held, held, service_of},
};
use crate::{
    environment::{Environment, Environments},
    error::{describe, failed, no_engine},
    operation_store::{ServerDatabases, Step},
    reconcile::labels,
    store::Record,
};

/// The time limit for one step of a server that the daemon carries out on its own account.
const SERVER_STEP: Duration = Duration::from_mins(1);
/// The time limit for a cancelled restore to end.
const INTERRUPT: Duration = Duration::from_secs(10);
const BETWEEN_INTERRUPTS: Duration = Duration::from_millis(250);

/// Data that is staged and not in use yet.
pub(super) struct Replacement<'a> {
    context: &'a Context,
    environment: &'a Environment,
    /// As of the start: nothing moves while the operation runs.
    record: Record,
    staged: Vec<StagedDatabases>,
    /// New volumes by their keys.
    volumes: BTreeMap<String, String>,
}

struct StagedDatabases {
    spec: ServiceSpec,
    restore: &'static dyn StagedRestore,
    databases: ServerDatabases,
}

impl<'a> Replacement<'a> {
    pub(super) async fn begin(context: &'a Context, environment: &'a Environment) -> Result<Self, ApiError> {
        let record = environment.handle.record().await?;
        Ok(Self { context, environment, record, staged: Vec::new(), volumes: BTreeMap::new() })
    }

    /// Makes databases of one server from dumps. Returns the result of each part, in order. Parts without a database, which
    /// all databases need, come first.
    pub(super) async fn stage(
        &mut self,
        spec: &ServiceSpec,
        restore: &'static dyn StagedRestore,
        parts: &[Staged],
    ) -> Result<Vec<Arrived>, ApiError> {
        let instance = self.environment.instance(&spec.name)?;
        let site = site(self.context.environments(), self.environment, spec, &instance.id);
        let names: Vec<String> = parts.iter().filter_map(|part| part.database.clone()).collect();
        let volumes = volumes_of(&self.record, &spec.name);
        let databases = ServerDatabases { environment: self.environment.id.clone(), service: spec.name.clone(), volumes, names };
        restore.prepare(&site, &databases.names).await.map_err(|error| unchanged(&error))?;
        self.context.owe(vec![Step::RevertDatabases { databases: databases.clone() }]).await?;
        self.staged.push(StagedDatabases { spec: spec.clone(), restore, databases: databases.clone() });
        let mut arrived = Vec::new();
        for part in parts {
            if let Some(database) = &part.database {
                self.context.message(format!("restoring {database} of {} beside the data in use", spec.name));
            }
            let mut stage = pin!(restore.stage(&site, part));
            let staged = match self.context.unless_cancelled(&mut stage).await {
                Ok(staged) => staged,
                Err(cancelled) => {
                    until_interrupted(restore, &site, &databases.names, stage).await;
                    return Err(cancelled);
                }
            };
            arrived.push(staged.map_err(|error| unchanged(&error))?);
        }
        Ok(arrived)
    }

    /// Makes a new volume for a service with only one. Returns the volume in use, and the new one's name.
    pub(super) async fn new_volume(&mut self, name: &ServiceName) -> Result<(Held, String), ApiError> {
        self.context.check()?;
        let from = only_volume(&self.record, name)?;
        let fresh = self.environment.handle.reserve_volumes(vec![from.key.clone()]).await?;
        let volume = fresh[&from.key].clone();
        self.context.owe(vec![Step::RemoveVolume { name: volume.clone() }]).await?;
        let environments = self.context.environments();
        let role = from.key.rsplit('/').next().map(str::to_owned);
        let labels = Labels { role, spec: None, ..labels(environments.owner(), &self.record, Some(&from.spec)) };
        let create = VolumeCreate { name: volume.clone(), labels, options: BTreeMap::new() };
        environments.engine().create_volume(&create).await.map_err(|error| no_engine(&error))?;
        self.volumes.insert(from.key.clone(), volume.clone());
        Ok((from, volume))
    }

    /// Puts everything in place. If services moved to new volumes, returns the revision after which they are ready on them.
    pub(super) async fn put_in_place(self, reason: &str) -> Result<Option<u64>, ApiError> {
        let Self { context, environment, staged, volumes, .. } = self;
        // The last moment at which stopping is clean.
        context.check()?;
        let environments = context.environments();
        for part in &staged {
            context.message(format!("putting the restored databases of {} in place", part.spec.name));
            let instance = environment.instance(&part.spec.name)?;
            let site = site(environments, environment, &part.spec, &instance.id);
            part.restore.swap(&site, &part.databases.names).await.map_err(|error| unchanged(&error))?;
        }
        let moves = (!volumes.is_empty()).then(|| Step::MoveVolumes {
            environment: environment.id.clone(),
            volumes: volumes.clone(),
            reason: reason.to_owned(),
        });
        let conclude = staged.iter().map(|part| Step::ConcludeDatabases { databases: part.databases.clone() });
        context.commit(moves.iter().cloned().chain(conclude).collect()).await?;
        let mut revision = None;
        if let Some(step) = moves {
            revision = Some(environment.handle.move_to(volumes, reason.to_owned()).await?);
            context.settle(&[step]).await?;
        }
        for part in staged {
            conclude_databases(environments, environment, &part.databases).await.map_err(|reason| {
                ApiError::new(ErrorCode::Failed, format!("the data is in place, and `{}` cannot be set up: {reason}", part.spec.name))
            })?;
            context.settle(&[Step::ConcludeDatabases { databases: part.databases }]).await?;
        }
        Ok(revision)
    }
}

/// Ends a restore that was cancelled, so that nothing of it acts after it is undone: a command that the engine is about to start
/// cannot be ended yet.
async fn until_interrupted<T>(
    restore: &dyn StagedRestore,
    site: &ServerSite<'_>,
    databases: &[String],
    mut stage: Pin<&mut impl Future<Output = T>>,
) {
    let interrupted = async {
        while restore.interrupt(site, databases).await {
            if tokio::time::timeout(BETWEEN_INTERRUPTS, &mut stage).await.is_ok() {
                break;
            }
        }
    };
    // The undo step tries once more, and reports what it cannot end.
    let _ = tokio::time::timeout(INTERRUPT, interrupted).await;
}

/// The only volume of a service.
pub(super) fn only_volume(record: &Record, name: &ServiceName) -> Result<Held, ApiError> {
    let mut found = held(record, std::slice::from_ref(name))?;
    if found.len() > 1 {
        found.truncate(1);
    }
    found.pop().ok_or_else(|| ApiError::new(ErrorCode::Usage, format!("`{name}` stores no data in a volume")))
}

/// The service's server, for the abilities of its kind.
pub(super) fn site<'a>(
    environments: &'a Environments,
    environment: &'a Environment,
    service: &'a ServiceSpec,
    container: &'a str,
) -> ServerSite<'a> {
    ServerSite {
        service,
        engine: environments.engine().as_ref(),
        container,
        vault: &environment.vault,
        authority: environment.runtime.authority(),
    }
}

pub(super) fn backup_error(error: &BackupError) -> ApiError {
    failed(ErrorCode::Failed, error)
}

fn unchanged(error: &BackupError) -> ApiError {
    backup_error(error).hint("nothing was changed")
}

fn volumes_of(record: &Record, service: &ServiceName) -> Vec<String> {
    record.volumes.iter().filter(|(key, _)| service_of(key) == service.as_str()).map(|(_, volume)| volume.clone()).collect()
}

/// Undoes what was done with databases of one server; does nothing if its data has been replaced since.
pub(super) async fn revert_databases(
    environments: &Environments,
    environment: &Environment,
    databases: &ServerDatabases,
) -> Result<(), String> {
    let Some((spec, restore)) = still_there(environment, databases).await? else { return Ok(()) };
    let instance = environment.instance(&spec.name).map_err(|error| error.message)?;
    let site = site(environments, environment, &spec, &instance.id);
    in_time(async { restore.revert(&site, &databases.names).await.map_err(|error| describe(&error)) }).await?;
    environment.reread(&spec.name).await;
    Ok(())
}

/// Sets up databases that have been put in place, and removes the old ones.
pub(super) async fn conclude_databases(
    environments: &Environments,
    environment: &Environment,
    databases: &ServerDatabases,
) -> Result<(), String> {
    let Some((spec, restore)) = still_there(environment, databases).await? else { return Ok(()) };
    let instance = environment.instance(&spec.name).map_err(|error| error.message)?;
    let site = site(environments, environment, &spec, &instance.id);
    let concluded = async {
        // A database that was swapped in has its contents, but not yet its settings and rights.
        let cx = ProvisionContext {
            vault: environment.vault.clone(),
            authority: Some(environment.runtime.authority().to_owned()),
            again: false,
        };
        for declared in &spec.provision {
            provision::apply(declared, &cx).await.map_err(|error| format!("cannot be provisioned: {error}"))?;
        }
        restore.conclude(&site, &databases.names).await.map_err(|error| describe(&error))
    };
    in_time(concluded).await?;
    environment.reread(&spec.name).await;
    Ok(())
}

/// The service and how its kind restores, if it still is on the volumes with these databases.
async fn still_there(
    environment: &Environment,
    databases: &ServerDatabases,
) -> Result<Option<(ServiceSpec, &'static dyn StagedRestore)>, String> {
    let record = environment.handle.record().await.map_err(|error| describe(&error))?;
    let Some(spec) = record.spec.as_ref().and_then(|spec| spec.services.get(&databases.service)) else { return Ok(None) };
    if volumes_of(&record, &databases.service) != databases.volumes {
        return Ok(None);
    }
    let restores = devenv_kinds::find(&spec.kind).and_then(ServiceKind::backups).and_then(Backups::restores);
    match restores {
        Some(Restores::Staged(restore)) => Ok(Some((spec.clone(), restore))),
        Some(Restores::Volume(_)) | None => Ok(None),
    }
}

async fn in_time(work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    tokio::time::timeout(SERVER_STEP, work)
        .await
        .unwrap_or_else(|_| Err(format!("not finished within {}", humantime::format_duration(SERVER_STEP))))
}
