//! Golden volumes: PostgreSQL's data as it is after provisioning, scripts and data sets, kept to start others from.
//!
//! A copy is made once, at the first settling of a start that began on an empty volume: before anybody is told that the
//! service is ready, so nobody sees the moment for which it is paused. A service that is about to start on an empty volume,
//! after `reset` or in a new environment, gets a copy of it instead if the key is the same, and finds its ledger there.
//!
//! Of each there is a second copy, whose files are moved instead of copied when they are wanted, and which is then made anew
//! in the background: so a large reset takes no longer than a small one.
//!
//! A volume is golden as soon as a small file says so, written when the copy is on the disk. What died half way, here or
//! while a volume is filled, is told by a file that was written before.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    engine::{Engine, Labels, ObservedVolume, OwnerId, VolumeCreate},
    probe::postgres::{Login, session},
    reconcile::{Evidence, Instance},
    script::{self, Checksums},
    secret::Vault,
    snapshot::{GoldenInput, GoldenKey, copy_tree, copy_tree_unsynced, copy_tree_without},
    spec::{EnvironmentId, MountSource, PostgresProvision, Provision, ServiceName, ServiceSpec, Workload},
    store::{Record, Store, StoreError, create_private, write_atomically},
};

/// The label of a golden volume's role.
pub(super) const ROLE: &str = "golden";
/// A larger one is not kept: the pause would be felt.
const LARGEST: u64 = 2 << 30;
/// All golden volumes together; the ones used longest ago go first.
pub(super) const BUDGET: u64 = 10 << 30;
/// A copy that is not finished after this time never will be.
const UNFINISHED: Duration = Duration::from_hours(1);

/// The golden volumes of a daemon, for one environment's services.
pub(super) struct Golden {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) store: Store,
    pub(super) owner: OwnerId,
    pub(super) environment: EnvironmentId,
    /// Services whose present start began on an empty volume.
    pub(super) empty: Mutex<HashSet<ServiceName>>,
    /// Services that have used a spare copy, or would have: it is made when they have settled.
    pub(super) consumed: Mutex<HashMap<ServiceName, Spare>>,
}

/// What is known of a golden volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    version: u32,
    volume: String,
    environment: EnvironmentId,
    project: PathBuf,
    /// RFC 3339.
    made_at: String,
    bytes: u64,
    /// The copy is whole and on the disk.
    complete: bool,
}

/// A service's volume on this host.
struct Place {
    record: Record,
    directory: PathBuf,
}

impl Golden {
    /// Before a start: fills an empty volume from a golden one, and refuses data of another major version.
    pub(super) async fn prepare(&self, spec: &ServiceSpec, project: &Path, checksums: &Checksums) -> Result<(), Evidence> {
        self.empty.lock().expect("no holder of this lock panics").remove(&spec.name);
        if postgres(spec).is_none() {
            return Ok(());
        }
        // Of volumes elsewhere nothing can be seen: the server itself refuses what it cannot read.
        let Some(place) = self.place(spec).await else { return Ok(()) };
        let filling = self.filling(&spec.name);
        if filling.exists() {
            clear(&place.directory).map_err(|error| Evidence::of(format!("its half-filled volume could not be emptied: {error}")))?;
        }
        if let Ok(found) = fs::read_to_string(place.directory.join("pgdata/PG_VERSION")) {
            return version_fits(spec, found.trim());
        }
        match self.fill(spec, project, checksums, &place, &filling).await {
            Ok(true) => {}
            Ok(false) => {
                self.empty.lock().expect("no holder of this lock panics").insert(spec.name.clone());
            }
            // A slower start is no failure.
            Err(error) => {
                tracing::warn!(%error, service = %spec.name, "A volume could not be filled from a golden one.");
                clear(&place.directory).map_err(|error| Evidence::of(format!("its half-filled volume could not be emptied: {error}")))?;
            }
        }
        forget_file(&filling);
        Ok(())
    }

