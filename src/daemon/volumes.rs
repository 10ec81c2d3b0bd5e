//! Data as a whole: reset, snapshots and forks, by copies of volumes.
//!
//! A volume is never changed in place: a service is moved to another volume, and the one that it had goes to the trash,
//! from where `undo` brings it back. Copies are made of volumes at rest, or of all that belong together while their
//! containers are paused; which ones are is on disk before they are, so that no death of ours leaves them so.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, ErrorCode, Snapshot, SnapshotPart};
use jiff::Timestamp;

use super::{Environments, describe, environments::Environment, internal, no_engine};
use crate::{
    engine::{Labels, ObservedVolume, VolumeCreate},
    snapshot::{VolumeCopy, copy_volume, digest_tree},
    spec::{MountSource, ServiceName, ServiceSpec},
    store::{Record, SnapshotRecord, write_atomically},
};

/// A volume of a service, by the key under which the record knows it: `db/data`.
struct Held<'a> {
    key: String,
    spec: &'a ServiceSpec,
    /// The engine's name.
    volume: String,
}

impl Environments {
    /// Switches services to empty volumes, or to copies of their golden ones, where they initialize and seed again. The
    /// turn that has seen it.
    pub(crate) async fn reset(&self, environment: &Environment, names: &[ServiceName]) -> Result<u64, ApiError> {
        let record = self.up(environment).await?;
        let held = held(&record, names)?;
        if held.is_empty() {
            return Err(
                ApiError::new(ErrorCode::Usage, "none of these services stores data").hint("run `devenv status` to list the services")
            );
        }
        let fresh = environment.handle.reserve_volumes(held.iter().map(|held| held.key.clone()).collect()).await.map_err(ApiError::from)?;
        environment.handle.move_to(fresh, "reset").await.map_err(ApiError::from)
    }

    /// Copies every volume of the environment, all at one moment.
    pub(crate) async fn save_snapshot(&self, environment: &Environment, name: &str) -> Result<Snapshot, ApiError> {
        let mut record = environment.handle.record().await.map_err(ApiError::from)?;
        if record.snapshots.contains_key(name) {
            return Err(ApiError::new(ErrorCode::Conflict, format!("snapshot `{name}` already exists"))
                .hint(format!("run `devenv snapshot remove {name}` to remove it")));
        }
        let held = held(&record, &[])?;
        self.pause(environment).await?;
        let mut made = SnapshotRecord { created_at: Timestamp::now().to_string(), volumes: BTreeMap::new(), services: Vec::new() };
        let copied = async {
            for held in &held {
                let copy = format!("devenv-{}-snapshot-{name}-{}", record.id, held.key.replace('/', "-"));
                self.copy(&record, held.spec, &held.volume, &copy, "snapshot").await?;
                made.volumes.insert(held.key.clone(), copy);
            }
            Ok::<_, ApiError>(())
        };
        let copied = copied.await;
        self.resume(environment).await;
        copied?;
        for (key, volume) in &made.volumes {
            let (size, checksum) = self.digest(volume).await?;
            let name = key.split('/').next().unwrap_or(key).to_owned();
            made.services.push(SnapshotPart { name, size, checksum });
        }
        record.snapshots.insert(name.to_owned(), made.clone());
        environment.handle.keep_snapshots(record.snapshots).await.map_err(ApiError::from)?;
        Ok(told(name, &made))
    }

    /// Moves services to copies of the snapshot's volumes. The turn that has seen it.
    pub(crate) async fn restore_snapshot(&self, environment: &Environment, name: &str) -> Result<u64, ApiError> {
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let snapshot = record.snapshots.get(name).ok_or_else(|| no_snapshot(&record, name))?;
        for (part, volume) in snapshot.services.iter().zip(snapshot.volumes.values()) {
            let (_, checksum) = self.digest(volume).await?;
            if checksum != part.checksum {
                let message = format!("snapshot `{name}` of {} is damaged: its checksum differs", part.name);
                return Err(ApiError::new(ErrorCode::Failed, message).hint("nothing was changed; use another snapshot"));
            }
        }
        let spec = record.spec.as_ref().ok_or_else(not_up)?;
        let fresh = environment.handle.reserve_volumes(snapshot.volumes.keys().cloned().collect()).await.map_err(ApiError::from)?;
        for (key, volume) in &snapshot.volumes {
            let service = spec.services.get(key.split('/').next().unwrap_or_default());
            let Some(service) = service else { continue };
            self.copy(&record, service, volume, &fresh[key], key).await?;
        }
        environment.handle.move_to(fresh, "snapshot restore").await.map_err(ApiError::from)
    }

