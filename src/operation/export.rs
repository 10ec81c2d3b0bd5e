//! `export`: dumps a service's data to files of the user, each with a manifest for comparison when it is imported.
//!
//! A dump is written under a temporary name, and renamed when all are complete.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use devenv_api::{ApiError, ErrorCode, OperationKind, TransferRequest, Transferred};
use devenv_kinds::backup::compare;
use serde_json::{Value, json};

use super::{
    Context, Prepared, Work,
    owed::carry_out,
    replacement::{backup_error, site},
    transfer::{manifest_of, service, targets, transfers_of},
};
use crate::{
    blocking,
    environment::{Environment, Environments},
    error::{absolute, internal},
    operation_store::Step,
    store::write_atomically,
};

pub(super) fn prepare(environments: &Environments, request: TransferRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    absolute("`place`", &request.place)?;
    let body = async move |context: Context, environment: Environment| export(&context, &environment, &request).await;
    Ok(Prepared::in_environment(OperationKind::Export, &environment, Work::Read, body))
}

async fn export(context: &Context, environment: &Environment, request: &TransferRequest) -> Result<Value, ApiError> {
    let began = Instant::now();
    let service = service(environment, &request.service).await?;
    let transfers = transfers_of(&service)?;
    context.environments().refuse_halted(environment, service.name.as_str()).await?;
    let place = PathBuf::from(&request.place);
    blocking::reachable(&place).await?;
    let all = request.database.is_none() && place.is_dir();
    let (mut databases, mut steps) = (Vec::new(), Vec::new());
    for (database, file) in targets(transfers, &service, request.database.as_deref(), &place, all)? {
        context.check()?;
        let file = destination(&file)?;
        let (dump, its_manifest) = (unfinished(&file, context.id()), unfinished(&manifest_of(&file), context.id()));
        context.owe([&dump, &its_manifest].map(|path| Step::RemovePath { path: path.clone() }).to_vec()).await?;
        context.message(format!("exporting {}", database.as_deref().unwrap_or(service.name.as_str())));
        let instance = environment.instance(&service.name)?;
        let site = site(context.environments(), environment, &service, &instance.id);
        let exported = context.unless_cancelled(transfers.export(&site, database.as_deref(), &dump)).await?;
        let contents = exported.map_err(|error| backup_error(&error))?;
        let text = serde_json::to_vec_pretty(&contents).expect("plain data serializes to JSON");
        write_atomically(&its_manifest, &text).map_err(internal)?;
        // The old manifest is removed first, because it does not describe the new dump.
        steps.push(Step::RemovePath { path: manifest_of(&file) });
        steps.push(Step::RenameFile { from: dump, to: file.clone() });
        steps.push(Step::RenameFile { from: its_manifest, to: manifest_of(&file) });
        databases.push(compare(database.as_deref().unwrap_or(service.name.as_str()), &contents, &contents));
    }
    context.check()?;
    context.commit(steps.clone()).await?;
    for step in &steps {
        carry_out(context.environments(), step).await.map_err(|reason| ApiError::new(ErrorCode::Failed, reason))?;
    }
    context.settle(&steps).await?;
    Ok(json!(Transferred {
        service: service.name.to_string(),
        place: request.place.clone(),
        verified: true,
        databases,
        backup: None,
        elapsed_ms: began.elapsed().as_millis() as u64,
    }))
}

/// The target, if the path is a link to a file.
fn destination(file: &Path) -> Result<PathBuf, ApiError> {
    match fs::metadata(file) {
        Ok(found) if found.is_file() => fs::canonicalize(file).map_err(internal),
        Ok(_) => Err(ApiError::new(ErrorCode::Usage, format!("{} exists and is not a file", file.display()))
            .hint("give the name of a file, or a directory without `--database`")),
        Err(_) => Ok(file.to_owned()),
    }
}

/// The temporary name of a file: in the same directory, so that it can be renamed.
fn unfinished(file: &Path, id: &str) -> PathBuf {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    file.with_file_name(format!(".{name}.{id}.part"))
}
