//! Copies of volumes, and what they need: paused services, undo steps on record before anything is made, checksums.
//!
//! This process copies and reads the files if the engine's volumes are its own files and it is root; otherwise a
//! helper container of the engine does. So it works without root, and with an engine on another machine.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use devenv_api::{ApiError, ErrorCode, ServiceState};
use devenv_engine::{ContainerState, CreatedMount, HelperRun, Labels, ObservedContainer, ObservedVolume, VolumeCreate};
use devenv_snapshots::{CopyProgress, VolumeCopy, copy_volume, digest_tree, is_ours};
use devenv_spec::{MountSource, ServiceName, ServiceSpec};
use tokio::time::Instant;

use super::{Context, internal};
use crate::{
    environment::{Environment, Environments},
    error::no_engine,
    operation_store::Step,
    reconcile::{CommandError, labels},
    store::Record,
};

/// The prefix of a checksum that a helper container has made; others are made by this process. The two are not comparable.
const BY_HELPER: &str = "helper:";
const PROGRESS_EVERY: Duration = Duration::from_millis(300);

/// A volume of a service, with its key in the record: `db/data`.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) key: String,
    pub(super) spec: ServiceSpec,
    /// The engine's name.
    pub(super) volume: String,
}

/// A summary of a volume's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    /// Bytes.
    pub(super) size: u64,
    pub(super) checksum: String,
    /// The number of files.
    pub(super) files: u64,
}

/// The volumes of the named services; of all, if none is named.
pub(super) fn held(record: &Record, names: &[ServiceName]) -> Result<Vec<Held>, ApiError> {
    let spec = record.spec.as_ref().ok_or_else(not_up)?;
    if let Some(unknown) = names.iter().find(|name| !spec.services.contains_key(*name)) {
        return Err(CommandError::NoService(unknown.to_string()).into());
    }
    let mut found = Vec::new();
    for (name, spec) in &spec.services {
        if !names.is_empty() && !names.contains(name) {
            continue;
        }
        for mount in spec.container().into_iter().flat_map(|container| &container.mounts) {
            if let MountSource::Volume(volume) = &mount.source {
                let key = format!("{name}/{volume}");
                if let Some(volume) = record.volumes.get(&key) {
                    found.push(Held { volume: volume.clone(), spec: spec.clone(), key });
                }
            }
        }
    }
    Ok(found)
}

pub(super) fn not_up() -> ApiError {
    ApiError::new(ErrorCode::Failed, "the environment is not running").hint("run `devenv up` to start it")
}

/// The service in a volume's key.
pub(super) fn service_of(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}

/// Pauses every running container of the environment that has one of these volumes. The steps that unpause them are on
/// record first; they are returned for [`go_on`].
pub(super) async fn pause(context: &Context, environment: &Environment, held: &[Held]) -> Result<Vec<Step>, ApiError> {
    let engine = context.environments().engine();
    let keeps = |name: &str| held.iter().any(|held| held.spec.name.as_str() == name);
    let may_write = |state: ServiceState| {
        matches!(state, ServiceState::Ready | ServiceState::Starting | ServiceState::Unhealthy | ServiceState::Provisioning)
    };
    let status = environment.handle.status();
    let mut steps = Vec::new();
    for service in status.services.into_iter().filter(|service| keeps(&service.name) && may_write(service.state)) {
        let Some(container) = service.container else { continue };
        // One that is paused already (by a fault or `docker pause`) stays paused afterwards.
        let observed = engine.inspect(&container).await.map_err(|error| no_engine(&error))?;
        if matches!(observed, Some(ObservedContainer { state: ContainerState::Running { .. }, .. })) {
            steps.push(Step::Unpause { container });
        }
    }
    context.owe(steps.clone()).await?;
    let paused = futures_util::future::join_all(steps.iter().filter_map(Step::container).map(|container| engine.pause(container))).await;
    paused.into_iter().find_map(Result::err).map_or(Ok(steps), |error| Err(no_engine(&error)))
}

/// Unpauses what [`pause`] has paused.
pub(super) async fn go_on(context: &Context, paused: &[Step]) -> Result<(), ApiError> {
    let engine = context.environments().engine();
    let gone_on =
        futures_util::future::join_all(paused.iter().filter_map(Step::container).map(|container| engine.unpause(container))).await;
    // One that has ended meanwhile is not paused; one that still is paused is unpaused by the operation's steps.
    if gone_on.iter().all(Result::is_ok) { context.settle(paused).await } else { Ok(()) }
}

/// Copies a volume that nothing writes to into a new one. The step that removes the new one is on record first.
pub(super) async fn copy(context: &Context, record: &Record, from: &Held, to: &str, role: &str) -> Result<(), ApiError> {
    let mountpoint = volume_of(context.environments(), &from.volume).await?.mountpoint;
    copy_from(context, record, from, mountpoint, (to, role)).await.map(drop)
}

/// As [`copy`], from a volume that need not be devenv's. Returns the bytes of its files, if they were counted.
pub(super) async fn copy_from(
    context: &Context,
    record: &Record,
    from: &Held,
    mountpoint: PathBuf,
    (to, role): (&str, &str),
) -> Result<Option<u64>, ApiError> {
    context.check()?;
    context.owe(vec![Step::RemoveVolume { name: to.to_owned() }]).await?;
    let environments = context.environments();
    let labels = Labels { role: Some(role.to_owned()), spec: None, ..labels(environments.owner(), record, Some(&from.spec)) };
    let engine = environments.engine();
    let create = VolumeCreate { name: to.to_owned(), labels: labels.clone(), options: BTreeMap::new() };
    engine.create_volume(&create).await.map_err(|error| no_engine(&error))?;
    let target = volume_of(environments, to).await?;
    let progress = Arc::new(CopyProgress::default());
    let copy = VolumeCopy {
        from: &from.volume,
        to,
        mountpoints: Some((mountpoint, target.mountpoint)),
        image: image_of(&from.spec),
        labels: Labels { role: Some("helper".to_owned()), ..labels },
        cancel: context.cancel().clone(),
        progress: progress.clone(),
    };
    let copied = with_progress(context, &from.key, &progress, copy_volume(engine.as_ref(), copy)).await;
    context.check()?;
    let copied = copied.map_err(|error| internal(&error))?;
    tracing::info!(from = %from.volume, to, way = ?copied.way, bytes = ?copied.bytes, "Volume copied.");
    Ok(copied.bytes)
}