    pub(crate) async fn snapshots(&self, environment: &Environment) -> Result<Vec<Snapshot>, ApiError> {
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        Ok(record.snapshots.iter().map(|(name, snapshot)| told(name, snapshot)).collect())
    }

    pub(crate) async fn remove_snapshot(&self, environment: &Environment, name: &str) -> Result<(), ApiError> {
        let mut record = environment.handle.record().await.map_err(ApiError::from)?;
        let snapshot = record.snapshots.remove(name).ok_or_else(|| no_snapshot(&record, name))?;
        // Forgotten first: a volume that then stays is nobody's, and `gc` takes it.
        environment.handle.keep_snapshots(record.snapshots).await.map_err(ApiError::from)?;
        for volume in snapshot.volumes.values() {
            self.engine().remove_volume(volume).await.map_err(|error| no_engine(&error))?;
        }
        Ok(())
    }

    /// Makes a new instance with a copy of this one's data and secrets; it is brought up like any other.
    pub(crate) async fn fork(&self, environment: &Environment, instance: &str) -> Result<Environment, ApiError> {
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let target = devenv_api::EnvironmentTarget { project: record.project.display().to_string(), instance: instance.to_owned() };
        if let Some(found) = self.find(&target) {
            let theirs = found.handle.record().await.map_err(ApiError::from)?;
            if !theirs.volumes.is_empty() || theirs.spec.is_some() {
                return Err(ApiError::new(ErrorCode::Conflict, format!("instance `{instance}` already exists"))
                    .hint(format!("run `devenv down --instance {instance} --volumes` to remove it")));
            }
        }
        let held = held(&record, &[])?;
        let forked = self.ensure(&target)?;
        // The data is opened by the secrets it was made with.
        copy_secrets(&self.shared.store.secrets(&environment.id), &self.shared.store.secrets(&forked.id)).map_err(internal)?;
        forked.vault.load().map_err(internal)?;
        let theirs = forked.handle.record().await.map_err(ApiError::from)?;
        let fresh = forked.handle.reserve_volumes(held.iter().map(|held| held.key.clone()).collect()).await.map_err(ApiError::from)?;
        self.pause(environment).await?;
        let mut copied = Ok(());
        for held in &held {
            copied = self.copy(&theirs, held.spec, &held.volume, &fresh[&held.key], &held.key).await;
            if copied.is_err() {
                break;
            }
        }
        self.resume(environment).await;
        copied?;
        forked.handle.move_to(fresh, "fork").await.map_err(ApiError::from)?;
        Ok(forked)
    }

    /// The record of an environment that is up.
    async fn up(&self, environment: &Environment) -> Result<Record, ApiError> {
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        if record.goal != crate::store::Goal::Up || record.spec.is_none() {
            return Err(not_up());
        }
        Ok(record)
    }

    /// Copies a volume that nothing writes to into one that is made for it.
    pub(super) async fn copy(&self, record: &Record, spec: &ServiceSpec, from: &str, to: &str, role: &str) -> Result<(), ApiError> {
        let labels = Labels {
            role: Some(role.rsplit('/').next().unwrap_or(role).to_owned()),
            spec: None,
            ..crate::reconcile::labels(&self.shared.owner, record, Some(spec))
        };
        let engine = self.engine();
        engine
            .create_volume(&VolumeCreate { name: to.to_owned(), labels: labels.clone(), options: BTreeMap::new() })
            .await
            .map_err(|error| no_engine(&error))?;
        let (source, target) = (self.volume(from).await?, self.volume(to).await?);
        let helper = Labels { role: Some("helper".to_owned()), ..labels };
        let copy = VolumeCopy {
            from,
            to,
            mountpoints: Some((source.mountpoint, target.mountpoint)),
            image: spec.container().map_or("", |container| container.image.name()),
            labels: helper,
        };
        let copied = copy_volume(engine.as_ref(), copy).await.map_err(internal)?;
        tracing::info!(from, to, way = ?copied.way, bytes = ?copied.bytes, "Volume copied.");
        Ok(())
    }