    async fn fill(&self, spec: &ServiceSpec, project: &Path, checksums: &Checksums, place: &Place, filling: &Path) -> io::Result<bool> {
        let Some(key) = self.key(spec, project, checksums).await else { return Ok(false) };
        let Some(kept) = read(&self.file(&key)).filter(|kept| kept.complete) else { return Ok(false) };
        let Some(golden) = self.volume(&kept.volume).await else { return Ok(false) };
        let began = Instant::now();
        write_atomically(filling, b"").map_err(io::Error::other)?;
        let spare = Spare { key: key.clone(), golden: kept.volume.clone(), store: self.store.clone() };
        if let Some(volume) = self.volume(&spare.volume()).await
            && spare.take()
        {
            match fs::rename(volume.mountpoint.join("pgdata"), place.directory.join("pgdata")) {
                Ok(()) => {
                    self.touch(&key);
                    self.consumed.lock().expect("no holder of this lock panics").insert(spec.name.clone(), spare);
                    tracing::info!(service = %spec.name, %key, took = ?began.elapsed(), "Volume filled from a spare golden one.");
                    return Ok(true);
                }
                // On another file system, or made anew at this very moment.
                Err(error) => tracing::debug!(%error, "A spare volume could not be used."),
            }
        }
        let target = place.directory.clone();
        // Not synced: a server that starts on a copy of a running one's files syncs them all before it answers.
        let copied =
            tokio::task::spawn_blocking(move || copy_tree_unsynced(&golden.mountpoint, &target)).await.map_err(io::Error::other)??;
        self.touch(&key);
        self.consumed.lock().expect("no holder of this lock panics").insert(spec.name.clone(), spare);
        tracing::info!(service = %spec.name, %key, bytes = ?copied.bytes, took = ?began.elapsed(), way = ?copied.way, "Volume filled from a golden one.");
        Ok(true)
    }

    /// After a service has settled for the first time on a volume that was empty: keeps a copy. Returns as soon as the
    /// service goes on.
    pub(super) async fn keep(
        &self,
        spec: &ServiceSpec,
        instance: &Instance,
        vault: &Vault,
        authority: &Path,
        project: &Path,
        checksums: &Checksums,
    ) {
        if !self.empty.lock().expect("no holder of this lock panics").remove(&spec.name) {
            return;
        }
        let Some(provision) = postgres(spec) else { return };
        let (Some(key), Some(place)) = (self.key(spec, project, checksums).await, self.place(spec).await) else { return };
        if read(&self.file(&key)).is_some_and(|kept| kept.complete || !is_old(&kept)) {
            return;
        }
        let journal = match checkpoint(provision, vault, authority).await {
            Ok(journal) => journal,
            Err(error) => {
                tracing::warn!(%error, service = %spec.name, "No golden volume was made.");
                return;
            }
        };
        let work = Keeping {
            engine: self.engine.clone(),
            key: key.clone(),
            file: self.file(&key),
            paused: self.store.environment(&self.environment).join(format!("paused-{}.json", spec.name)),
            container: instance.id.clone(),
            labels: self.labels(&place.record, spec),
            store: self.store.clone(),
            kept: Kept {
                version: 1,
                volume: format!("devenv-golden-{}-{key}", spec.name),
                environment: self.environment.clone(),
                project: place.record.project.clone(),
                made_at: Timestamp::now().to_string(),
                bytes: 0,
                complete: false,
            },
            from: place.directory,
            journal,
        };
        let (goes_on, gone_on) = oneshot::channel();
        // Not tied to the settling, which may be cancelled: a paused container has to be let go on whatever happens.
        tokio::spawn(async move {
            if let Err(error) = work.run(goes_on).await {
                tracing::warn!(%error, %key, "No golden volume was made.");
            }
        });
        // It fails only if the work is over already.
        let _ = gone_on.await;
    }

