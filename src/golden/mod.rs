//! Golden volumes: copies of a server's data after provisioning, scripts and data sets, from which others start. The kind
//! of the server defines what determines the data, and how to see that it is at rest.
//!
//! A copy is made once, after the first start on an empty volume ([`build`] describes how without delaying
//! clients). A service that is about to start on an empty volume, after `reset` or in a new environment, gets a copy of it
//! instead if the key is the same, and finds its ledger there. Each has a second copy ([`spare`]), which is moved
//! into place, so that a large reset takes no longer than a small one.
//!
//! Interrupted work does not count: a volume is golden once a small file says so ([`catalogue`]), data is copied
//! under another name and renamed, and an interrupted first start begins again on an empty volume. Containers that are paused
//! for a copy are recorded with the operations, and the next daemon unpauses them.
//!
//! If the engine's volumes are not this process's own files, helper containers read and copy them ([`elsewhere`]).

mod build;
mod catalogue;
mod elsewhere;
mod spare;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Instant,
};

use devenv_engine::{Engine, Labels, ObservedVolume, OwnerId};
use devenv_kinds::{
    ServiceKind, capability,
    provision::ProvisionContext,
    script::{self, Checksums},
};
use devenv_snapshots::{GoldenInput, GoldenKey, copy_tree_unsynced, is_ours};
use devenv_spec::{EnvironmentId, MountSource, ServiceName, ServiceSpec, Workload};
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::{
    error::describe,
    operation_store::OperationStore,
    reconcile::{Evidence, Instance},
    store::{Record, Store, write_atomically},
};
use build::{GoldenBuild, Source};
use catalogue::{GoldenFiles, GoldenRecord};
use spare::Spare;

pub(crate) use catalogue::{BUDGET, bytes, discard_unfinished, relocate, retained};

/// The role label of a golden volume.
pub(crate) const ROLE: &str = "golden";
/// The suffix of the data's directory until it is complete.
const FILLING: &str = "filling";

/// The golden volumes of a daemon, for one environment's services.
pub(crate) struct Golden {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) store: Store,
    /// The record of paused containers.
    pub(crate) operations: OperationStore,
    pub(crate) owner: OwnerId,
    pub(crate) environment: EnvironmentId,
    /// Services whose current start began on an empty volume.
    pub(crate) empty: Mutex<HashSet<ServiceName>>,
    /// Services that have used a spare copy, or would have: it is made when they are ready.
    pub(crate) consumed: Mutex<HashMap<ServiceName, Spare>>,
}

/// A service's only volume.
struct Place {
    record: Record,
    /// The engine's name.
    volume: String,
    /// The directory of its files, if this process can read and write them.
    directory: Option<PathBuf>,
}

impl Golden {
    /// Before a start: fills an empty volume from a golden one, and refuses data of another major version.
    pub(crate) async fn prepare(&self, spec: &ServiceSpec, project: &Path, checksums: &Checksums) -> Result<(), Evidence> {
        self.empty.lock().expect("no code panics while it holds this lock").remove(&spec.name);
        let Some(rules) = rules(spec) else { return Ok(()) };
        let Some(place) = self.place(spec).await else { return Ok(()) };
        let Some(directory) = place.directory.clone() else {
            return self.prepare_elsewhere(rules, spec, (project, checksums), &place).await;
        };
        let (data, filling) = (directory.join(rules.directory()), directory.join(format!("{}.{FILLING}", rules.directory())));
        let emptied = |error: io::Error| Evidence::of(format!("cannot empty its half-filled volume: {error}"));
        remove_tree(&filling).map_err(emptied)?;
        // A first start that never reached its server left incomplete data that no client has used, and a server refuses it.
        if fs::read(self.unanswered(&spec.name)).is_ok_and(|volume| volume == place.volume.as_bytes()) {
            if rules.served(&data) {
                self.answered(&spec.name)?;
            } else {
                remove_tree(&data).map_err(emptied)?;
            }
        }
        if let Some(readable) = rules.check(spec, &data) {
            return readable.map_err(|(cause, fix)| Evidence { diagnosis: Some((cause.clone(), fix)), ..Evidence::of(cause) });
        }
        let filled = self.fill(rules, spec, (project, checksums), (&data, &filling)).await.unwrap_or_else(|error| {
            // The service starts without it, only more slowly.
            tracing::warn!(%error, service = %spec.name, "Cannot fill a volume from a golden one.");
            false
        });
        if !filled {
            remove_tree(&filling).map_err(emptied)?;
            self.begins_empty(spec, &place)?;
        }
        Ok(())
    }

