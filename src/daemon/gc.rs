//! Removes what is nobody's any more, and what has been in the trash for long enough.

use std::{collections::HashSet, time::Duration};

use devenv_api::{ApiError, GcReport, Removed};
use tokio_util::sync::CancellationToken;

use super::{Environments, golden, internal, no_engine};
use crate::spec::EnvironmentId;

/// How long `undo` can bring volumes back.
const TRASH: Duration = Duration::from_hours(24);
const INTERVAL: Duration = Duration::from_hours(1);

/// Empties the trash of what is too old, once an hour.
pub(super) async fn sweep_regularly(environments: Environments, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        if let Err(error) = collect(&environments, false, false).await {
            tracing::warn!(%error, "The trash could not be emptied.");
        }
    }
}

/// Volumes in the trash for longer than a day (all of it with `all`), volumes that no record knows, and records of
/// environments of which nothing is left.
pub(crate) async fn collect(environments: &Environments, all: bool, dry_run: bool) -> Result<GcReport, ApiError> {
    let older_than = if all { Duration::ZERO } else { TRASH };
    let shared = &environments.shared;
    // Before the records: a volume is on record before it is made, so what is made meanwhile is not in this list.
    let volumes = shared.engine.volumes(&shared.owner).await.map_err(|error| no_engine(&error))?;
    let mut removed = Vec::new();
    let mut kept: HashSet<String> = HashSet::new();
    let mut projects = HashSet::new();
    for environment in environments.all() {
        if !dry_run {
            // Let go of first: a volume that then cannot be removed is found as nobody's the next time.
            environment.handle.empty_trash(older_than).await.map_err(ApiError::from)?;
        }
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        kept.extend(record.volumes.values().cloned());
        projects.insert(record.project.clone());
        let expired = |at: &str| {
            all || at.parse::<jiff::Timestamp>().is_ok_and(|at| jiff::Timestamp::now().duration_since(at).unsigned_abs() >= TRASH)
        };
        kept.extend(record.snapshots.values().flat_map(|snapshot| snapshot.volumes.values().cloned()));
        for trashed in record.trash.iter().filter(|trashed| !expired(&trashed.at)) {
            kept.extend(trashed.volumes.values().cloned());
        }
    }
    kept.extend(golden::retained(&shared.store, &projects, all, dry_run));
    for volume in volumes {
        if kept.contains(&volume.name) {
            continue;
        }
        if !dry_run && let Err(error) = shared.engine.remove_volume(&volume.name).await {
            tracing::warn!(%error, volume = %volume.name, "A volume could not be removed.");
            continue;
        }
        let reason = match volume.labels.role.as_deref() {
            Some(golden::ROLE) if all => "golden volumes were to go too",
            Some(golden::ROLE) => "a golden volume of a project without environments, or over the budget",
            _ => "no environment uses it",
        };
        removed.push(Removed { kind: "volume".to_owned(), name: volume.name, reason: reason.to_owned() });
    }
    if !dry_run {
        super::loops::sweep_now(environments).await;
    }
    for id in forgotten(environments, all).await? {
        if !dry_run {
            environments.forget(&id).await.map_err(internal)?;
        }
        removed.push(Removed { kind: "state".to_owned(), name: id.to_string(), reason: "nothing is left of the environment".to_owned() });
    }
    Ok(GcReport { removed, dry_run })
}

/// Environments that hold nothing: neither services nor volumes. Without `all`, only those whose project is gone as well.
async fn forgotten(environments: &Environments, all: bool) -> Result<Vec<EnvironmentId>, ApiError> {
    let mut found = Vec::new();
    for environment in environments.all() {
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let absent = environment.handle.status().phase == devenv_api::Phase::Absent;
        // Backups are made for the day on which everything else is gone.
        let needless = all && !environments.has_backups(&environment) || !record.project.exists();
        if absent && record.volumes.is_empty() && record.trash.is_empty() && needless {
            found.push(environment.id);
        }
    }
    Ok(found)
}
