//! Backups of an environment, and what is brought back from them.
//!
//! A backup is a directory of dumps with a manifest, which is written last: without one it is nothing, and goes. It stays
//! when volumes are removed. What is restored is counted and compared before it takes the place of what was there.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, Backup, BackupFile, BackupPart, Backups, Compared, Content, ErrorCode, Restored};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::{
    backup::{self, BackupError, compare, verified},
    engine::{Labels, VolumeCreate},
    environment::{Environment, Environments},
    error::{describe, internal, no_engine},
    kinds::{
        self, ServiceKind,
        capability::{Arrived, Backups as BackupAbility, Dumped, Restores, ServerSite, Staged, StagedRestore, Way},
    },
    provision::{self, ProvisionContext},
    snapshot::{copy_tree, digest_tree},
    spec::{EnvironmentSpec, MountSource, ServiceName, ServiceSpec},
    store::{create_private, write_atomically},
};

const MANIFEST: &str = "manifest.json";

impl Environments {
    pub(crate) async fn save_backup(&self, environment: &Environment, names: &[ServiceName]) -> Result<Backup, ApiError> {
        let spec = environment.spec().await?;
        if let Some(unknown) = names.iter().find(|name| !spec.services.contains_key(*name)) {
            return Err(ApiError::new(ErrorCode::NotFound, format!("unknown service `{unknown}` in this environment"))
                .hint("run `devenv status` to list the services"));
        }
        let now = Timestamp::now();
        let mut id = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let root = self.backup_root(environment);
        while root.join(&id).join(MANIFEST).exists() {
            id.push('x');
        }
        sweep(&root);
        let directory = root.join(&id);
        create_private(&directory).map_err(internal)?;
        let mut made = Backup {
            id,
            created_at: now.to_string(),
            services: Vec::new(),
            size: 0,
            partial: is_partial(&spec, names),
            removed: Vec::new(),
        };
        for (name, service) in spec.services.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
            let Some(backups) = backups_of(service) else { continue };
            made.services.push(self.back_up(environment, name, service, backups, &directory).await?);
        }
        if made.services.iter().all(|part| part.skipped.is_some()) {
            let why = made
                .services
                .iter()
                .filter_map(|part| part.skipped.as_ref().map(|why| format!("{}: {why}", part.service)))
                .collect::<Vec<_>>()
                .join("; ");
            return Err(ApiError::new(ErrorCode::Usage, format!("nothing to back up {why}").trim().to_owned()));
        }
        made.size = made.services.iter().flat_map(|part| &part.files).map(|file| file.size).sum();
        write_atomically(&directory.join(MANIFEST), &serde_json::to_vec_pretty(&made).expect("a manifest serializes to JSON"))
            .map_err(internal)?;
        for old in backup::outdated(&list(&root)) {
            fs::remove_dir_all(root.join(&old)).map_err(internal)?;
            made.removed.push(old);
        }
        environment.handle.events.emit(crate::event::NewEvent::new("backup.made", format!("created the backup {}", made.id)));
        Ok(made)
    }

    async fn back_up(
        &self,
        environment: &Environment,
        name: &ServiceName,
        service: &ServiceSpec,
        backups: &dyn BackupAbility,
        directory: &Path,
    ) -> Result<BackupPart, ApiError> {
        let mut part =
            BackupPart { service: name.to_string(), kind: service.kind.clone(), files: Vec::new(), contents: Vec::new(), skipped: None };
        match backups.way(service) {
            Way::Skipped(why) => part.skipped = Some(why.to_owned()),
            Way::Dump => {
                let instance = environment.instance(name)?;
                let Dumped { files, contents } =
                    backups.dump(&self.site(environment, service, &instance.id), directory).await.map_err(|error| backup_error(&error))?;
                part.contents = contents;
                for file in files {
                    part.files.push(filed(directory, file.name, file.database).await?);
                }
            }
            Way::Files => {
                let from = self.held_directory(environment, name, service).await?;
                let to = directory.join(name.as_str());
                create_private(&to).map_err(internal)?;
                self.pause(environment).await?;
                let target = to.clone();
                let copied = tokio::task::spawn_blocking(move || copy_tree(&from, &target).and_then(|_| digest_tree(&target))).await;
                self.resume(environment).await;
                let digest = copied.map_err(internal)?.map_err(internal)?;
                part.files.push(BackupFile {
                    name: name.to_string(),
                    database: None,
                    size: digest.size,
                    checksum: digest.checksum.clone(),
                });
                part.contents.push(Content { name: "files".to_owned(), rows: files_below(&to), checksum: Some(digest.checksum) });
            }
        }
        Ok(part)
    }

    /// The service's server, for the abilities of its kind.
    pub(super) fn site<'a>(&'a self, environment: &'a Environment, service: &'a ServiceSpec, container: &'a str) -> ServerSite<'a> {
        ServerSite {
            service,
            engine: self.engine().as_ref(),
            container,
            vault: &environment.vault,
            authority: environment.runtime.authority(),
        }
    }

    pub(crate) fn backups(&self, environment: &Environment) -> Backups {
        Backups { backups: list(&self.backup_root(environment)) }
    }

    /// Puts what is in a backup (of this environment, or of another one) in the place of what there is.
    pub(crate) async fn restore_backup(&self, environment: &Environment, from: &Environment, id: &str) -> Result<Restored, ApiError> {
        let began = std::time::Instant::now();
        let root = self.backup_root(from);
        let known = list(&root);
        let wanted = if id == "latest" { known.last() } else { known.iter().find(|backup| backup.id == id) };
        let Some(wanted) = wanted else {
            let ids: Vec<&str> = known.iter().map(|backup| backup.id.as_str()).collect();
            let hint = if ids.is_empty() {
                "run `devenv backup` to create one".to_owned()
            } else {
                format!("available backups: {}, and `latest`", ids.join(", "))
            };
            return Err(ApiError::new(ErrorCode::NotFound, format!("backup `{id}` does not exist")).hint(hint));
        };
        let directory = root.join(&wanted.id);
        let spec = environment.spec().await?;
        let mut compared = Vec::new();
        let mut staged = Vec::new();
        let mut fresh = BTreeMap::new();
        let mut parts = Vec::new();
        for part in wanted.services.iter().filter(|part| part.skipped.is_none()) {
            let name: ServiceName = part.service.parse().map_err(internal)?;
            let Some((service, backups)) = spec.services.get(&name).and_then(|service| Some((service, backups_of(service)?))) else {
                continue;
            };
            for file in &part.files {
                check(&directory, file).await?;
            }
            parts.push((part, service, backups));
        }
        // What is staged takes its place last, when nothing else can fail any more.
        for (part, service, backups) in &parts {
            match (backups.way(service), backups.restores()) {
                (Way::Dump, Some(Restores::Staged(restore))) => match self.stage(environment, service, restore, part, &directory).await {
                    Ok((all, same)) => {
                        staged.push((*service, restore, all));
                        compared.push(same);
                    }
                    Err(error) => {
                        self.discard(environment, &staged).await;
                        return Err(error);
                    }
                },
                (Way::Dump, Some(Restores::Volume(restore))) => {
                    let filled = self.volume_with(environment, service, restore.file(), &directory.join(&part.files[0].name)).await;
                    match filled {
                        Ok(filled) => fresh.extend(filled),
                        Err(error) => {
                            self.discard(environment, &staged).await;
                            return Err(error);
                        }
                    }
                }
                (Way::Files, _) => {
                    let source = directory.join(&part.files[0].name);
                    let filled = async {
                        let (key, volume, target) = self.fresh_volume(environment, &service.name, service).await?;
                        tokio::task::spawn_blocking(move || copy_tree(&source, &target)).await.map_err(internal)?.map_err(internal)?;
                        Ok::<_, ApiError>((key, volume))
                    };
                    match filled.await {
                        Ok((key, volume)) => drop(fresh.insert(key, volume)),
                        Err(error) => {
                            self.discard(environment, &staged).await;
                            return Err(error);
                        }
                    }
                }
                (Way::Dump | Way::Skipped(_), _) => {}
            }
        }
        for (service, restore, databases) in &staged {
            let instance = environment.instance(&service.name)?;
            restore.swap(&self.site(environment, service, &instance.id), databases).await.map_err(|error| backup_error(&error))?;
            self.provision_again(environment, service).await?;
            environment.reread(&service.name).await;
        }
        if !fresh.is_empty() {
            self.move_and_wait(environment, fresh).await?;
        }
        for (part, service, backups) in &parts {
            let after = match (backups.way(service), backups.restores()) {
                (Way::Dump, Some(Restores::Volume(restore))) => {
                    let instance = environment.instance(&service.name)?;
                    restore.contents(&self.site(environment, service, &instance.id)).await.map_err(|error| backup_error(&error))?
                }
                (Way::Files, _) => {
                    let held = self.held_directory(environment, &service.name, service).await?;
                    let (digest, rows) = tokio::task::spawn_blocking(move || digest_tree(&held).map(|digest| (digest, files_below(&held))))
                        .await
                        .map_err(internal)?
                        .map_err(internal)?;
                    vec![Content { name: "files".to_owned(), rows, checksum: Some(digest.checksum) }]
                }
                (Way::Dump | Way::Skipped(_), _) => continue,
            };
            compared.push(compare(&part.service, &part.contents, &after));
        }
        environment.handle.events.emit(crate::event::NewEvent::new("backup.restored", format!("restored the backup {}", wanted.id)));
        Ok(Restored {
            backup: wanted.id.clone(),
            verified: verified(&compared),
            services: compared,
            elapsed_ms: began.elapsed().as_millis() as u64,
        })
    }

    /// Makes all of a part's databases beside those in use, and compares them with the backup; their names.
    async fn stage(
        &self,
        environment: &Environment,
        service: &ServiceSpec,
        restore: &dyn StagedRestore,
        part: &BackupPart,
        directory: &Path,
    ) -> Result<(Vec<String>, Compared), ApiError> {
        let instance = environment.instance(&service.name)?;
        let site = self.site(environment, service, &instance.id);
        let (mut databases, mut after) = (Vec::new(), Vec::new());
        // What all databases need comes before them.
        let ordered =
            part.files.iter().filter(|file| file.database.is_none()).chain(part.files.iter().filter(|file| file.database.is_some()));
        for file in ordered {
            let staged = Staged { database: file.database.clone(), file: directory.join(&file.name), own: true };
            match restore.stage(&site, &staged).await {
                Ok(Arrived { contents, .. }) => {
                    after.extend(contents);
                    databases.extend(staged.database);
                }
                Err(error) => {
                    restore.discard(&site, &databases).await;
                    return Err(backup_error(&error).hint("nothing was changed"));
                }
            }
        }
        let compared = compare(&part.service, &part.contents, &after);
        if compared.differences.is_empty() {
            return Ok((databases, compared));
        }
        restore.discard(&site, &databases).await;
        let message = format!("what came out of the backup of `{}` is not what went in: {}", service.name, compared.differences.join("; "));
        Err(ApiError::new(ErrorCode::Failed, message).hint("nothing was changed"))
    }

    async fn discard(&self, environment: &Environment, staged: &[(&ServiceSpec, &dyn StagedRestore, Vec<String>)]) {
        for (service, restore, databases) in staged {
            if let Ok(instance) = environment.instance(&service.name) {
                restore.discard(&self.site(environment, service, &instance.id), databases).await;
            }
        }
    }

    /// A database that took the place of another has its contents and not yet its settings and rights.
    pub(super) async fn provision_again(&self, environment: &Environment, service: &ServiceSpec) -> Result<(), ApiError> {
        let cx = ProvisionContext {
            vault: environment.vault.clone(),
            authority: Some(environment.runtime.authority().to_owned()),
            again: false,
        };
        for declared in &service.provision {
            provision::apply(declared, &cx)
                .await
                .map_err(|error| ApiError::new(ErrorCode::Failed, format!("cannot be provisioned: {error}")))?;
        }
        Ok(())
    }

    /// A new volume with nothing but the dump, under the name by which the server looks for it at its start.
    pub(super) async fn volume_with(
        &self,
        environment: &Environment,
        service: &ServiceSpec,
        file: &str,
        dump: &Path,
    ) -> Result<BTreeMap<String, String>, ApiError> {
        let name = &service.name;
        let owner = fs::metadata(self.held_directory(environment, name, service).await?).map_err(internal)?;
        let (key, volume, target) = self.fresh_volume(environment, name, service).await?;
        let file = target.join(file);
        let source = dump.to_owned();
        let copied = tokio::task::spawn_blocking(move || {
            use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
            fs::copy(&source, &file)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
            chown(&file, Some(owner.uid()), Some(owner.gid()))?;
            chown(&target, Some(owner.uid()), Some(owner.gid()))?;
            fs::File::open(&file)?.sync_all()
        });
        copied.await.map_err(internal)?.map_err(internal)?;
        Ok(BTreeMap::from([(key, volume)]))
    }

    /// Moves services to these volumes, and waits until all is ready again.
    pub(super) async fn move_and_wait(&self, environment: &Environment, fresh: BTreeMap<String, String>) -> Result<(), ApiError> {
        let turn = environment.handle.move_to(fresh, "restore".to_owned()).await.map_err(ApiError::from)?;
        let view = environment.handle.until_up(turn).await.map_err(ApiError::from)?;
        match view.failures.iter().find(|failed| !failed.optional) {
            None => Ok(()),
            Some(failed) => Err(ApiError::new(ErrorCode::Failed, format!("`{}` did not become ready with the restored data", failed.name))
                .hint("see `devenv why` and `devenv logs`; to bring the previous data back, run `devenv down` and `devenv undo`")),
        }
    }

    /// Key, name and directory of a new volume for a service that has one.
    async fn fresh_volume(
        &self,
        environment: &Environment,
        name: &ServiceName,
        service: &ServiceSpec,
    ) -> Result<(String, String, PathBuf), ApiError> {
        let key =
            volume_key(name, service).ok_or_else(|| ApiError::new(ErrorCode::Usage, format!("`{name}` stores no data in a volume")))?;
        let fresh = environment.handle.reserve_volumes(vec![key.clone()]).await.map_err(ApiError::from)?;
        let volume = fresh[&key].clone();
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let role = key.rsplit('/').next().map(str::to_owned);
        let labels = Labels { role, spec: None, ..crate::reconcile::labels(&self.shared.owner, &record, Some(service)) };
        self.engine()
            .create_volume(&VolumeCreate { name: volume.clone(), labels, options: BTreeMap::new() })
            .await
            .map_err(|error| no_engine(&error))?;
        let directory = self.reachable(&volume).await?;
        Ok((key, volume, directory))
    }

    async fn held_directory(&self, environment: &Environment, name: &ServiceName, service: &ServiceSpec) -> Result<PathBuf, ApiError> {
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let volume = volume_key(name, service).and_then(|key| record.volumes.get(&key).cloned());
        let volume = volume.ok_or_else(|| ApiError::new(ErrorCode::Usage, format!("`{name}` stores no data in a volume")))?;
        self.reachable(&volume).await
    }

    async fn reachable(&self, volume: &str) -> Result<PathBuf, ApiError> {
        let directory = self.volume(volume).await?.mountpoint;
        if rustix::process::geteuid().is_root() && directory.is_dir() {
            return Ok(directory);
        }
        let message = "the daemon cannot access the engine's volumes";
        Err(ApiError::new(ErrorCode::Failed, message)
            .hint("this needs a daemon that runs as root on the engine's host; `devenv snapshot` works everywhere"))
    }

    fn backup_root(&self, environment: &Environment) -> PathBuf {
        self.shared.store.environment(&environment.id).join("backups")
    }

    /// Whether the environment has something that outlives its volumes.
    pub(crate) fn has_backups(&self, environment: &Environment) -> bool {
        !list(&self.backup_root(environment)).is_empty()
    }
}