    /// Once a service is ready on what it was given: makes the next spare copy.
    pub(super) async fn replenish(&self, spec: &ServiceSpec) {
        let consumed = self.consumed.lock().expect("no holder of this lock panics").remove(&spec.name);
        if let (Some(spare), Some(place)) = (consumed, self.place(spec).await) {
            let (engine, labels) = (self.engine.clone(), self.labels(&place.record, spec));
            // For the next one; nobody waits for it, and a daemon that ends on the way makes it another time.
            tokio::spawn(async move { spare.make_or_warn(engine, labels).await });
        }
    }

    /// Everything that decides what is in the data; nothing if that cannot be known.
    async fn key(&self, spec: &ServiceSpec, project: &Path, checksums: &Checksums) -> Option<GoldenKey> {
        let container = spec.container()?;
        let image = self.engine.image(container.image.name()).await.ok()??;
        let scripts = match &spec.scripts {
            Some(set) => script::fingerprint(set, project, checksums).ok()?,
            None => Vec::new(),
        };
        let mut workload = container.clone();
        // What differs from one environment to the next.
        workload.ports.clear();
        let mut provision = postgres(spec)?.clone();
        provision.port = 0;
        let text = |value: serde_json::Result<String>| value.expect("a spec is plain data");
        let settings = [
            ("workload".to_owned(), text(serde_json::to_string(&Workload::Container(workload)))),
            ("provision".to_owned(), text(serde_json::to_string(&provision))),
        ];
        Some(GoldenKey::of(GoldenInput { kind: &spec.kind, image: &image, settings: &settings, scripts: &scripts }))
    }

    /// The service's only volume, if its files can be reached.
    async fn place(&self, spec: &ServiceSpec) -> Option<Place> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let record = self.store.record(&self.environment).ok()??;
        let mut volumes = spec.container()?.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume(name) => record.volumes.get(&format!("{}/{name}", spec.name)),
            MountSource::Host(_) | MountSource::Memory => None,
        });
        let (name, None) = (volumes.next()?.clone(), volumes.next()) else { return None };
        let directory = self.volume(&name).await?.mountpoint;
        directory.is_dir().then_some(Place { record, directory })
    }

    async fn volume(&self, name: &str) -> Option<ObservedVolume> {
        let volumes = self.engine.volumes(&self.owner).await.ok()?;
        volumes.into_iter().find(|volume| volume.name == name && volume.mountpoint.is_dir())
    }

    fn labels(&self, record: &Record, spec: &ServiceSpec) -> Labels {
        Labels { role: Some(ROLE.to_owned()), spec: None, ..crate::reconcile::labels(&self.owner, record, Some(spec)) }
    }

    /// When it was used last, for the budget.
    fn touch(&self, key: &GoldenKey) {
        // A golden volume that seems older than it is goes a little earlier.
        let _ = fs::File::open(self.file(key)).and_then(|file| file.set_modified(std::time::SystemTime::now()));
    }

    fn filling(&self, service: &ServiceName) -> PathBuf {
        self.store.environment(&self.environment).join(format!("filling-{service}"))
    }

    fn file(&self, key: &GoldenKey) -> PathBuf {
        self.store.golden().join(format!("{key}.json"))
    }
}

/// One copy to be made.
struct Keeping {
    engine: Arc<dyn Engine>,
    key: GoldenKey,
    file: PathBuf,
    paused: PathBuf,
    container: String,
    labels: Labels,
    store: Store,
    kept: Kept,
    from: PathBuf,
    journal: Journal,
}

