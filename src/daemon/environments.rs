//! Every environment of this owner: found by project and instance, made on first use, each with a task of its own.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, Status};
use tokio::{sync::broadcast, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{caretaker::DaemonCaretaker, describe, golden::Golden, hosts::Hosts, internal};
use crate::{
    engine::{Engine, OwnerId},
    event::EventLog,
    log::Logs,
    net::PortLeases,
    reconcile::{self, Effects, Handle, Observed, Progress, Setup},
    secret::Vault,
    spec::EnvironmentId,
    store::{Record, Store},
};

/// Progress that nobody reads in time is forgotten.
const PROGRESS: usize = 64;

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Environments {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) owner: OwnerId,
    pub(super) leases: Mutex<PortLeases>,
    known: Mutex<HashMap<EnvironmentId, Environment>>,
    tasks: Mutex<JoinSet<()>>,
    stop: CancellationToken,
}

/// One environment, as the server works with it.
#[derive(Clone)]
pub(crate) struct Environment {
    pub(crate) id: EnvironmentId,
    pub(crate) handle: Handle,
    pub(crate) vault: Vault,
    pub(crate) logs: Logs,
    pub(super) caretaker: Arc<DaemonCaretaker>,
    pub(crate) progress: broadcast::Sender<Progress>,
    /// Held by a command that changes the environment as a whole, so that such commands come one after another.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Environments {
    pub(crate) fn new(store: Store, engine: Arc<dyn Engine>, owner: OwnerId, stop: CancellationToken) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                engine,
                owner,
                leases: Mutex::default(),
                known: Mutex::default(),
                tasks: Mutex::default(),
                stop,
            }),
        }
    }

    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        &self.shared.engine
    }

    /// The environment, if anything is known of it.
    pub(crate) fn find(&self, target: &EnvironmentTarget) -> Option<Environment> {
        let id = EnvironmentId::of(&PathBuf::from(&target.project), &target.instance);
        self.get(&id)
    }

    pub(crate) fn get(&self, id: &EnvironmentId) -> Option<Environment> {
        self.shared.known.lock().expect("no holder of this lock panics").get(id).cloned()
    }

    /// As [`Self::find`], for commands that make no sense without one.
    pub(crate) fn require(&self, target: &EnvironmentTarget) -> Result<Environment, ApiError> {
        self.find(target).ok_or_else(|| {
            let message = format!("there is no environment `{}` of the project {}", target.instance, target.project);
            ApiError::new(ErrorCode::NotFound, message).hint("bring it up with `devenv up`; `devenv list` shows all there are")
        })
    }

    /// The environment, made now if it is new.
    pub(crate) fn ensure(&self, target: &EnvironmentTarget) -> Result<Environment, ApiError> {
        if let Some(found) = self.find(target) {
            return Ok(found);
        }
        let project = PathBuf::from(&target.project);
        let record = Record::new(EnvironmentId::of(&project, &target.instance), project, target.instance.clone());
        self.shared.store.save(&record).map_err(internal)?;
        let hosts = self.hosts(&record.id);
        self.begin(record, Observed::default(), hosts)
    }

    pub(super) fn hosts(&self, id: &EnvironmentId) -> Arc<Hosts> {
        Arc::new(Hosts::new(id.clone(), self.shared.store.environment(id).join("keepers")))
    }

    /// Starts the task of an environment.
    pub(super) fn begin(&self, record: Record, observed: Observed, hosts: Arc<Hosts>) -> Result<Environment, ApiError> {
        let shared = &self.shared;
        let mut known = shared.known.lock().expect("no holder of this lock panics");
        if let Some(found) = known.get(&record.id) {
            return Ok(found.clone());
        }
        let id = record.id.clone();
        let fail = |error: std::io::Error| ApiError::new(ErrorCode::Internal, format!("cannot read the state of {id}: {}", describe(&error)));
        let directory = shared.store.environment(&id);
        let events = EventLog::open(&id, &directory.join("events.ndjson")).map_err(fail)?;
        let vault = Vault::new(shared.store.secrets(&id));
        vault.load().map_err(fail)?;
        let logs = Logs::new(shared.store.logs(&id));
        let golden = Golden { engine: shared.engine.clone(), store: shared.store.clone(), owner: shared.owner.clone(), environment: id.clone(), empty: Mutex::default(), consumed: Mutex::default() };
        let caretaker = DaemonCaretaker::new(golden, vault.clone(), logs.clone(), crate::tls::certificate_of(&shared.store.authority()), hosts.clone(), record.project.clone());
        let caretaker = Arc::new(caretaker);
        let effects = Effects { engine: shared.engine.clone(), owner: shared.owner.clone(), vault: vault.clone(), caretaker: caretaker.clone() };
        let progress = broadcast::channel(PROGRESS).0;
        let setup = Setup { record, store: shared.store.clone(), events, effects, observed, progress: progress.clone() };
        let handle = {
            let mut tasks = shared.tasks.lock().expect("no holder of this lock panics");
            reconcile::spawn(setup, &mut tasks, shared.stop.clone())
        };
        hosts.tell(handle.clone());
        let environment = Environment { id: id.clone(), handle, vault, logs, caretaker, progress, turn: Arc::default() };
        known.insert(id, environment.clone());
        Ok(environment)
    }

    pub(crate) fn all(&self) -> Vec<Environment> {
        let mut all: Vec<Environment> = self.shared.known.lock().expect("no holder of this lock panics").values().cloned().collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    pub(crate) fn statuses(&self) -> Vec<Status> {
        self.all().iter().map(|environment| environment.handle.status()).collect()
    }

    /// Waits for the environments' tasks, once they have been told to stop.
    pub(super) async fn finish(&self) {
        let mut tasks = std::mem::take(&mut *self.shared.tasks.lock().expect("no holder of this lock panics"));
        while tasks.join_next().await.is_some() {}
    }
}

impl Environments {
    /// Lets go of an environment of which nothing is left: its state, its secrets, its ports.
    pub(super) async fn forget(&self, id: &EnvironmentId) -> Result<(), crate::store::StoreError> {
        self.shared.known.lock().expect("no holder of this lock panics").remove(id);
        self.shared.leases.lock().expect("no holder of this lock panics").release(id);
        self.shared.store.forget(id)
    }
}
