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

use super::{Environments, describe, environments::Environment, internal, no_engine};
use crate::{
    backup::{self, BackupError, compare, verified},
    engine::{ExecInput, Labels, VolumeCreate},
    provision::{self, ProvisionContext},
    snapshot::{copy_tree, digest_tree},
    kinds::{
        postgres::{backup as postgres, spec::PostgresProvision},
        redis::{backup as redis, spec::RedisProvision},
    },
    spec::{EnvironmentSpec, MountSource, ServiceName, ServiceSpec},
    store::{create_private, write_atomically},
};

const MANIFEST: &str = "manifest.json";

/// How a service's data is backed up.
enum Way {
    Postgres(PostgresProvision),
    Redis(RedisProvision),
    Files,
    No(&'static str),
}

impl Environments {
    pub(crate) async fn save_backup(&self, environment: &Environment, names: &[ServiceName]) -> Result<Backup, ApiError> {
        let spec = environment.spec().await?;
        if let Some(unknown) = names.iter().find(|name| !spec.services.contains_key(*name)) {
            return Err(ApiError::new(ErrorCode::NotFound, format!("there is no service `{unknown}` in this environment"))
                .hint("`devenv status` lists the services"));
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
            let Some(way) = way(service) else { continue };
            made.services.push(self.back_up(environment, name, service, way, &directory).await?);
        }
        if made.services.iter().all(|part| part.skipped.is_some()) {
            let why = made
                .services
                .iter()
                .filter_map(|part| part.skipped.as_ref().map(|why| format!("{}: {why}", part.service)))
                .collect::<Vec<_>>()
                .join("; ");
            return Err(ApiError::new(ErrorCode::Usage, format!("there is nothing to back up {why}").trim().to_owned()));
        }
        made.size = made.services.iter().flat_map(|part| &part.files).map(|file| file.size).sum();
        write_atomically(&directory.join(MANIFEST), &serde_json::to_vec_pretty(&made).expect("a manifest is plain data"))
            .map_err(internal)?;
        for old in backup::outdated(&list(&root)) {
            fs::remove_dir_all(root.join(&old)).map_err(internal)?;
            made.removed.push(old);
        }
        environment.handle.events.emit(crate::event::News::new("backup.made", format!("the backup {} was made", made.id)));
        Ok(made)
    }

