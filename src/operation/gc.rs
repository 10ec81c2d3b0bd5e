//! `gc`: removes what has no owner any more, what has been unused for long, and what exceeds the size limit.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use devenv_api::{ApiError, AskedBy, DownRequest, GcReport, GcRequest, OperationKind, OperationRequest, Phase, Removed, Submission};
use devenv_engine::EngineError;
use devenv_spec::EnvironmentId;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Claim, Context, Operations, Prepared, Work, test};
use crate::{
    backups::Backups,
    blocking::is_gone,
    environment::{Environment, Environments},
    error::{internal, no_engine},
    golden,
    operation_store::InFlight,
    runtime::{loop_devices, repositories},
    store::{Goal, age},
};

/// How long `undo` can bring volumes back.
const TRASH: Duration = Duration::from_hours(24);
/// How long an environment of a test run stays warm for the next one.
const WARM: Duration = Duration::from_hours(24);
const INTERVAL: Duration = Duration::from_hours(1);

/// Removes trash that is too old, once an hour.
pub(crate) async fn sweep_regularly(operations: Operations, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let asked_by = AskedBy { command: "the daemon, every hour".to_owned(), ..AskedBy::default() };
        let swept = match operations.submit(Submission { request: OperationRequest::Gc(GcRequest::default()), asked_by }).await {
            Ok(follower) => follower.result().await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = swept {
            tracing::warn!(%error, "Cannot empty the trash.");
        }
    }
}

pub(super) fn prepare(request: GcRequest) -> Prepared {
    let claims = vec![Claim { environment: None, work: Work::Collect }];
    Prepared::with_claims(OperationKind::Gc, claims, async move |context: Context| {
        Ok::<Value, ApiError>(json!(collect(&context, &request).await?))
    })
}

/// How much data that may still be useful is kept.
struct Limits {
    /// Older trash is removed.
    trash: Duration,
    /// The most disk space for golden volumes, with their spare copies.
    golden: u64,
}

async fn collect(context: &Context, request: &GcRequest) -> Result<GcReport, ApiError> {
    let dry_run = request.dry_run;
    let environments = context.environments();
    let mut removed = idle(context, request).await?;
    // The engine is read first, then the operations, then the records: an operation lists what it makes before
    // it makes it, until it is on a record. So an object that is being made is never taken for one without an owner.
    removed.extend(nobodys(context, dry_run).await.map_err(|error| no_engine(&error))?);
    let volumes = environments.engine().volumes(environments.owner()).await.map_err(|error| no_engine(&error))?;
    let in_flight = context.operations().store().in_flight();
    let limits = limits(environments, request, volumes.iter().map(|volume| volume.name.as_str())).await?;
    let (mut kept, busy) = (in_flight.volumes, in_flight.environments);
    let mut projects = HashSet::new();
    for environment in environments.all() {
        if !dry_run {
            // Forgotten first: a volume that then cannot be removed has no owner and is found the next time.
            environment.handle.empty_trash(limits.trash).await.map_err(ApiError::from)?;
        }
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        kept.extend(record.volumes.values().cloned());
        projects.insert(record.project.clone());
        kept.extend(record.snapshots.values().flat_map(|snapshot| snapshot.volumes.values().cloned()));
        for trashed in record.trash.iter().filter(|trashed| age(&trashed.at).is_none_or(|age| age < limits.trash)) {
            kept.extend(trashed.volumes.values().cloned());
        }
    }
    kept.extend(golden::retained(environments.store(), &projects, limits.golden, dry_run));
    for volume in volumes {
        // An operation may be making volumes in its environment; volumes without an owner are found the next time.
        if kept.contains(&volume.name) || busy.contains(&volume.labels.environment) {
            continue;
        }
        context.check()?;
        if !dry_run && let Err(error) = environments.engine().remove_volume(&volume.name).await {
            tracing::warn!(%error, volume = %volume.name, "Cannot remove a volume.");
            continue;
        }
        let reason = match volume.labels.role.as_deref() {
            Some(golden::ROLE) if request.all => "golden volumes are removed on request",
            Some(golden::ROLE) => "golden volume of a project without environments, or over budget",
            _ => "not used by any environment",
        };
        removed.push(removed_item("volume", volume.name, reason));
    }
    if !dry_run {
        sweep_disks(environments).await;
    }
    removed.extend(checkouts(environments, request).await?);
    for id in forgotten(context, request.all).await? {
        if !dry_run {
            let Some(environment) = environments.get(&id) else { continue };
            have_done(context, forget(&environment, request.all)).await?;
        }
        removed.push(removed_item("state", id.to_string(), "the environment no longer exists"));
    }
    Ok(GcReport { removed, dry_run })
}