#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("the engine refused")]
    Engine(#[from] crate::engine::EngineError),
    #[error("it could not be written down")]
    Store(#[from] StoreError),
    #[error("it could not be copied")]
    Copy(#[from] io::Error),
    #[error("it is larger than {LARGEST} bytes")]
    TooLarge,
}

impl Keeping {
    async fn run(mut self, goes_on: oneshot::Sender<()>) -> Result<(), KeepError> {
        if let Some(directory) = self.file.parent() {
            create_private(directory)?;
        }
        let from = self.from.clone();
        let size = blocking(move || Ok(crate::snapshot::size_of(&from))).await?;
        if size > LARGEST {
            return Err(KeepError::TooLarge);
        }
        // On file before it is made, so that nobody takes it for nobody's.
        self.write()?;
        self.engine
            .create_volume(&VolumeCreate { name: self.kept.volume.clone(), labels: self.labels.clone(), options: BTreeMap::new() })
            .await?;
        let owner = &self.labels.owner;
        let made = self.engine.volumes(owner).await?.into_iter().find(|volume| volume.name == self.kept.volume);
        let Some(made) = made else { return Err(io::Error::from(io::ErrorKind::NotFound).into()) };

        let list = serde_json::to_vec(&[&self.container]).expect("a list of names is plain data");
        write_atomically(&self.paused, &list)?;
        let began = Instant::now();
        self.engine.pause(&self.container).await?;
        let (from, to, journal) = (self.from.clone(), made.mountpoint.clone(), self.journal.clone());
        let copied = blocking(move || copy_tree_without(&from, &to, |path| journal.is_needless(path))).await;
        let unpaused = self.engine.unpause(&self.container).await;
        let paused = began.elapsed();
        if unpaused.is_ok() {
            forget_file(&self.paused);
        }
        // Whoever waits may be gone.
        let _ = goes_on.send(());
        unpaused?;
        let copied = copied?;
        let to = made.mountpoint;
        blocking(move || {
            // Of the server that runs there; another one would look for it.
            for left in ["pgdata/postmaster.pid", "pgdata/postmaster.opts"] {
                forget_file(&to.join(left));
            }
            Ok(rustix::fs::syncfs(fs::File::open(&to)?)?)
        })
        .await?;
        self.kept.bytes = copied.bytes.unwrap_or(size);
        self.kept.complete = true;
        self.write()?;
        tracing::info!(key = %self.key, bytes = self.kept.bytes, ?paused, in_all = ?began.elapsed(), way = ?copied.way, "Golden volume made.");
        let spare = Spare { key: self.key, golden: self.kept.volume, store: self.store };
        spare.make_or_warn(self.engine, self.labels).await;
        Ok(())
    }

    fn write(&self) -> Result<(), StoreError> {
        write_atomically(&self.file, &serde_json::to_vec(&self.kept).expect("plain data"))
    }
}

/// A copy of a golden volume, to be used up.
pub(super) struct Spare {
    key: GoldenKey,
    golden: String,
    store: Store,
}

impl Spare {
    fn volume(&self) -> String {
        spare_of(&self.golden)
    }

    /// Says that the copy is whole.
    fn file(&self) -> PathBuf {
        self.store.golden().join(format!("{}.spare", self.key))
    }

    /// Whether it is whole, and ours from now on: a file is removed by one alone.
    fn take(&self) -> bool {
        fs::remove_file(self.file()).is_ok()
    }

    async fn make_or_warn(&self, engine: Arc<dyn Engine>, labels: Labels) {
        if let Err(error) = self.make(engine, labels).await {
            tracing::warn!(%error, key = %self.key, "No spare copy of a golden volume was made.");
        }
    }

    async fn make(&self, engine: Arc<dyn Engine>, labels: Labels) -> Result<(), KeepError> {
        let lock =
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(self.store.golden().join(format!("{}.lock", self.key)))?;
        if lock.try_lock().is_err() || self.file().exists() {
            return Ok(());
        }
        let owner = labels.owner.clone();
        engine.create_volume(&VolumeCreate { name: self.volume(), labels, options: BTreeMap::new() }).await?;
        let volumes = engine.volumes(&owner).await?;
        let directory = |name: &str| volumes.iter().find(|volume| volume.name == name).map(|volume| volume.mountpoint.clone());
        let (Some(from), Some(to)) = (directory(&self.golden), directory(&self.volume())) else {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        };
        blocking(move || copy_tree(&from, &to)).await?;
        write_atomically(&self.file(), b"")?;
        Ok(())
    }
}

fn spare_of(golden: &str) -> String {
    format!("{golden}-spare")
}

/// Names of the golden volumes that stay: those of projects that still have an environment, newest use first, up to the
/// budget; none if that is nothing.
pub(super) fn retained(store: &Store, projects: &HashSet<PathBuf>, budget: u64, dry_run: bool) -> HashSet<String> {
    let mut found: Vec<(std::time::SystemTime, PathBuf, Kept)> = Vec::new();
    for entry in fs::read_dir(store.golden()).into_iter().flatten().flatten() {
        let used = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(std::time::UNIX_EPOCH);
        if let Some(kept) = read(&entry.path()) {
            found.push((used, entry.path(), kept));
        }
    }
    found.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
    let (mut stay, mut bytes) = (HashSet::new(), 0);
    for (_, path, kept) in found {
        // With its spare copy.
        bytes += 2 * kept.bytes;
        let is_waste = !kept.complete && is_old(&kept);
        // One that is being made stays, whatever is asked: its maker counts on it.
        if !kept.complete && !is_waste || !is_waste && budget > 0 && bytes <= budget && projects.contains(&kept.project) {
            stay.insert(spare_of(&kept.volume));
            stay.insert(kept.volume);
        } else if !dry_run {
            forget_file(&path);
            forget_file(&path.with_extension("spare"));
            forget_file(&path.with_extension("lock"));
        }
    }
    stay
}

/// What all golden volumes take, with their spare copies.
pub(super) fn bytes(store: &Store) -> u64 {
    let entries = fs::read_dir(store.golden()).into_iter().flatten().flatten();
    entries.filter_map(|entry| read(&entry.path())).map(|kept| 2 * kept.bytes).sum()
}

fn is_old(kept: &Kept) -> bool {
    kept.made_at.parse::<Timestamp>().is_ok_and(|made| Timestamp::now().duration_since(made).unsigned_abs() > UNFINISHED)
}

fn read(path: &Path) -> Option<Kept> {
    serde_json::from_slice::<Kept>(&fs::read(path).ok()?).ok().filter(|kept| kept.version == 1)
}

pub(super) fn postgres(spec: &ServiceSpec) -> Option<&PostgresProvision> {
    spec.provision.iter().find_map(|provision| match provision {
        Provision::Postgres(postgres) => Some(postgres),
        Provision::Redis(_) | Provision::Kafka(_) | Provision::S3(_) => None,
    })
}

/// PostgreSQL refuses the data of another major version, and says little: this says what to do, and starts nothing.
fn version_fits(spec: &ServiceSpec, found: &str) -> Result<(), Evidence> {
    let Some(wanted) = spec.container().and_then(|container| major_of(container.image.name())) else { return Ok(()) };
    if found == wanted {
        return Ok(());
    }
    let service = &spec.name;
    let cause = format!(
        "the data of `{service}` was written by PostgreSQL {found}, and the profile wants PostgreSQL {wanted}, which cannot read it; nothing was started on it"
    );
    let fix = format!(
        "set `version: \"{found}\"` and: `devenv up`, `devenv export {service} {service}.dump`, `devenv down --volumes`; \
         then `version: \"{wanted}\"`, `devenv up` and `devenv import {service} {service}.dump`. Without the data: `devenv reset {service}` (`devenv undo` brings it back)"
    );
    Err(Evidence { diagnosis: Some((cause.clone(), fix)), ..Evidence::of(cause) })
}

/// From `postgres:17`, `pgvector/pgvector:pg17`, `postgis/postgis:16-3.4`; nothing if the tag does not say it.
fn major_of(image: &str) -> Option<&str> {
    let tag = image.rsplit_once(':')?.1;
    let tag = tag.strip_prefix("pg").unwrap_or(tag);
    let end = tag.find(|c: char| !c.is_ascii_digit()).unwrap_or(tag.len());
    (1..=2).contains(&end).then(|| &tag[..end])
}

/// The files of the write-ahead log that a start after the checkpoint reads, by name: the others are kept for reuse alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Journal {
    first: String,
    last: String,
}

impl Journal {
    fn is_needless(&self, path: &Path) -> bool {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return false };
        let is_segment = directory.ends_with("pgdata/pg_wal") && name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_segment && (name < self.first.as_str() || name > self.last.as_str())
    }
}