    async fn back_up(
        &self,
        environment: &Environment,
        name: &ServiceName,
        service: &ServiceSpec,
        way: Way,
        directory: &Path,
    ) -> Result<BackupPart, ApiError> {
        let mut part =
            BackupPart { service: name.to_string(), kind: service.kind.clone(), files: Vec::new(), contents: Vec::new(), skipped: None };
        match way {
            Way::No(why) => part.skipped = Some(why.to_owned()),
            Way::Postgres(provision) => {
                let instance = environment.instance(name)?;
                let server = postgres::Server::own(self.engine().as_ref(), &instance.id);
                let roles = format!("{name}.roles.sql");
                let text = server.roles().await.map_err(|error| told(&error))?;
                write_atomically(&directory.join(&roles), &text).map_err(internal)?;
                part.files.push(filed(directory, roles, None).await?);
                for database in &provision.databases {
                    let file = format!("{name}.{}.dump", database.name.replace('/', "_"));
                    part.contents.extend(
                        server.dump(&database.name, postgres::Dump::Own, &directory.join(&file)).await.map_err(|error| told(&error))?,
                    );
                    part.files.push(filed(directory, file, Some(database.name.clone())).await?);
                }
            }
            Way::Redis(provision) => {
                let instance = environment.instance(name)?;
                let file = format!("{name}.rdb");
                let mut server = redis::Server::open(&provision, &environment.vault, environment.caretaker.authority())
                    .await
                    .map_err(|error| told(&error))?;
                part.contents =
                    server.dump(self.engine().as_ref(), &instance.id, &directory.join(&file)).await.map_err(|error| told(&error))?;
                part.files.push(filed(directory, file, None).await?);
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
            let hint =
                if ids.is_empty() { "`devenv backup` makes one".to_owned() } else { format!("there are {}, and `latest`", ids.join(", ")) };
            return Err(ApiError::new(ErrorCode::NotFound, format!("there is no backup `{id}`")).hint(hint));
        };
        let directory = root.join(&wanted.id);
        let spec = environment.spec().await?;
        let mut compared = Vec::new();
        let mut fresh = BTreeMap::new();
        for part in wanted.services.iter().filter(|part| part.skipped.is_none()) {
            let name: ServiceName = part.service.parse().map_err(internal)?;
            let Some((service, way)) = spec.services.get(&name).and_then(|service| Some((service, way(service)?))) else { continue };
            for file in &part.files {
                check(&directory, file).await?;
            }
            match way {
                Way::No(_) => {}
                Way::Postgres(provision) => compared.push(self.restore_postgres(environment, &name, &provision, part, &directory).await?),
                Way::Redis(_) => fresh.extend(self.redis_volume(environment, &name, service, &directory.join(&part.files[0].name)).await?),
                Way::Files => {
                    let (key, volume, target) = self.fresh_volume(environment, &name, service).await?;
                    let source = directory.join(&part.files[0].name);
                    tokio::task::spawn_blocking(move || copy_tree(&source, &target)).await.map_err(internal)?.map_err(internal)?;
                    fresh.insert(key, volume);
                }
            }
        }
        if !fresh.is_empty() {
            self.move_and_wait(environment, fresh).await?;
        }
        for part in wanted.services.iter().filter(|part| part.skipped.is_none()) {
            let name: ServiceName = part.service.parse().map_err(internal)?;
            match spec.services.get(&name).and_then(way) {
                Some(Way::Redis(provision)) => {
                    let mut server = redis::Server::open(&provision, &environment.vault, environment.caretaker.authority())
                        .await
                        .map_err(|error| told(&error))?;
                    compared.push(compare(&part.service, &part.contents, &server.contents().await.map_err(|error| told(&error))?));
                }
                Some(Way::Files) => {
                    let held = self.held_directory(environment, &name, &spec.services[&name]).await?;
                    let digest = tokio::task::spawn_blocking(move || digest_tree(&held).map(|digest| (digest, files_below(&held))))
                        .await
                        .map_err(internal)?
                        .map_err(internal)?;
                    let after = [Content { name: "files".to_owned(), rows: digest.1, checksum: Some(digest.0.checksum) }];
                    compared.push(compare(&part.service, &part.contents, &after));
                }
                Some(Way::Postgres(_) | Way::No(_)) | None => {}
            }
        }
        environment.handle.events.emit(crate::event::News::new("backup.restored", format!("the backup {} was restored", wanted.id)));
        Ok(Restored {
            backup: wanted.id.clone(),
            verified: verified(&compared),
            services: compared,
            elapsed_ms: began.elapsed().as_millis() as u64,
        })
    }

    async fn restore_postgres(
        &self,
        environment: &Environment,
        name: &ServiceName,
        provision: &PostgresProvision,
        part: &BackupPart,
        directory: &Path,
    ) -> Result<Compared, ApiError> {
        let instance = environment.instance(name)?;
        let server = postgres::Server::own(self.engine().as_ref(), &instance.id);
        if let Some(roles) = part.files.iter().find(|file| file.database.is_none()) {
            let text = fs::read_to_string(directory.join(&roles.name)).map_err(internal)?;
            server.make_roles(&text).await.map_err(|error| told(&error))?;
        }
        let mut after = Vec::new();
        let databases: Vec<(&BackupFile, &String)> = part.files.iter().filter_map(|file| Some((file, file.database.as_ref()?))).collect();
        for (file, database) in &databases {
            let dump = opened(&directory.join(&file.name)).await?;
            after.extend(server.restore(provision, database, postgres::Dump::Own, dump).await.map_err(|error| told(&error))?.contents);
        }
        let compared = compare(&part.service, &part.contents, &after);
        if !compared.differences.is_empty() {
            for (_, database) in &databases {
                server.discard(database).await;
            }
            let message = format!("what came out of the backup of `{name}` is not what went in: {}", compared.differences.join("; "));
            return Err(ApiError::new(ErrorCode::Failed, message).hint("nothing was changed"));
        }
        for (_, database) in &databases {
            server.swap(database).await.map_err(|error| told(&error))?;
        }
        self.provision_again(environment, provision).await?;
        environment.reread(name).await;
        Ok(compared)
    }

    /// A database that took the place of another has its contents and not yet its settings and rights.
    pub(super) async fn provision_again(&self, environment: &Environment, provision: &PostgresProvision) -> Result<(), ApiError> {
        let cx = ProvisionContext {
            vault: environment.vault.clone(),
            authority: Some(environment.caretaker.authority().to_owned()),
            again: false,
        };
        provision::apply(&provision.clone().into_provision(), &cx)
            .await
            .map(drop)
            .map_err(|error| ApiError::new(ErrorCode::Failed, format!("it could not be provisioned: {error}")))
    }

    /// A new volume with nothing but the dump. Where there is an append-only file too, Redis reads that and not the dump;
    /// from a dump alone, the container's start makes the base of a new one.
    pub(super) async fn redis_volume(
        &self,
        environment: &Environment,
        name: &ServiceName,
        service: &ServiceSpec,
        dump: &Path,
    ) -> Result<BTreeMap<String, String>, ApiError> {
        let owner = fs::metadata(self.held_directory(environment, name, service).await?).map_err(internal)?;
        let (key, volume, target) = self.fresh_volume(environment, name, service).await?;
        let file = target.join("dump.rdb");
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
        let turn = environment.handle.move_to(fresh, "restore").await.map_err(ApiError::from)?;
        let view = environment.handle.until_up(turn).await.map_err(ApiError::from)?;
        match view.failures.iter().find(|failed| !failed.optional) {
            None => Ok(()),
            Some(failed) => Err(ApiError::new(ErrorCode::Failed, format!("`{}` did not become ready on the restored data", failed.name))
                .hint("`devenv why` and `devenv logs` tell; `devenv down` and `devenv undo` bring the former data back")),
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
            volume_key(name, service).ok_or_else(|| ApiError::new(ErrorCode::Usage, format!("`{name}` keeps no data on a volume")))?;
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
        let volume = volume.ok_or_else(|| ApiError::new(ErrorCode::Usage, format!("`{name}` keeps no data on a volume")))?;
        self.reachable(&volume).await
    }

    async fn reachable(&self, volume: &str) -> Result<PathBuf, ApiError> {
        let directory = self.volume(volume).await?.mountpoint;
        if rustix::process::geteuid().is_root() && directory.is_dir() {
            return Ok(directory);
        }
        let message = "the engine's volumes cannot be reached from here";
        Err(ApiError::new(ErrorCode::Failed, message)
            .hint("this needs a daemon that runs as root beside its engine; `devenv snapshot` works everywhere"))
    }

    fn backup_root(&self, environment: &Environment) -> PathBuf {
        self.shared.store.environment(&environment.id).join("backups")
    }

    /// Whether the environment has something that outlives its volumes.
    pub(super) fn has_backups(&self, environment: &Environment) -> bool {
        !list(&self.backup_root(environment)).is_empty()
    }
}

/// Whether a backup of the services `names` (all, if there are none) leaves out something that can be backed up.
fn is_partial(spec: &EnvironmentSpec, names: &[ServiceName]) -> bool {
    let can_be_backed_up = |service: &ServiceSpec| way(service).is_some_and(|way| !matches!(way, Way::No(_)));
    !names.is_empty() && spec.services.iter().any(|(name, service)| can_be_backed_up(service) && !names.contains(name))
}

/// `None` for services that keep nothing of the user's.
fn way(service: &ServiceSpec) -> Option<Way> {
    if let Some(provision) = PostgresProvision::of(service) {
        return Some(Way::Postgres(provision));
    }
    if let Some(provision) = RedisProvision::of(service) {
        let has_volume = volume_key(&service.name, service).is_some();
        return Some(if has_volume { Way::Redis(provision) } else { Way::No("it keeps nothing: its persistence is off") });
    }
    service.provision.first().map(|provision| match provision.kind.as_str() {
        "s3" => Way::Files,
        _ => Way::No("Kafka's logs are no dump that another version takes; `devenv snapshot` keeps them"),
    })
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

/// Removes what a backup that was cut off has left.
fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if !entry.path().join(MANIFEST).exists()
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(%error, "What is left of a backup could not be removed.");
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
    Err(ApiError::new(ErrorCode::Failed, format!("the backup's file {} is not what was written: its checksum differs", file.name))
        .hint("nothing was changed; `devenv backup list` shows other backups"))
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

pub(super) async fn opened(path: &Path) -> Result<ExecInput, ApiError> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|error| ApiError::new(ErrorCode::Usage, format!("cannot read {}: {error}", path.display())))?;
    Ok(std::sync::Arc::new(std::sync::Mutex::new(Some(Box::pin(file)))))
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

pub(super) fn told(error: &BackupError) -> ApiError {
    ApiError::new(ErrorCode::Failed, describe(error))
}