    pub(super) async fn volume(&self, name: &str) -> Result<ObservedVolume, ApiError> {
        let volume = self.engine().volume(name).await.map_err(|error| no_engine(&error))?;
        volume.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("volume {name} does not exist")))
    }

    /// Size and checksum of what a volume holds.
    async fn digest(&self, name: &str) -> Result<(u64, String), ApiError> {
        let mountpoint = self.volume(name).await?.mountpoint;
        let digest = tokio::task::spawn_blocking(move || digest_tree(&mountpoint)).await.map_err(internal)?.map_err(internal)?;
        Ok((digest.size, digest.checksum))
    }

    /// Pauses every container of the environment that runs and keeps data.
    pub(super) async fn pause(&self, environment: &Environment) -> Result<(), ApiError> {
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let keeps: Vec<String> = held(&record, &[])?.iter().map(|held| held.spec.name.to_string()).collect();
        let running: Vec<String> = environment
            .handle
            .status()
            .services
            .into_iter()
            .filter(|service| {
                keeps.contains(&service.name)
                    && matches!(
                        service.state,
                        devenv_api::ServiceState::Ready
                            | devenv_api::ServiceState::Starting
                            | devenv_api::ServiceState::Unhealthy
                            | devenv_api::ServiceState::Provisioning
                    )
            })
            .filter_map(|service| service.container)
            .collect();
        let list = serde_json::to_vec(&running).expect("a list of names serializes to JSON");
        write_atomically(&self.paused_list(environment), &list).map_err(internal)?;
        let paused = futures_util::future::join_all(running.iter().map(|container| self.engine().pause(container))).await;
        if let Some(error) = paused.into_iter().find_map(Result::err) {
            self.resume(environment).await;
            return Err(no_engine(&error));
        }
        Ok(())
    }

    /// Resumes containers that were paused for a copy, now or by an earlier daemon.
    pub(super) async fn resume(&self, environment: &Environment) {
        self.resume_listed(&self.paused_list(environment)).await;
    }

    /// The same, also for what golden volumes were copied from when an earlier daemon died.
    pub(super) async fn resume_all(&self, environment: &Environment) {
        let directory = self.shared.store.environment(&environment.id);
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let list = path.extension().is_some_and(|extension| extension == "json");
            if list && entry.file_name().to_string_lossy().starts_with("paused") {
                self.resume_listed(&path).await;
            }
        }
    }

    async fn resume_listed(&self, path: &Path) {
        let Some(list) = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Vec<String>>(&text).ok()) else { return };
        let resumed = futures_util::future::join_all(list.iter().map(|container| self.engine().unpause(container))).await;
        for error in resumed.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "Cannot resume a container that was paused for a copy.");
        }
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(%error, "Cannot remove the list of paused containers.");
        }
    }

    fn paused_list(&self, environment: &Environment) -> PathBuf {
        self.shared.store.environment(&environment.id).join("paused.json")
    }
}

/// The volumes of the named services; of all, if none is named.
fn held<'a>(record: &'a Record, names: &[ServiceName]) -> Result<Vec<Held<'a>>, ApiError> {
    let spec = record.spec.as_ref().ok_or_else(not_up)?;
    if let Some(unknown) = names.iter().find(|name| !spec.services.contains_key(*name)) {
        return Err(ApiError::new(ErrorCode::NotFound, format!("unknown service `{unknown}` in this environment"))
            .hint("run `devenv status` to list the services"));
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
                    found.push(Held { key, spec, volume: volume.clone() });
                }
            }
        }
    }
    Ok(found)
}

fn told(name: &str, snapshot: &SnapshotRecord) -> Snapshot {
    Snapshot {
        name: name.to_owned(),
        created_at: snapshot.created_at.clone(),
        services: snapshot.services.clone(),
        size: snapshot.services.iter().map(|part| part.size).sum(),
    }
}

fn not_up() -> ApiError {
    ApiError::new(ErrorCode::Failed, "the environment is not running").hint("run `devenv up` to start it")
}

fn no_snapshot(record: &Record, name: &str) -> ApiError {
    let known: Vec<&str> = record.snapshots.keys().map(String::as_str).collect();
    let hint = if known.is_empty() {
        "run `devenv snapshot save NAME` to create one".to_owned()
    } else {
        format!("available profiles: {}", known.join(", "))
    };
    ApiError::new(ErrorCode::NotFound, format!("snapshot `{name}` does not exist")).hint(hint)
}

fn copy_secrets(from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    for service in std::fs::read_dir(from)? {
        let service = service?;
        let target = to.join(service.file_name());
        crate::store::create_private(&target).map_err(|error| std::io::Error::other(describe(&error)))?;
        for secret in std::fs::read_dir(service.path())? {
            let secret = secret?;
            if devenv_files::is_unfinished(&secret.path()) {
                continue;
            }
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(target.join(secret.file_name()))?;
            std::io::Write::write_all(&mut file, &std::fs::read(secret.path())?)?;
        }
    }
    Ok(())
}
