//! Every environment of this owner: found by project and instance, made on first use, each with its own task.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, Status};
use devenv_engine::{Engine, OwnerId, Reach};
use devenv_spec::EnvironmentId;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{parts::Environment, usage::VolumeSizes};
use crate::{
    backups::Backups,
    error::{absolute, internal},
    event::NewEvent,
    faults,
    net::PortReservations,
    operation_store::OperationStore,
    reconcile::{CommandError, Observed},
    runtime::{host_processes::HostProcesses, inherited::Inherited, tasks::Failed},
    store::{Record, Store},
};

/// Environments of tests that start at the same time.
fn at_once() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Environments {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) store: Store,
    /// The operations under way, and the containers that they have paused.
    pub(super) operations: OperationStore,
    pub(super) engine: Arc<dyn Engine>,
    /// Where the engine publishes ports.
    pub(super) reach: Reach,
    pub(super) owner: OwnerId,
    pub(super) leases: Mutex<PortReservations>,
    known: Mutex<HashMap<EnvironmentId, Environment>>,
    /// Reports of tasks that a bug has ended.
    pub(super) failures: mpsc::UnboundedSender<Failed>,
    /// Until somebody receives them.
    pub(super) failed: Mutex<Option<mpsc::UnboundedReceiver<Failed>>>,
    /// For faults that restore data.
    pub(super) backups: Arc<dyn faults::Backups>,
    /// The tasks that hold leases for connections.
    pub(super) holders: TaskTracker,
    /// Permits for environments of tests that start.
    pub(super) coming: Semaphore,
    pub(super) volume_sizes: VolumeSizes,
    /// How long a service without a probe must run until it is ready.
    pub(super) steady: Duration,
    /// Rung when a client needs a service that sleeps.
    pub(super) bell: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

impl Environments {
    pub(crate) fn new(
        store: Store,
        operations: OperationStore,
        engine: Arc<dyn Engine>,
        reach: Reach,
        owner: OwnerId,
        backups: Arc<dyn faults::Backups>,
        stop: CancellationToken,
    ) -> Self {
        let (failures, failed) = mpsc::unbounded_channel();
        Self {
            shared: Arc::new(Shared {
                store,
                operations,
                engine,
                reach,
                owner,
                leases: Mutex::default(),
                known: Mutex::default(),
                failures,
                failed: Mutex::new(Some(failed)),
                backups,
                holders: TaskTracker::new(),
                coming: Semaphore::new(at_once()),
                volume_sizes: VolumeSizes::default(),
                steady: crate::runtime::readiness::STEADY,
                bell: Arc::default(),
                stop,
            }),
        }
    }

    /// Sets how long a service without a probe must run until it is ready. Call it before the registry is shared.
    pub(crate) fn with_steady(mut self, steady: Duration) -> Self {
        Arc::get_mut(&mut self.shared).expect("nothing holds the environments yet").steady = steady;
        self
    }