/// Whether a backup of the services `names` (all, if there are none) leaves out something that can be backed up.
fn is_partial(spec: &EnvironmentSpec, names: &[ServiceName]) -> bool {
    let can_be_backed_up =
        |service: &ServiceSpec| backups_of(service).is_some_and(|backups| !matches!(backups.way(service), Way::Skipped(_)));
    !names.is_empty() && spec.services.iter().any(|(name, service)| can_be_backed_up(service) && !names.contains(name))
}

/// `None` for services that keep nothing of the user's.
fn backups_of(service: &ServiceSpec) -> Option<&'static dyn BackupAbility> {
    kinds::find(&service.kind).and_then(ServiceKind::backups)
}

fn volume_key(name: &ServiceName, service: &ServiceSpec) -> Option<String> {
    service.container()?.mounts.iter().find_map(|mount| match &mount.source {
        MountSource::Volume(volume) => Some(format!("{name}/{volume}")),
        MountSource::Host(_) | MountSource::Memory => None,
    })
}

/// Whole backups, oldest first.
fn list(root: &Path) -> Vec<Backup> {
    let mut found: Vec<Backup> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| serde_json::from_slice(&fs::read(entry.path().join(MANIFEST)).ok()?).ok())
        .collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}

/// Removes the remains of an interrupted backup.
fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if !entry.path().join(MANIFEST).exists()
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(%error, "Cannot remove the remains of a backup.");
        }
    }
}