fn removed_item(kind: &str, name: String, reason: impl Into<String>) -> Removed {
    Removed { kind: kind.to_owned(), name, reason: reason.into() }
}

/// Removes environments that test runs have left warm, and takes down others if requested.
async fn idle(context: &Context, request: &GcRequest) -> Result<Vec<Removed>, ApiError> {
    let asked = request.idle_ms.map(Duration::from_millis);
    let mut removed = Vec::new();
    for environment in context.environments().all() {
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let idle = environment.activity.idle();
        let name = format!("{} of {}", record.instance, record.project.display());
        let unused = || format!("not used for {}", humantime::format_duration(Duration::from_secs(idle.as_secs())));
        if record.warm && idle > asked.unwrap_or(WARM) {
            if !request.dry_run {
                have_done(context, test::dissolve(&environment.id)).await?;
            }
            removed.push(removed_item("environment", name, unused()));
        } else if asked.is_some_and(|limit| idle > limit) && record.goal == Goal::Up && !record.ephemeral {
            if !request.dry_run {
                take_down(context, &environment).await?;
            }
            removed.push(removed_item("environment", name, format!("{}; stopped, with its data kept", unused())));
        }
    }
    Ok(removed)
}

async fn take_down(context: &Context, environment: &Environment) -> Result<(), ApiError> {
    let status = environment.handle.status();
    let target = devenv_api::EnvironmentTarget { project: status.project, instance: status.instance };
    have_done(context, super::down::prepare(context.environments(), DownRequest { target, volumes: false })).await
}

/// As an operation of its own, which waits for its turn.
async fn have_done(context: &Context, prepared: Prepared) -> Result<(), ApiError> {
    let follower = context.operations().begin(prepared, context.operation.asked_by.clone()).await?;
    follower.result().await.map(drop)
}

/// Removes containers and networks of environments that are on no record or have nothing running: an engine may have
/// completed a request of a daemon that was killed.
async fn nobodys(context: &Context, dry_run: bool) -> Result<Vec<Removed>, EngineError> {
    let environments = context.environments();
    let (engine, owner) = (environments.engine(), environments.owner());
    let (containers, networks) = tokio::try_join!(engine.containers(owner), engine.networks(owner))?;
    // As for volumes: operations are read after the engine, and environments after that.
    let InFlight { environments: busy, containers: used, .. } = context.operations().store().in_flight();
    let running = |environment: &Environment| environment.handle.status().phase != Phase::Absent;
    let known: HashSet<EnvironmentId> = environments.all().into_iter().filter(running).map(|environment| environment.id.clone()).collect();
    let is_nobodys = |environment: &EnvironmentId| !known.contains(environment) && !busy.contains(environment);
    let mut removed = Vec::new();
    for container in containers.into_iter().filter(|container| is_nobodys(&container.labels.environment) && !used.contains(&container.id)) {
        if !dry_run {
            engine.remove_container(&container.id).await?;
        }
        removed.push(removed_item("container", container.name, "its environment is unknown or stopped"));
    }
    for network in networks.into_iter().filter(|network| is_nobodys(&network.labels.environment)) {
        if !dry_run {
            engine.remove_network(&network.id).await?;
        }
        removed.push(removed_item("network", network.name, "its environment is unknown or stopped"));
    }
    Ok(removed)
}

async fn limits<'a>(environments: &Environments, request: &GcRequest, volumes: impl Iterator<Item = &'a str>) -> Result<Limits, ApiError> {
    if request.all {
        return Ok(Limits { trash: Duration::ZERO, golden: 0 });
    }
    let usual = Limits { trash: TRASH, golden: golden::BUDGET };
    let Some(budget) = request.budget else { return Ok(usual) };
    let engine = environments.engine();
    let mut sizes = engine.volume_sizes().await.map_err(|error| no_engine(&error))?;
    let own: HashSet<&str> = volumes.collect();
    sizes.retain(|name, _| own.contains(name.as_str()));
    let mut trash = Vec::new();
    for environment in environments.all() {
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        trash.extend(record.trash.iter().filter_map(|trashed| {
            let bytes = trashed.volumes.values().filter_map(|volume| sizes.get(volume)).sum();
            Some((age(&trashed.at)?, bytes))
        }));
    }
    Ok(within(budget, &sizes, trash, golden::bytes(environments.store())))
}

