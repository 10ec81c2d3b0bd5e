//! `snapshot save`, `restore` and `remove`: named copies of an environment's data.
//!
//! A snapshot is a copy of every volume at one moment: services with data are paused while they are copied. It exists once
//! the environment's record names it; until then its volumes belong to the operation, and are removed with it.

use std::collections::BTreeMap;

use devenv_api::{ApiError, ErrorCode, NamedRequest, OperationKind, SnapshotPart};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Context, Prepared, Work,
    copy::{Held, copy, digest, go_on, held, move_to, not_up, pause, same, service_of},
    ready::Concerned,
};
use crate::{
    environment::{Environment, Environments},
    error::no_engine,
    operation_store::Step,
    store::{Record, SnapshotRecord},
};

pub(super) async fn save(environments: &Environments, request: NamedRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    let record = environment.handle.record().await?;
    refuse_known(&record, &request.name)?;
    held(&record, &[])?;
    let body = async move |context: Context, environment: Environment| save_now(&context, &environment, &request.name).await;
    Ok(Prepared::in_environment(OperationKind::SnapshotSave, &environment, Work::Read, body))
}

async fn save_now(context: &Context, environment: &Environment, name: &str) -> Result<Value, ApiError> {
    let record = environment.handle.record().await?;
    refuse_known(&record, name)?;
    let held = held(&record, &[])?;
    let mut made = SnapshotRecord { created_at: Timestamp::now().to_string(), volumes: BTreeMap::new(), services: Vec::new() };
    let paused = pause(context, environment, &held).await?;
    for (count, held) in held.iter().enumerate() {
        context.progress(count as u64, Some(volumes_of(&record)), "volumes");
        let volume = format!("devenv-{}-snapshot-{name}-{}", record.id, held.key.replace('/', "-"));
        copy(context, &record, held, &volume, "snapshot").await?;
        made.volumes.insert(held.key.clone(), volume);
    }
    go_on(context, &paused).await?;
    for (key, volume) in &made.volumes {
        context.check()?;
        let Some(held) = held.iter().find(|held| held.key == *key) else { continue };
        let digest = digest(context.environments(), &record, volume, &held.spec).await?;
        made.services.push(SnapshotPart { name: service_of(key).to_owned(), size: digest.size, checksum: digest.checksum });
    }
    context.check()?;
    environment.handle.add_snapshot(name.to_owned(), made.clone()).await?;
    context.commit(Vec::new()).await?;
    Ok(json!(made.shown(name)))
}

fn volumes_of(record: &Record) -> u64 {
    record.volumes.len() as u64
}

fn refuse_known(record: &Record, name: &str) -> Result<(), ApiError> {
    if !record.snapshots.contains_key(name) {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::Conflict, format!("snapshot `{name}` already exists"))
        .hint(format!("run `devenv snapshot remove {name}` to remove it")))
}

pub(super) async fn restore(environments: &Environments, request: NamedRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    let record = environment.handle.record().await?;
    find(&record, &request.name)?;
    record.spec.as_ref().ok_or_else(not_up)?;
    let body = async move |context: Context, environment: Environment| restore_now(&context, &environment, &request.name).await;
    Ok(Prepared::in_environment(OperationKind::SnapshotRestore, &environment, Work::Replace, body))
}

/// Moves services to copies of the snapshot's volumes, and waits until they are ready again.
async fn restore_now(context: &Context, environment: &Environment, name: &str) -> Result<Value, ApiError> {
    context.follow(environment);
    let record = environment.handle.record().await?;
    let snapshot = find(&record, name)?;
    let spec = record.spec.as_ref().ok_or_else(not_up)?;
    let mut parts = Vec::new();
    for (part, (key, volume)) in snapshot.services.iter().zip(&snapshot.volumes) {
        // A service that the profile does not have any more cannot be restored.
        let Some(spec) = spec.services.get(service_of(key)) else { continue };
        context.check()?;
        let found = digest(context.environments(), &record, volume, spec).await?;
        if same(&found.checksum, &part.checksum) == Some(false) {
            let message = format!("snapshot `{name}` of {} is damaged: its checksum differs", part.name);
            return Err(ApiError::new(ErrorCode::Failed, message).hint("nothing was changed; use another snapshot"));
        }
        parts.push(Held { key: key.clone(), spec: spec.clone(), volume: volume.clone() });
    }
    let fresh = environment.handle.reserve_volumes(parts.iter().map(|part| part.key.clone()).collect()).await?;
    for part in &parts {
        let role = part.key.rsplit('/').next().unwrap_or_default();
        copy(context, &record, part, &fresh[&part.key], role).await?;
    }
    let touched: Vec<_> = parts.iter().map(|part| part.spec.name.clone()).collect();
    let concerned = Concerned::of(environment, &touched);
    let _lifted = environment.faults.lift_halting(&touched).await;
    context.check()?;
    let turn = move_to(context, environment, fresh, "snapshot restore").await?;
    let left = "the data of the snapshot is in place, and services keep starting on it";
    Ok(json!(concerned.until_ready(context, turn, left).await?))
}

pub(super) async fn remove(environments: &Environments, request: NamedRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    find(&environment.handle.record().await?, &request.name)?;
    let body = async move |context: Context, environment: Environment| remove_now(&context, &environment, &request.name).await;
    Ok(Prepared::in_environment(OperationKind::SnapshotRemove, &environment, Work::Read, body))
}

async fn remove_now(context: &Context, environment: &Environment, name: &str) -> Result<Value, ApiError> {
    let record = environment.handle.record().await?;
    let snapshot = find(&record, name)?;
    // The record is changed first: a volume on a record is not removed, and one on none is.
    let steps: Vec<Step> = snapshot.volumes.values().map(|volume| Step::RemoveVolume { name: volume.clone() }).collect();
    context.owe(steps.clone()).await?;
    environment.handle.remove_snapshot(name.to_owned()).await?;
    context.commit(steps.clone()).await?;
    for volume in steps.iter().flat_map(Step::volumes) {
        context.environments().engine().remove_volume(volume).await.map_err(|error| no_engine(&error))?;
    }
    context.settle(&steps).await?;
    Ok(json!({}))
}

fn find<'a>(record: &'a Record, name: &str) -> Result<&'a SnapshotRecord, ApiError> {
    record.snapshots.get(name).ok_or_else(|| {
        let known: Vec<&str> = record.snapshots.keys().map(String::as_str).collect();
        let hint = if known.is_empty() {
            "run `devenv snapshot save NAME` to create one".to_owned()
        } else {
            format!("available snapshots: {}", known.join(", "))
        };
        ApiError::new(ErrorCode::NotFound, format!("snapshot `{name}` does not exist")).hint(hint)
    })
}