    fn begins_empty(&self, spec: &ServiceSpec, place: &Place) -> Result<(), Evidence> {
        write_atomically(&self.unanswered(&spec.name), place.volume.as_bytes())
            .map_err(|error| Evidence::of(format!("cannot record its first start: {}", describe(&error))))?;
        self.empty.lock().expect("no code panics while it holds this lock").insert(spec.name.clone());
        Ok(())
    }

    /// The server has answered: its volume holds data from now on.
    pub(crate) fn answered(&self, service: &ServiceName) -> Result<(), Evidence> {
        match fs::rename(self.unanswered(service), self.with_data(service)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Evidence::of(format!("cannot record the end of its first start: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether the service's current start began on an empty volume, and it has not been ready since.
    pub(crate) fn began_empty(&self, service: &ServiceName) -> bool {
        self.empty.lock().expect("no code panics while it holds this lock").contains(service)
    }

    async fn fill(
        &self,
        rules: &dyn capability::Golden,
        spec: &ServiceSpec,
        (project, checksums): (&Path, &Checksums),
        (data, filling): (&Path, &Path),
    ) -> io::Result<bool> {
        let Some((key, kept)) = self.kept(spec, project, checksums).await else { return Ok(false) };
        let files = GoldenFiles::of(&self.store, &key);
        let Some(golden) = self.volume(&kept.volume).await.filter(|golden| is_ours(&golden.mountpoint)) else { return Ok(false) };
        let began = Instant::now();
        let spare = Spare { key: key.clone(), golden: kept.volume.clone(), store: self.store.clone() };
        let is_moved = match self.volume(&spare.volume()).await {
            Some(volume) if spare.take() => match fs::rename(volume.mountpoint.join(rules.directory()), data) {
                Ok(()) => true,
                // On another file system, or being replaced right now.
                Err(error) => {
                    tracing::debug!(%error, "Cannot use a spare volume.");
                    false
                }
            },
            _ => false,
        };
        if !is_moved {
            let (from, filling, data) = (golden.mountpoint.join(rules.directory()), filling.to_owned(), data.to_owned());
            // Not synced: a server that starts on a copy of a running one's files syncs them all before it answers.
            blocking(move || {
                fs::create_dir(&filling)?;
                copy_tree_unsynced(&from, &filling)?;
                fs::rename(&filling, &data)
            })
            .await?;
        }
        files.touch();
        self.consumed.lock().expect("no code panics while it holds this lock").insert(spec.name.clone(), spare);
        tracing::info!(service = %spec.name, %key, bytes = kept.bytes, took = ?began.elapsed(), moved = is_moved, "Volume filled from a golden one.");
        Ok(true)
    }

    /// The golden volume that the service would start from.
    async fn kept(&self, spec: &ServiceSpec, project: &Path, checksums: &Checksums) -> Option<(GoldenKey, GoldenRecord)> {
        let key = self.key(spec, project, checksums).await?;
        let kept = GoldenFiles::of(&self.store, &key).read().filter(|kept| kept.complete)?;
        Some((key, kept))
    }

    /// Makes a copy after a service became ready for the first time on an empty volume, before that is published.
    /// Returns as soon as the service may be used.
    pub(crate) async fn keep(&self, spec: &ServiceSpec, instance: &Instance, cx: ProvisionContext, project: &Path, checksums: &Checksums) {
        if !self.empty.lock().expect("no code panics while it holds this lock").remove(&spec.name) {
            return;
        }
        let Some(rules) = rules(spec) else { return };
        let Some(server) = spec.provision.iter().find_map(|declared| rules.server(declared, cx.clone())) else { return };
        let (Some(key), Some(place)) = (self.key(spec, project, checksums).await, self.place(spec).await) else { return };
        let files = GoldenFiles::of(&self.store, &key);
        // Held until it is made: of two environments with the same key only one makes it.
        let Some(claim) = files.claim() else { return };
        if files.read().is_some() {
            return;
        }
        let work = GoldenBuild {
            engine: self.engine.clone(),
            operations: self.operations.clone(),
            container: instance.id.clone(),
            labels: self.labels(&place.record, spec),
            store: self.store.clone(),
            kept: GoldenRecord {
                version: 1,
                volume: self.name(&spec.name, &key),
                environment: self.environment.clone(),
                project: place.record.project.clone(),
                made_at: Timestamp::now().to_string(),
                bytes: 0,
                complete: false,
            },
            from: Source {
                volume: place.volume,
                directory: place.directory,
                image: spec.container().map(|container| container.image.name().to_owned()).unwrap_or_default(),
            },
            server,
            left_behind: rules.left_behind(),
            key,
            _claim: claim,
        };
        // Neither is part of the service's start, which may be cancelled: a paused container must always be unpaused.
        if files.was_overtaken() {
            let (goes_on, gone_on) = oneshot::channel();
            tokio::spawn(work.paused(goes_on));
            // It fails only if the work is over already.
            let _ = gone_on.await;
        } else {
            match work.server.next_writer().await {
                Ok(writer) => drop(tokio::spawn(work.behind(writer))),
                Err(error) => tracing::warn!(%error, service = %spec.name, "Cannot create a golden volume."),
            }
        }
    }

    /// Once a service is ready on its copy: makes the next spare copy.
    pub(crate) async fn replenish(&self, spec: &ServiceSpec) {
        let consumed = self.consumed.lock().expect("no code panics while it holds this lock").remove(&spec.name);
        if let (Some(spare), Some(place)) = (consumed, self.place(spec).await) {
            let (engine, labels) = (self.engine.clone(), self.labels(&place.record, spec));
            // For the next start; nobody waits for it, and if the daemon ends it is made another time.
            tokio::spawn(async move { spare.make_or_warn(engine, labels).await });
        }
    }

    /// Everything that determines the data; `None` if that cannot be known.
    async fn key(&self, spec: &ServiceSpec, project: &Path, checksums: &Checksums) -> Option<GoldenKey> {
        let container = spec.container()?;
        let image = self.engine.image(container.image.name()).await.ok()??;
        let scripts = match &spec.scripts {
            Some(set) => script::fingerprint(set, project, checksums).await.ok()?,
            None => Vec::new(),
        };
        let mut workload = container.clone();
        // What differs between environments.
        workload.ports.clear();
        let rules = rules(spec)?;
        let provision = spec.provision.iter().find_map(|declared| rules.key(declared))?;
        let text = |value: serde_json::Result<String>| value.expect("a spec serializes to JSON");
        let settings =
            [("workload".to_owned(), text(serde_json::to_string(&Workload::Container(workload)))), ("provision".to_owned(), provision)];
        Some(GoldenKey::of(GoldenInput { kind: &spec.kind, image: &image, settings: &settings, scripts: &scripts }))
    }

    /// `None` for a service with none or several.
    async fn place(&self, spec: &ServiceSpec) -> Option<Place> {
        let record = self.store.record(&self.environment).ok()??;
        let mut volumes = spec.container()?.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume(name) => record.volumes.get(&format!("{}/{name}", spec.name)),
            MountSource::Host(_) | MountSource::Memory | MountSource::Shared { .. } | MountSource::External(_) => None,
        });
        let (name, None) = (volumes.next()?.clone(), volumes.next()) else { return None };
        let directory = Some(self.volume(&name).await?.mountpoint).filter(|directory| is_ours(directory));
        Some(Place { record, volume: name, directory })
    }

    /// Different for each owner, even with equal keys.
    fn name(&self, service: &ServiceName, key: &GoldenKey) -> String {
        format!("devenv-golden-{:.8}-{service}-{key}", self.owner.as_str())
    }

    async fn volume(&self, name: &str) -> Option<ObservedVolume> {
        self.engine.volume(name).await.ok()?
    }

    fn labels(&self, record: &Record, spec: &ServiceSpec) -> Labels {
        Labels { role: Some(ROLE.to_owned()), spec: None, ..crate::reconcile::labels(&self.owner, record, Some(spec)) }
    }

    /// Names the volume on which the service was first started and has not answered yet.
    fn unanswered(&self, service: &ServiceName) -> PathBuf {
        self.store.environment(&self.environment).join(format!("unanswered-{service}"))
    }
}

/// The golden volumes of the service's kind; `None` for a kind without them.
fn rules(spec: &ServiceSpec) -> Option<&'static dyn capability::Golden> {
    devenv_kinds::find(&spec.kind).and_then(ServiceKind::golden)
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