    /// Rung when a client needs a service that sleeps.
    pub(crate) fn bell(&self) -> Arc<Notify> {
        self.shared.bell.clone()
    }

    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        &self.shared.engine
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.shared.reach
    }

    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(crate) fn secrets_of(&self, id: &EnvironmentId) -> std::path::PathBuf {
        self.shared.store.secrets(id)
    }

    /// Returns when the daemon is to end.
    pub(crate) async fn stopped(&self) {
        self.shared.stop.cancelled().await;
    }

    /// A permit to start an environment for a test, held until it is up: as many at a time as the machine has
    /// processors, because more would delay each other until none is ready in time. Other environments need none.
    pub(crate) async fn place_to_come_up(&self, environment: &Environment) -> Result<Option<SemaphorePermit<'_>>, CommandError> {
        if !environment.handle.record().await?.ephemeral {
            return Ok(None);
        }
        let places = &self.shared.coming;
        if let Ok(place) = places.try_acquire() {
            return Ok(Some(place));
        }
        let message = format!("waiting: {} other test environments are starting", at_once());
        environment.handle.events.emit(NewEvent::new("environment.waiting", message));
        // Never closed.
        Ok(places.acquire().await.ok())
    }

    pub(crate) fn owner(&self) -> &OwnerId {
        &self.shared.owner
    }

    /// The environment, if anything is known of it.
    pub(crate) fn find(&self, target: &EnvironmentTarget) -> Option<Environment> {
        let is_of = |environment: &Environment| environment.handle.is_of(target);
        // One that was made under another id, or in another directory, keeps its id.
        self.get(&self.usual_id(target, "")).filter(is_of).or_else(|| self.all().into_iter().find(is_of))
    }

    /// The id that a new environment gets. An environment that has moved to another directory keeps the id of the former one.
    pub(crate) fn id_of(&self, target: &EnvironmentTarget) -> EnvironmentId {
        let is_free = |id: &EnvironmentId| self.get(id).is_none_or(|environment| environment.handle.is_of(target));
        let mut ids = std::iter::once(String::new()).chain((2..).map(|number| format!("/{number}")));
        ids.find_map(|suffix| Some(self.usual_id(target, &suffix)).filter(is_free)).expect("the numbers do not end")
    }

    fn usual_id(&self, target: &EnvironmentTarget, suffix: &str) -> EnvironmentId {
        let owner = format!("{}{suffix}", self.shared.owner.as_str());
        EnvironmentId::of(&owner, Path::new(&target.project), &target.instance)
    }

    pub(crate) fn get(&self, id: &EnvironmentId) -> Option<Environment> {
        self.shared.known.lock().expect("no code panics while it holds this lock").get(id).cloned()
    }

    /// As [`Self::find`], for commands that need an environment.
    pub(crate) fn require(&self, target: &EnvironmentTarget) -> Result<Environment, ApiError> {
        self.find(target).ok_or_else(|| {
            let message = format!("environment `{}` of the project {} does not exist", target.instance, target.project);
            ApiError::new(ErrorCode::NotFound, message).hint("run `devenv up` to create it, or `devenv list` to list all environments")
        })
    }

    /// The environment, created if it does not exist.
    pub(crate) fn ensure(&self, target: &EnvironmentTarget) -> Result<Environment, ApiError> {
        if let Some(found) = self.find(target) {
            return Ok(found);
        }
        self.make(self.new_record(target))
    }

    /// Creates an environment that is removed when its client disconnects.
    pub(crate) fn make_ephemeral(&self, target: &EnvironmentTarget) -> Result<Environment, ApiError> {
        let mut record = self.new_record(target);
        record.ephemeral = true;
        self.make(record)
    }

    /// As [`Self::ensure`]; an environment that is created now is removed when it has been unused for a while.
    pub(crate) fn ensure_warm(&self, target: &EnvironmentTarget) -> Result<Environment, ApiError> {
        if let Some(found) = self.find(target) {
            return Ok(found);
        }
        let mut record = self.new_record(target);
        record.warm = true;
        self.make(record)
    }

    pub(crate) fn new_record(&self, target: &EnvironmentTarget) -> Record {
        Record::new(self.id_of(target), target.project.clone().into(), target.instance.clone())
    }

    fn make(&self, record: Record) -> Result<Environment, ApiError> {
        absolute("`project`", &record.project.to_string_lossy())?;
        let mut known = self.shared.known.lock().expect("no code panics while it holds this lock");
        if let Some(found) = known.get(&record.id) {
            return Ok(found.clone());
        }
        // Under the lock: of two callers the second must not overwrite what the first one's task has recorded since.
        self.shared.store.save(&record).map_err(internal)?;
        let processes = self.processes(&record.id);
        self.start(&mut known, record, Observed::default(), processes)
    }

    /// Runs a task of a connection; the daemon waits for its end.
    pub(crate) fn look_after(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.shared.holders.spawn(work);
    }

    pub(crate) fn processes(&self, id: &EnvironmentId) -> Arc<HostProcesses> {
        let directory = self.shared.store.environment(id);
        let inherited = Inherited::open(directory.join("inherited.json"));
        Arc::new(HostProcesses::new(self.shared.owner.as_str(), id.as_str(), directory.join("keepers"), inherited))
    }

    /// Starts the tasks of an environment, in place of those that have ended.
    pub(crate) fn begin(&self, record: Record, observed: Observed, processes: Arc<HostProcesses>) -> Result<Environment, ApiError> {
        let mut known = self.shared.known.lock().expect("no code panics while it holds this lock");
        self.start(&mut known, record, observed, processes)
    }

    fn start(
        &self,
        known: &mut HashMap<EnvironmentId, Environment>,
        record: Record,
        observed: Observed,
        processes: Arc<HostProcesses>,
    ) -> Result<Environment, ApiError> {
        let environment = Environment::compose(&self.shared, record, observed, processes)?;
        known.insert(environment.id.clone(), environment.clone());
        Ok(environment)
    }

    pub(crate) fn all(&self) -> Vec<Environment> {
        let mut all: Vec<Environment> =
            self.shared.known.lock().expect("no code panics while it holds this lock").values().cloned().collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    pub(crate) fn statuses(&self) -> Vec<Status> {
        let subnet = |environment: &Environment| environment.handle.view().subnet.map(|subnet| subnet.to_string());
        self.all().iter().map(|environment| Status { subnet: subnet(environment), ..environment.status() }).collect()
    }

    /// Waits for the environments' tasks after they were told to stop.
    pub(crate) async fn finish(&self) {
        for environment in self.all() {
            environment.tasks.wait().await;
        }
        self.shared.holders.close();
        self.shared.holders.wait().await;
    }
}