async fn filed(directory: &Path, name: String, database: Option<String>) -> Result<BackupFile, ApiError> {
    let (size, checksum) = checksum(directory.join(&name)).await?;
    Ok(BackupFile { name, database, size, checksum })
}

async fn check(directory: &Path, file: &BackupFile) -> Result<(), ApiError> {
    let path = directory.join(&file.name);
    let found = if path.is_dir() {
        tokio::task::spawn_blocking(move || digest_tree(&path)).await.map_err(internal)?.map_err(internal)?.checksum
    } else {
        checksum(path).await?.1
    };
    if found == file.checksum {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::Failed, format!("the backup's file {} is damaged: its checksum differs", file.name))
        .hint("nothing was changed; run `devenv backup list` to see other backups"))
}

pub(super) async fn checksum(path: PathBuf) -> Result<(u64, String), ApiError> {
    let read = move || {
        let mut file = fs::File::open(path)?;
        let (mut digest, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok::<_, std::io::Error>((size, hex::encode(digest.finalize())));
            }
            digest.update(&buffer[..count]);
            size += count as u64;
        }
    };
    tokio::task::spawn_blocking(read).await.map_err(internal)?.map_err(internal)
}

fn files_below(directory: &Path) -> u64 {
    let mut pending = vec![directory.to_owned()];
    let mut count = 0;
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) { pending.push(entry.path()) } else { count += 1 }
        }
    }
    count
}

pub(super) fn backup_error(error: &BackupError) -> ApiError {
    ApiError::new(ErrorCode::Failed, describe(error))
}