async fn checkpoint(provision: &PostgresProvision, vault: &Vault, authority: &Path) -> Result<Journal, String> {
    let tls = if provision.tls { Some(crate::tls::client(authority).map_err(|error| error.to_string())?) } else { None };
    let password = vault.reveal(&provision.password).map_err(|error| error.to_string())?;
    let login = Login { port: provision.port, user: "postgres", password, database: "postgres", tls };
    session(&login.config("devenv golden"), login.tls.clone(), |client| async move {
        client.batch_execute("CHECKPOINT").await?;
        // One more than now: what is written until the pause may go over the end of a file.
        let files = "SELECT pg_walfile_name(redo_lsn), pg_walfile_name(pg_current_wal_insert_lsn() + pg_size_bytes(current_setting('wal_segment_size'))::numeric) FROM pg_control_checkpoint()";
        let row = client.query_one(files, &[]).await?;
        Ok(Journal { first: row.get(0), last: row.get(1) })
    })
    .await
    .map_err(|error| crate::probe::postgres::words(provision.port, &error))
}

fn clear(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}

fn forget_file(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "A file could not be removed.");
        }
        _ => {}
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_the_tags_that_images_of_postgresql_have() {
        for (image, major) in [
            ("postgres:17", Some("17")),
            ("pgvector/pgvector:pg16", Some("16")),
            ("postgis/postgis:16-3.4", Some("16")),
            ("localhost:5000/postgres:15.4-alpine", Some("15")),
            ("timescale/timescaledb:latest-pg16", None),
            ("postgres", None),
            ("mine:20240101", None),
        ] {
            assert_eq!(major_of(image), major, "{image}");
        }
    }

    #[test]
    fn only_the_journals_files_from_the_checkpoint_on_are_copied() {
        let journal = Journal { first: "00000001000000000000000A".to_owned(), last: "00000001000000000000000C".to_owned() };
        for (path, needless) in [
            ("pgdata/pg_wal/000000010000000000000009", true),
            ("pgdata/pg_wal/00000001000000000000000A", false),
            ("pgdata/pg_wal/00000001000000000000000C", false),
            ("pgdata/pg_wal/00000001000000000000000D", true),
            ("pgdata/pg_wal/00000002.history", false),
            ("pgdata/base/000000010000000000000009", false),
        ] {
            assert_eq!(journal.is_needless(Path::new(path)), needless, "{path}");
        }
    }

    #[test]
    fn golden_volumes_go_with_their_project_or_over_the_budget_and_all_of_them_on_demand() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        create_private(&store.golden()).unwrap();
        let keep = |name: &str, project: &str, gigabytes: u64, complete: bool, age: u64| {
            let kept = Kept {
                version: 1,
                volume: name.to_owned(),
                environment: EnvironmentId::of(Path::new(project), "default"),
                project: project.into(),
                made_at: Timestamp::now().to_string(),
                bytes: gigabytes << 30,
                complete,
            };
            let path = store.golden().join(format!("{name}.json"));
            fs::write(&path, serde_json::to_vec(&kept).unwrap()).unwrap();
            fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        keep("new", "/here", 3, true, 0);
        keep("old", "/here", 3, true, 60);
        keep("gone", "/gone", 1, true, 0);
        keep("making", "/gone", 0, false, 0);
        let projects = HashSet::from([PathBuf::from("/here")]);
        let names = |names: &[&str]| names.iter().flat_map(|name| [(*name).to_owned(), spare_of(name)]).collect::<HashSet<_>>();
        assert_eq!(retained(&store, &projects, BUDGET, true), names(&["new", "making"]));
        assert_eq!(retained(&store, &projects, 0, false), names(&["making"]));
        assert_eq!(retained(&store, &projects, BUDGET, false), names(&["making"]));
    }
}
