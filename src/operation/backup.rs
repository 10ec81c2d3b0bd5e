//! `backup`, `backup restore`, `import` and `export`.

use devenv_api::{ApiError, OperationKind, RestoreRequest, ServicesRequest, TransferRequest};
use serde_json::json;

use super::{Context, Prepared, Work, services::names};
use crate::environment::Environments;

pub(super) fn save(environments: &Environments, request: ServicesRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    let names = names(&request.services)?;
    let id = environment.id.clone();
    Ok(Prepared::new(OperationKind::Backup, &id, Work::Read, async move |context: Context| {
        Ok(json!(context.environments().save_backup(&environment, &names).await?))
    }))
}

pub(super) fn restore(environments: &Environments, request: RestoreRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    let from = environments.require(request.from.as_ref().unwrap_or(&request.target))?;
    let id = environment.id.clone();
    Ok(Prepared::new(OperationKind::BackupRestore, &id, Work::Replace, async move |context: Context| {
        Ok(json!(context.environments().restore_backup(&environment, &from, &request.id).await?))
    }))
}

pub(super) fn import(environments: &Environments, request: TransferRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    let id = environment.id.clone();
    Ok(Prepared::new(OperationKind::Import, &id, Work::Replace, async move |context: Context| {
        Ok(json!(context.environments().import(&environment, &request).await?))
    }))
}

pub(super) fn export(environments: &Environments, request: TransferRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    let id = environment.id.clone();
    Ok(Prepared::new(OperationKind::Export, &id, Work::Read, async move |context: Context| {
        Ok(json!(context.environments().export(&environment, &request).await?))
    }))
}
