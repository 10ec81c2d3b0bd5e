//! `backup restore`: replaces the data with a backup, of this environment or of another one.
//!
//! Restored data is counted and compared: databases before they are put in place, volumes afterwards, when
//! their servers run on them.

use std::time::{Duration, Instant};

use devenv_api::{ApiError, Backup, BackupFile, BackupPart, Compared, Content, ErrorCode, OperationKind, RestoreRequest, Restored};
use devenv_kinds::{
    backup::{compare, verified},
    capability::{Backups as BackupAbility, Restores, Staged, StagedRestore, Way},
};
use devenv_spec::{ServiceName, ServiceSpec};
use serde_json::{Value, json};

use super::{
    Context, Prepared, Work,
    backup::{ability, counted},
    copy::{digest, same},
    ready::Concerned,
    replacement::{Replacement, backup_error, only_volume, site},
    volume_files,
};
use crate::{
    backups::Backups,
    environment::{Environment, Environments},
    error::internal,
    event::NewEvent,
};

/// How long a server may recover restored files before its counts must match.
const RECOVERS: Duration = Duration::from_secs(15);
/// Between two counts.
const AGAIN: Duration = Duration::from_millis(250);

pub(super) fn prepare(environments: &Environments, request: RestoreRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    let from = environments.require(request.from.as_ref().unwrap_or(&request.target))?;
    let backups = Backups::of(environments.store(), &from.id);
    backups.find(&request.id)?;
    let body = async move |context: Context, environment: Environment| restore(&context, &environment, &backups, &request.id).await;
    Ok(Prepared::in_environment(OperationKind::BackupRestore, &environment, Work::Replace, body))
}

/// A part of a backup whose service exists.
struct Part<'a> {
    saved: &'a BackupPart,
    service: &'a ServiceSpec,
    ability: &'static dyn BackupAbility,
}

async fn restore(context: &Context, environment: &Environment, backups: &Backups, id: &str) -> Result<Value, ApiError> {
    let began = Instant::now();
    context.follow(environment);
    let wanted = backups.find(id)?;
    let spec = environment.spec().await?;
    let mut parts = Vec::new();
    for saved in wanted.services.iter().filter(|part| part.skipped.is_none()) {
        let name: ServiceName = saved.service.parse().map_err(internal)?;
        // A service that the profile does not have any more cannot be restored.
        let Some((service, ability)) = spec.services.get(&name).and_then(|service| Some((service, ability(service)?))) else { continue };
        context.environments().refuse_halted(environment, name.as_str()).await?;
        for file in &saved.files {
            context.check()?;
            backups.check(&wanted.id, file).await?;
        }
        parts.push(Part { saved, service, ability });
    }
    let touched: Vec<ServiceName> = parts.iter().map(|part| part.service.name.clone()).collect();
    let concerned = Concerned::of(environment, &touched);
    let mut replacement = Replacement::begin(context, environment).await?;
    let mut compared = Vec::new();
    for part in &parts {
        compared.extend(part.make(context, environment, &mut replacement, (backups, &wanted)).await?);
    }
    let revision = replacement.put_in_place("restore").await?;
    if let Some(revision) = revision {
        until_up(context, &concerned, revision).await?;
    }
    for part in &parts {
        if let Some(after) = part.after(context, environment).await? {
            compared.push(compare(&part.saved.service, &comparable(&part.saved.contents, &after), &after));
        }
    }
    environment.handle.events.emit(NewEvent::new("backup.restored", format!("restored the backup {}", wanted.id)));
    let verified = verified(&compared);
    Ok(json!(Restored { backup: wanted.id, verified, services: compared, elapsed_ms: began.elapsed().as_millis() as u64 }))
}

/// Waits until the services that are concerned run on their new volumes.
pub(super) async fn until_up(context: &Context, concerned: &Concerned<'_>, revision: u64) -> Result<(), ApiError> {
    let left = "the restored data is in place, and services keep starting on it";
    concerned.until_up(context, revision, left).await?.map(drop).map_err(|error| {
        let message = format!("the restored data is in place, and not every service is ready on it: {}", error.message);
        ApiError::new(ErrorCode::Failed, message)
            .hint("see `devenv why` and `devenv logs`; to bring the previous data back, run `devenv down` and `devenv undo`")
    })
}

