//! `fork`: a new instance with a copy of this one's data and secrets.

use std::{fs, io, os::unix::fs::OpenOptionsExt, path::Path};

use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, NamedRequest, OperationKind};
use serde_json::{Value, json};

use super::{
    Claim, Context, Prepared, Work,
    copy::{copy, go_on, held, move_to, pause},
    internal,
};
use crate::{
    environment::{Environment, Environments},
    error::describe,
    operation_store::Step,
    store::create_private,
};

pub(super) async fn prepare(environments: &Environments, request: NamedRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    held(&environment.handle.record().await?, &[])?;
    let target = EnvironmentTarget { instance: request.name, ..request.target };
    refuse_known(environments, &target).await?;
    let forked = environments.find(&target).map_or_else(|| environments.id_of(&target), |found| found.id.clone());
    let body = async move |context: Context, environment: Environment| fork(&context, &environment, &target).await;
    let mut prepared = Prepared::in_environment(OperationKind::Fork, &environment, Work::Read, body);
    prepared.claims.push(Claim { environment: Some(forked), work: Work::Replace });
    Ok(prepared)
}

/// It is brought up like any other, by an operation of its own.
async fn fork(context: &Context, environment: &Environment, target: &EnvironmentTarget) -> Result<Value, ApiError> {
    let environments = context.environments();
    refuse_known(environments, target).await?;
    let record = environment.handle.record().await?;
    let held = held(&record, &[])?;
    if environments.find(target).is_none() {
        context.owe(vec![Step::ForgetEnvironment { environment: environments.id_of(target) }]).await?;
    }
    let forked = environments.ensure(target)?;
    // The data is opened by the secrets it was made with.
    let (from, to) = (environments.secrets_of(&environment.id), environments.secrets_of(&forked.id));
    let copied = tokio::task::spawn_blocking(move || copy_secrets(&from, &to)).await;
    copied.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
    forked.vault.load().map_err(|error| internal(&error))?;
    let theirs = forked.handle.record().await?;
    let fresh = forked.handle.reserve_volumes(held.iter().map(|held| held.key.clone()).collect()).await?;
    let paused = pause(context, environment, &held).await?;
    for (count, held) in held.iter().enumerate() {
        context.progress(count as u64, Some(fresh.len() as u64), "volumes");
        let role = held.key.rsplit('/').next().unwrap_or_default();
        copy(context, &theirs, held, &fresh[&held.key], role).await?;
    }
    go_on(context, &paused).await?;
    context.check()?;
    move_to(context, &forked, fresh, "fork").await?;
    Ok(json!(forked.handle.status()))
}

async fn refuse_known(environments: &Environments, target: &EnvironmentTarget) -> Result<(), ApiError> {
    let Some(found) = environments.find(target) else { return Ok(()) };
    let theirs = found.handle.record().await?;
    if theirs.volumes.is_empty() && theirs.spec.is_none() {
        return Ok(());
    }
    let instance = &target.instance;
    Err(ApiError::new(ErrorCode::Conflict, format!("instance `{instance}` already exists"))
        .hint(format!("run `devenv down --instance {instance} --volumes` to remove it")))
}

/// An environment without secrets has no directory of them.
fn copy_secrets(from: &Path, to: &Path) -> io::Result<()> {
    let services = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        services => services?,
    };
    for service in services {
        let service = service?;
        if !service.file_type()?.is_dir() {
            continue;
        }
        let target = to.join(service.file_name());
        create_private(&target).map_err(|error| io::Error::other(describe(&error)))?;
        for secret in fs::read_dir(service.path())? {
            let secret = secret?;
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(target.join(secret.file_name()))?;
            io::Write::write_all(&mut file, &fs::read(secret.path())?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_without_secrets_has_none_to_copy() {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        copy_secrets(&from, &to).unwrap();
        fs::create_dir_all(from.join("db")).unwrap();
        fs::write(from.join("db/app"), "secret").unwrap();
        copy_secrets(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("db/app")).unwrap(), "secret");
    }
}
