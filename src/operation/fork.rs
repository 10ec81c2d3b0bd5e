//! `fork`: a new instance with a copy of this one's data and secrets.

use std::{fs, io, path::Path};

use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, ForkRequest, OperationKind, OperationRequest, UpRequest, is_instance_name};
use serde_json::{Value, json};

use super::{
    Claim, Context, Prepared, Work,
    copy::{copy, go_on, held, move_and, pause},
    internal, up,
};
use crate::{
    environment::{Environment, Environments},
    error::describe,
    operation_store::Step,
    store::{create_private, write_atomically},
};

pub(super) async fn prepare(environments: &Environments, request: ForkRequest) -> Result<Prepared, ApiError> {
    if !is_instance_name(&request.name) {
        return Err(ApiError::new(ErrorCode::Usage, format!("`{}` is not an instance name", request.name.escape_debug()))
            .hint("a name starts with a letter or digit and has at most 40 letters, digits, `-`, `_` and `.`"));
    }
    let environment = environments.require(&request.target)?;
    held(&environment.handle.record().await?, &[])?;
    let target = EnvironmentTarget { instance: request.name, ..request.target };
    refuse_known(environments, &target).await?;
    let forked = environments.find(&target).map_or_else(|| environments.id_of(&target), |found| found.id.clone());
    let up = request.up.clone();
    let body = async move |context: Context, environment: Environment| fork(&context, &environment, &target, up.as_ref()).await;
    let mut prepared = Prepared::in_environment(OperationKind::Fork, &environment, Work::Read, body);
    prepared.claims.push(Claim { environment: Some(forked), work: Work::Replace });
    Ok(prepared.then(request.up.map(OperationRequest::Up)))
}

/// It is brought up when this ends; the operation that continues this one waits for it.
async fn fork(context: &Context, environment: &Environment, target: &EnvironmentTarget, up: Option<&UpRequest>) -> Result<Value, ApiError> {
    let environments = context.environments();
    refuse_known(environments, target).await?;
    // A copy is useless if it cannot be brought up.
    if let Some(up) = up {
        environments.draft(&up.target, up.document.clone()).await?;
    }
    let record = environment.handle.record().await?;
    let held = held(&record, &[])?;
    if environments.find(target).is_none() {
        context.owe(vec![Step::ForgetEnvironment { environment: environments.id_of(target) }]).await?;
    }
    let forked = environments.ensure(target)?;
    // The data can only be opened with the secrets it was made with.
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
    let spec = match up {
        Some(up) => Some(up::compiled(environments, &forked, up).await?),
        None => None,
    };
    // On record with the move: a daemon that dies before the next operation begins leaves no copy that nobody starts.
    let afterwards = spec.map(|spec| Step::BringUp { environment: forked.id.clone(), spec: Box::new(spec) });
    move_and(context, &forked, fresh, "fork", afterwards).await?;
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

/// An environment without secrets has no directory for them.
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
            // A truncated file would be a wrong secret.
            let text = fs::read(secret.path())?;
            write_atomically(&target.join(secret.file_name()), &text).map_err(|error| io::Error::other(describe(&error)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

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
        let mode = fs::metadata(to.join("db/app")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_copied_secret_takes_the_place_of_a_half_written_one_as_a_whole() {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("from/db"), place.path().join("to/db"));
        for (directory, text) in [(&from, "secret"), (&to, "sec")] {
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join("app"), text).unwrap();
        }
        // A concurrent reader sees the old file or the new one: the old file is not written to.
        let before = fs::metadata(to.join("app")).unwrap().ino();
        let mut reader = fs::File::open(to.join("app")).unwrap();
        copy_secrets(&place.path().join("from"), &place.path().join("to")).unwrap();
        assert_ne!(fs::metadata(to.join("app")).unwrap().ino(), before);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text, "sec");
        assert_eq!(fs::read_to_string(to.join("app")).unwrap(), "secret");
    }
}