impl Part<'_> {
    /// Stages the data beside the data in use. Returns the comparison, where it is possible already.
    async fn make(
        &self,
        context: &Context,
        environment: &Environment,
        replacement: &mut Replacement<'_>,
        (backups, backup): (&Backups, &Backup),
    ) -> Result<Option<Compared>, ApiError> {
        let directory = backups.directory(&backup.id);
        match (self.ability.way(self.service), self.ability.restores()) {
            (Way::Dump, Some(Restores::Staged(restore))) => self.stage(replacement, restore, &directory).await.map(Some),
            (Way::Dump, Some(Restores::Volume(restore))) => {
                let record = environment.handle.record().await?;
                let (held, volume) = replacement.new_volume(&self.service.name).await?;
                let dump = directory.join(&self.file()?.name);
                volume_files::put_dump(context, &record, &held, &volume, (restore.file(), &dump)).await?;
                Ok(None)
            }
            (Way::Files, _) => {
                let record = environment.handle.record().await?;
                let (held, volume) = replacement.new_volume(&self.service.name).await?;
                volume_files::restore(context, &record, &held, &volume, &directory.join(&self.file()?.name)).await?;
                Ok(None)
            }
            (Way::Dump | Way::Skipped(_), _) => Ok(None),
        }
    }

    async fn stage(
        &self,
        replacement: &mut Replacement<'_>,
        restore: &'static dyn StagedRestore,
        directory: &std::path::Path,
    ) -> Result<Compared, ApiError> {
        let parts = |all: bool| self.saved.files.iter().filter(move |file| file.database.is_none() == all);
        let staged = |file: &BackupFile| Staged { database: file.database.clone(), file: directory.join(&file.name), own: true };
        let staged: Vec<Staged> = parts(true).chain(parts(false)).map(staged).collect();
        let arrived = replacement.stage(self.service, restore, &staged).await?;
        let after: Vec<Content> = arrived.into_iter().flat_map(|arrived| arrived.contents).collect();
        let compared = compare(&self.saved.service, &self.saved.contents, &after);
        if compared.differences.is_empty() {
            return Ok(compared);
        }
        let differences = compared.differences.join("; ");
        let message = format!("what came out of the backup of `{}` is not what went in: {differences}", self.service.name);
        Err(ApiError::new(ErrorCode::Failed, message).hint("nothing was changed"))
    }

    /// The contents of the service once it runs on its new volume; `None` for one that was compared before.
    async fn after(&self, context: &Context, environment: &Environment) -> Result<Option<Vec<Content>>, ApiError> {
        match (self.ability.way(self.service), self.ability.restores()) {
            (Way::Dump, Some(Restores::Volume(restore))) => {
                let instance = environment.instance(&self.service.name)?;
                let site = site(context.environments(), environment, self.service, &instance.id);
                Ok(Some(restore.contents(&site).await.map_err(|error| backup_error(&error))?))
            }
            (Way::Files, _) => {
                if let Some(now) = self.counted(context, environment).await? {
                    return Ok(Some(now));
                }
                let record = environment.handle.record().await?;
                let held = only_volume(&record, &self.service.name)?;
                let digest = digest(context.environments(), &record, &held.volume, &held.spec).await?;
                Ok(Some(vec![Content { name: "files".to_owned(), rows: digest.files, checksum: Some(digest.checksum) }]))
            }
            (Way::Dump | Way::Skipped(_), _) => Ok(None),
        }
    }

    /// The server's counts of what the backup counted: one that has just been started may still be recovering.
    async fn counted(&self, context: &Context, environment: &Environment) -> Result<Option<Vec<Content>>, ApiError> {
        let began = Instant::now();
        loop {
            let Some(mut now) = counted(context, environment, self.service, self.ability).await? else { return Ok(None) };
            now.retain(|now| self.saved.contents.iter().any(|had| had.name == now.name));
            if compare(&self.saved.service, &self.saved.contents, &now).differences.is_empty() || began.elapsed() > RECOVERS {
                return Ok(Some(now));
            }
            // No server reports when it has finished recovering.
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn file(&self) -> Result<&BackupFile, ApiError> {
        let missing = || ApiError::new(ErrorCode::Failed, format!("the backup of `{}` has no file", self.saved.service));
        self.saved.files.first().ok_or_else(missing)
    }
}

/// The saved contents, without checksums that were made by another method than the current ones.
fn comparable(before: &[Content], after: &[Content]) -> Vec<Content> {
    let mut before = before.to_vec();
    for content in &mut before {
        let there = after.iter().find(|there| there.name == content.name).and_then(|there| there.checksum.as_deref());
        if let (Some(saved), Some(there)) = (content.checksum.as_deref(), there)
            && same(saved, there).is_none()
        {
            content.checksum = None;
        }
    }
    before
}
