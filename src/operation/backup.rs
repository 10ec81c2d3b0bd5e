//! `backup`: dumps and copies of an environment's data, with row counts and checksums.
//!
//! The backup's directory belongs to the operation until its manifest is written, and is removed with it. Import first makes a
//! backup of its own service, with [`make`].

use std::path::Path;

use devenv_api::{ApiError, Backup, BackupPart, Content, ErrorCode, OperationKind, ServicesRequest};
use devenv_kinds::{
    ServiceKind,
    capability::{Backups as BackupAbility, Dumped, Way},
};
use devenv_spec::{EnvironmentSpec, ServiceName, ServiceSpec};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Context, Prepared, Work,
    copy::{digest, go_on, pause},
    replacement::{backup_error, only_volume, site},
    services::names,
    volume_files,
};
use crate::{
    backups::Backups,
    environment::{Environment, Environments},
    error::internal,
    event::NewEvent,
    operation_store::Step,
    reconcile::CommandError,
    store::{Record, create_private},
};

pub(super) fn prepare(environments: &Environments, request: ServicesRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    let names = names(&request.services)?;
    let body = async move |context: Context, environment: Environment| backup(&context, &environment, &names).await;
    Ok(Prepared::in_environment(OperationKind::Backup, &environment, Work::Read, body))
}

async fn backup(context: &Context, environment: &Environment, names: &[ServiceName]) -> Result<Value, ApiError> {
    let (made, _) = make(context, environment, names).await?;
    context.commit(Vec::new()).await?;
    Ok(json!(finish(context, environment, made)))
}

/// Backs up the named services (all, if none is named). The backup is complete once its undo steps are settled.
pub(super) async fn make(context: &Context, environment: &Environment, names: &[ServiceName]) -> Result<(Backup, Vec<Step>), ApiError> {
    let record = environment.handle.record().await?;
    let spec = environment.spec().await?;
    if let Some(unknown) = names.iter().find(|name| !spec.services.contains_key(*name)) {
        return Err(CommandError::NoService(unknown.to_string()).into());
    }
    let backups = Backups::of(context.environments().store(), &environment.id);
    backups.sweep();
    let now = Timestamp::now();
    let mut made = Backup {
        id: backups.new_id(now),
        created_at: now.to_string(),
        services: Vec::new(),
        size: 0,
        partial: is_partial(&spec, names),
        removed: Vec::new(),
    };
    let directory = backups.directory(&made.id);
    let remove = vec![Step::RemovePath { path: directory.clone() }];
    context.owe(remove.clone()).await?;
    create_private(&directory).map_err(internal)?;
    let meant = || spec.services.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
    for (name, service) in meant() {
        if ability(service).is_some_and(|ability| !matches!(ability.way(service), Way::Skipped(_))) {
            context.environments().refuse_halted(environment, name.as_str()).await?;
        }
    }
    for (name, service) in meant() {
        let Some(ability) = ability(service) else { continue };
        context.check()?;
        context.message(format!("backing up {name}"));
        made.services.push(back_up(context, environment, &record, service, ability, (&backups, &made.id)).await?);
    }
    if made.services.iter().all(|part| part.skipped.is_some()) {
        let skipped = made.services.iter().filter_map(|part| part.skipped.as_ref().map(|reason| format!("{}: {reason}", part.service)));
        let reasons = skipped.collect::<Vec<_>>().join("; ");
        return Err(ApiError::new(ErrorCode::Usage, format!("nothing to back up {reasons}").trim().to_owned()));
    }
    made.size = made.services.iter().flat_map(|part| &part.files).map(|file| file.size).sum();
    context.check()?;
    backups.publish(&made)?;
    Ok((made, remove))
}

/// Removes the backups that make room for it.
pub(super) fn finish(context: &Context, environment: &Environment, mut made: Backup) -> Backup {
    let backups = Backups::of(context.environments().store(), &environment.id);
    // One that cannot be removed now is outdated the next time as well.
    made.removed = backups.remove_outdated().unwrap_or_else(|error| {
        tracing::warn!(%error, "Cannot remove an outdated backup.");
        Vec::new()
    });
    environment.handle.events.emit(NewEvent::new("backup.made", format!("created the backup {}", made.id)));
    made
}

async fn back_up(
    context: &Context,
    environment: &Environment,
    record: &Record,
    service: &ServiceSpec,
    ability: &dyn BackupAbility,
    (backups, id): (&Backups, &str),
) -> Result<BackupPart, ApiError> {
    let name = &service.name;
    let directory = backups.directory(id);
    let mut part =
        BackupPart { service: name.to_string(), kind: service.kind.clone(), files: Vec::new(), contents: Vec::new(), skipped: None };
    match ability.way(service) {
        Way::Skipped(reason) => part.skipped = Some(reason.to_owned()),
        Way::Dump => {
            let instance = environment.instance(name)?;
            let site = site(context.environments(), environment, service, &instance.id);
            let dumped = context.unless_cancelled(ability.dump(&site, &directory)).await?;
            let Dumped { files, contents } = dumped.map_err(|error| backup_error(&error))?;
            part.contents = contents;
            for file in files {
                part.files.push(backups.file(id, file.name, file.database).await?);
            }
        }
        Way::Files => {
            let before = counted(context, environment, service, ability).await?;
            let (file, content) = copy_files(context, environment, record, name, &directory).await?;
            part.files.push(backups.file(id, file, None).await?);
            part.contents = match (before, counted(context, environment, service, ability).await?) {
                // Changes during the copy may be missing in it.
                (Some(before), Some(after)) => before.into_iter().filter(|content| after.contains(content)).collect(),
                _ => vec![content],
            };
        }
    }
    Ok(part)
}

/// The server's own counts, where they are compared instead of its files.
pub(super) async fn counted(
    context: &Context,
    environment: &Environment,
    service: &ServiceSpec,
    ability: &dyn BackupAbility,
) -> Result<Option<Vec<Content>>, ApiError> {
    let instance = environment.instance(&service.name)?;
    let site = site(context.environments(), environment, service, &instance.id);
    let counted = context.unless_cancelled(ability.contents(&site)).await?;
    counted.map_err(|error| backup_error(&error))
}

/// The service is paused meanwhile.
async fn copy_files(
    context: &Context,
    environment: &Environment,
    record: &Record,
    name: &ServiceName,
    directory: &Path,
) -> Result<(String, Content), ApiError> {
    let held = only_volume(record, name)?;
    let paused = pause(context, environment, std::slice::from_ref(&held)).await?;
    let file = volume_files::save(context, record, &held, directory, name.as_str()).await?;
    let digest = digest(context.environments(), record, &held.volume, &held.spec).await?;
    go_on(context, &paused).await?;
    Ok((file, Content { name: "files".to_owned(), rows: digest.files, checksum: Some(digest.checksum) }))
}

/// Whether a backup of the services `names` (all, if empty) leaves out something that can be backed up.
fn is_partial(spec: &EnvironmentSpec, names: &[ServiceName]) -> bool {
    let can_be_backed_up = |service: &ServiceSpec| ability(service).is_some_and(|ability| !matches!(ability.way(service), Way::Skipped(_)));
    !names.is_empty() && spec.services.iter().any(|(name, service)| can_be_backed_up(service) && !names.contains(name))
}

/// `None` for services without data of the user.
pub(super) fn ability(service: &ServiceSpec) -> Option<&'static dyn BackupAbility> {
    devenv_kinds::find(&service.kind).and_then(ServiceKind::backups)
}