impl Environments {
    /// Whether a record names this volume, so that it has an owner.
    pub(crate) async fn names_volume(&self, name: &str) -> bool {
        for environment in self.all() {
            let record = match environment.handle.record().await {
                Ok(record) => Some(record),
                // A task that has ended has written its record to the disk.
                Err(_) => self.shared.store.record(&environment.id).ok().flatten(),
            };
            if record.is_some_and(|record| record.all_volumes().any(|volume| volume == name)) {
                return true;
            }
        }
        false
    }

    /// Forgets an environment that was made for an operation that did not happen, unless it owns anything by now.
    pub(crate) async fn forget_if_empty(&self, id: &EnvironmentId) -> Result<(), crate::store::StoreError> {
        let Some(environment) = self.get(id) else { return Ok(()) };
        let Ok(record) = environment.handle.record().await else { return Ok(()) };
        let is_absent = environment.handle.status().phase == devenv_api::Phase::Absent && record.goal != crate::store::Goal::Up;
        if is_absent && record.all_volumes().next().is_none() && Backups::of(&self.shared.store, id).is_empty() {
            self.forget(id).await?;
        }
        Ok(())
    }

    /// Forgets an environment without resources: its state, secrets and ports. Call it in an operation that has exclusive
    /// access to the environment. Its tasks end before its files are removed, so none of them writes one again.
    pub(crate) async fn forget(&self, id: &EnvironmentId) -> Result<(), crate::store::StoreError> {
        let found = self.get(id);
        if let Some(environment) = &found {
            environment.close();
            environment.end().await;
        }
        self.shared.known.lock().expect("no code panics while it holds this lock").remove(id);
        self.shared.leases.lock().expect("no code panics while it holds this lock").release(id);
        let (store, id) = (self.shared.store.clone(), id.clone());
        let removed = tokio::task::spawn_blocking(move || store.forget(&id)).await;
        removed.unwrap_or_else(|_| Err(crate::store::StoreError::interrupted(std::path::Path::new("the environment's directory"))))
    }
}