/// Shows how far a copy is. One that is done sooner shows nothing.
async fn with_progress<T>(context: &Context, key: &str, progress: &CopyProgress, copy: impl Future<Output = T>) -> T {
    tokio::pin!(copy);
    let mut ticks = tokio::time::interval_at(Instant::now() + PROGRESS_EVERY, PROGRESS_EVERY);
    loop {
        // Cancel-safe: the copy is polled by reference, and a tick that is lost comes again.
        tokio::select! {
            biased;
            copied = &mut copy => return copied,
            _ = ticks.tick() => {}
        }
        if let Some((done, total)) = progress.now() {
            context.message(format!("copying {key} {done}/{total} bytes"));
        }
    }
}

/// Moves services to these volumes. Returns the revision that has done it. From here on nothing is undone: if the daemon dies,
/// the next one completes the move.
pub(super) async fn move_to(
    context: &Context,
    environment: &Environment,
    volumes: BTreeMap<String, String>,
    reason: &str,
) -> Result<u64, ApiError> {
    move_and(context, environment, volumes, reason, None).await
}

/// As [`move_to`], with what is done afterwards, when the operation ends.
pub(super) async fn move_and(
    context: &Context,
    environment: &Environment,
    volumes: BTreeMap<String, String>,
    reason: &str,
    afterwards: Option<Step>,
) -> Result<u64, ApiError> {
    let step = Step::MoveVolumes { environment: environment.id.clone(), volumes: volumes.clone(), reason: reason.to_owned() };
    let made = volumes.values().map(|name| Step::RemoveVolume { name: name.clone() }).collect();
    let steps: Vec<Step> = std::iter::once(step).chain(afterwards).collect();
    context.commit(steps.clone()).await?;
    let moved = environment.handle.move_to(volumes, reason.to_owned()).await;
    context.settle(if moved.is_ok() { &steps[..1] } else { &steps }).await?;
    if moved.is_err() {
        // The move must not happen later, when something else has moved the services.
        context.owe(made).await?;
    }
    Ok(moved?)
}

/// Size and checksum of a volume's content; by a helper container if this process cannot read it.
pub(super) async fn digest(environments: &Environments, record: &Record, volume: &str, spec: &ServiceSpec) -> Result<Digest, ApiError> {
    let mountpoint = volume_of(environments, volume).await?.mountpoint;
    if is_ours(&mountpoint) {
        return digest_here(&mountpoint).await;
    }
    // Names, modes and owners of all entries, and the content of files and links, in one order everywhere.
    let script = "set -e; cd /from; export LC_ALL=C; \
        { find . -mindepth 1 -print0 | sort -z | xargs -0 -r stat -c '%n %f %u %g'; \
          find . -type f -print0 | sort -z | xargs -0 -r sha256sum; \
          find . -type l -print0 | sort -z | xargs -0 -r -n 1 readlink; } | sha256sum | cut -d ' ' -f 1; \
        find . -type f -print0 | xargs -0 -r stat -c %s | { total=0; while read -r size; do total=$((total + size)); done; echo $total; }; \
        find . ! -type d -print0 | tr -dc '\\000' | wc -c";
    let helper = HelperRun {
        labels: Labels { role: Some("helper".to_owned()), spec: None, ..labels(environments.owner(), record, Some(spec)) },
        image: image_of(spec).to_owned(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        mounts: vec![CreatedMount::Volume { name: volume.to_owned(), target: "/from".to_owned(), read_only: true }],
        user: Some("0:0".to_owned()),
        network: None,
    };
    let output = environments.engine().run_helper(&helper).await.map_err(|error| no_engine(&error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let (checksum, mut number) = (lines.next(), || lines.next().and_then(|number| number.trim().parse().ok()));
    match (output.code, checksum, number(), number()) {
        (0, Some(checksum), Some(size), Some(files)) => Ok(Digest { size, checksum: format!("{BY_HELPER}{}", checksum.trim()), files }),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(ApiError::new(ErrorCode::Failed, format!("cannot read the volume {volume} in a container: {said}")))
        }
    }
}

async fn volume_of(environments: &Environments, name: &str) -> Result<ObservedVolume, ApiError> {
    let volume = environments.engine().volume(name).await.map_err(|error| no_engine(&error))?;
    volume.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("volume {name} does not exist")))
}

async fn digest_here(directory: &Path) -> Result<Digest, ApiError> {
    let directory = directory.to_owned();
    let digest = tokio::task::spawn_blocking(move || digest_tree(&directory)).await.map_err(|error| internal(&error))?;
    let digest = digest.map_err(|error| internal(&error))?;
    Ok(Digest { size: digest.size, checksum: digest.checksum, files: digest.files })
}

/// Whether two checksums are of the same content; `None` if they were made by different methods.
pub(super) fn same(a: &str, b: &str) -> Option<bool> {
    (a.starts_with(BY_HELPER) == b.starts_with(BY_HELPER)).then_some(a == b)
}

pub(super) fn image_of(spec: &ServiceSpec) -> &str {
    spec.container().map_or("", |container| container.image.name())
}