/// What may be kept so that everything fits: the oldest trash is removed first.
fn within(budget: u64, sizes: &HashMap<String, u64>, mut trash: Vec<(Duration, u64)>, golden: u64) -> Limits {
    let mut excess = sizes.values().sum::<u64>().saturating_sub(budget);
    let mut limits = Limits { trash: TRASH, golden: golden::BUDGET };
    trash.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    for (age, bytes) in trash {
        // What is older than a day is removed in any case.
        if excess == 0 && age < TRASH {
            break;
        }
        excess = excess.saturating_sub(bytes);
        limits.trash = limits.trash.min(age);
    }
    if excess > 0 {
        limits.golden = limits.golden.min(golden.saturating_sub(excess));
    }
    limits
}

/// Removes checkouts of repositories that no environment is built from: with `all` each of them, otherwise those unused for long.
async fn checkouts(environments: &Environments, request: &GcRequest) -> Result<Vec<Removed>, ApiError> {
    let mut contexts = Vec::new();
    for environment in environments.all() {
        let mut record = environment.handle.record().await.map_err(ApiError::from)?;
        contexts.extend(record.spec.as_mut().map(repositories::contexts).unwrap_or_default());
    }
    let directory = environments.store().repositories();
    let (dry_run, kept) = (request.dry_run, if request.all { Duration::ZERO } else { repositories::KEPT });
    let remove = move || -> std::io::Result<Vec<Removed>> {
        let mut removed = Vec::new();
        for path in repositories::unused(&directory, &contexts, kept)? {
            if !dry_run && let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(%error, path = %path.display(), "Cannot remove the checkout of a repository.");
                continue;
            }
            removed.push(removed_item("checkout", path.display().to_string(), "no image of an environment is built from it"));
        }
        Ok(removed)
    };
    tokio::task::spawn_blocking(remove).await.map_err(internal)?.map_err(internal)
}

/// Environments with neither services nor volumes nor snapshots. Without `all`, only those whose project is gone as well.
async fn forgotten(context: &Context, all: bool) -> Result<Vec<EnvironmentId>, ApiError> {
    let environments = context.environments();
    let busy = context.operations().store().in_flight().environments;
    let mut found = Vec::new();
    for environment in environments.all() {
        if !busy.contains(&environment.id) && holds_nothing(environments, &environment, all).await? {
            found.push(environment.id.clone());
        }
    }
    Ok(found)
}

async fn holds_nothing(environments: &Environments, environment: &Environment, all: bool) -> Result<bool, ApiError> {
    let record = environment.handle.record().await?;
    // Backups are kept for the day on which everything else is gone.
    let is_gone = is_gone(&record.project).await;
    let needless = all && Backups::of(environments.store(), &environment.id).is_empty() || is_gone;
    Ok(needless && environment.handle.status().phase == Phase::Absent && record.all_volumes().next().is_none())
}

/// Once no other operation uses it, and if it is still empty then.
fn forget(environment: &Environment, all: bool) -> Prepared {
    Prepared::in_environment(OperationKind::Gc, environment, Work::Hold, async move |context: Context, environment: Environment| {
        if holds_nothing(context.environments(), &environment, all).await? {
            context.environments().forget(&environment.id).await.map_err(internal)?;
        }
        Ok(json!({}))
    })
}

/// Removes the disks of volumes that neither exist nor are on record: a disk is made before its volume.
async fn sweep_disks(environments: &Environments) {
    let directory = environments.store().loops();
    if !directory.exists() {
        return;
    }
    let mut names = Vec::new();
    for environment in environments.all() {
        match environment.handle.record().await {
            Ok(record) => names.extend(record.volumes.into_values()),
            Err(error) => return tracing::warn!(%error, "Cannot compare disks with the records."),
        }
    }
    match environments.engine().volumes(environments.owner()).await {
        Ok(volumes) => names.extend(volumes.into_iter().map(|volume| volume.name)),
        Err(error) => return tracing::warn!(%error, "Cannot compare disks with volumes."),
    }
    loop_devices::sweep(&directory, &names).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn limits(budget: u64) -> (Duration, u64) {
        let sizes = [("data", 50), ("old", 20), ("young", 10), ("golden", 30)].map(|(name, size)| (name.to_owned(), size)).into();
        let limits = within(budget, &sizes, vec![(HOUR, 10), (5 * HOUR, 20)], 30);
        (limits.trash, limits.golden)
    }

    #[test]
    fn the_oldest_trash_goes_first_and_golden_volumes_last() {
        assert_eq!(limits(110), (TRASH, golden::BUDGET));
        assert_eq!(limits(95), (5 * HOUR, golden::BUDGET));
        assert_eq!(limits(80), (HOUR, golden::BUDGET));
        assert_eq!(limits(60), (HOUR, 10));
        assert_eq!(limits(0), (HOUR, 0));
    }
}
