//! One environment: its parts, and references to it.
//!
//! The registry owns environments. A handler or a running operation has an [`Environment`], a reference for a short time.
//! A waiting operation, or whatever lasts as long as a client wants, has a [`WeakEnvironment`]. The
//! environment's own tasks have neither: each has the parts that it needs. So a forgotten environment ends with its tasks, its
//! files and its memory, whatever still waits.

use std::{
    ops::Deref,
    path::PathBuf,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use devenv_api::{ApiError, ErrorCode, ShellVariables, Status};
use devenv_engine::Reach;
use devenv_kinds::{lease::Leases, provision::ProvisionContext};
use devenv_logs::Logs;
use devenv_secrets::Vault;
use devenv_spec::EnvironmentId;
use tokio::sync::broadcast;

use super::{
    activity::Activity,
    fronts::{self, Fronts},
    host_reach, port_forwards,
    registry::Shared,
};
use crate::{
    error::{describe, internal},
    event::EventLog,
    faults::{self, Faults},
    golden::Golden,
    reconcile::{self, CommandError, Effects, Handle, Observed, Progress, Setup},
    reload::{Reloader, Tools},
    runtime::{EnvironmentRuntime, host_processes::HostProcesses, metrics::MetricsServer, tasks::Tasks, telemetry::Telemetry},
    store::Record,
};

/// Progress that is not read in time is dropped.
const PROGRESS: usize = 64;

/// One environment, as handlers and operations work with it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Environment(Arc<Parts>);

/// A reference that does not keep the environment in memory. Cheap to clone.
#[derive(Clone)]
pub(crate) struct WeakEnvironment(Weak<Parts>);

impl Deref for Environment {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Environment {
    pub(crate) fn downgrade(&self) -> WeakEnvironment {
        WeakEnvironment(Arc::downgrade(&self.0))
    }

    /// Starts everything that runs for an environment.
    pub(super) fn compose(
        shared: &Shared,
        record: Record,
        observed: Observed,
        processes: Arc<HostProcesses>,
    ) -> Result<Environment, ApiError> {
        let id = record.id.clone();
        let (labels, agent_image) = (reconcile::labels(&shared.owner, &record, None), shared.store.agent_image());
        let fail =
            |error: std::io::Error| ApiError::new(ErrorCode::Internal, format!("cannot read the state of {id}: {}", describe(&error)));
        let directory = shared.store.environment(&id);
        let origins_file = directory.join("secret-sources.json");
        let events = EventLog::open(&id, &directory.join("events.ndjson")).map_err(fail)?;
        let vault = Vault::new(shared.store.secrets(&id));
        vault.load().map_err(fail)?;
        let logs = Logs::new(shared.store.logs(&id));
        let golden = Arc::new(Golden {
            engine: shared.engine.clone(),
            store: shared.store.clone(),
            operations: shared.operations.clone(),
            owner: shared.owner.clone(),
            environment: id.clone(),
            empty: Mutex::default(),
            consumed: Mutex::default(),
        });
        let runtime =
            EnvironmentRuntime::new(golden, vault.clone(), logs.clone(), &shared.store, processes.clone(), &record, shared.steady);
        let runtime = Arc::new(runtime);
        let tools = Arc::new(Tools {
            engine: shared.engine.clone(),
            processes: processes.clone(),
            versions: runtime.versions(),
            vault: vault.clone(),
            logs: logs.clone(),
            builds: runtime.builds(),
            project: record.project.clone(),
        });
        let offline = Arc::new(AtomicBool::new(false));
        let effects = Effects {
            engine: shared.engine.clone(),
            owner: shared.owner.clone(),
            vault: vault.clone(),
            runtime: runtime.clone(),
            offline: offline.clone(),
        };
        let progress = broadcast::channel(PROGRESS).0;
        let setup = Setup { record, store: shared.store.clone(), events, effects, observed, progress: progress.clone() };
        let tasks = Tasks::new(id.clone(), &shared.stop, shared.failures.clone());
        let (handle, task) = reconcile::begin(setup, tasks.end.clone());
        tasks.spawn("own task", task);
        processes.tell(handle.clone());
        let forwards = port_forwards::Held::default();
        let ways = port_forwards::Ways { engine: shared.engine.clone(), reach: shared.reach.clone(), labels, agent_image };
        if shared.reach == Reach::Here {
            tasks.spawn("ports of processes", host_reach::keep(handle.clone(), tasks.end.clone()));
        } else {
            tasks.spawn("port forwarding", port_forwards::keep(handle.clone(), ways.clone(), forwards.clone(), tasks.end.clone()));
        }
        let fronts = Fronts::new(shared.bell.clone(), shared.engine.clone());
        tasks.spawn("ports of services that may sleep", fronts::keep(fronts.clone(), handle.clone(), ways, tasks.end.clone()));
        let leases = Leases::new(ProvisionContext {
            vault: vault.clone(),
            authority: Some(devenv_secrets::tls::certificate_of(&shared.store.authority())),
            again: false,
        });
        let (reloader, task) = Reloader::begin(handle.clone(), tools, tasks.end.clone());
        tasks.spawn("watching of files", task);
        let metrics = Arc::new(MetricsServer {
            engine: shared.engine.clone(),
            handle: handle.clone(),
            vault: vault.clone(),
            authority: runtime.authority().to_owned(),
            state: directory,
            used: Mutex::default(),
            history: Mutex::default(),
        });
        let (telemetry, task) = Telemetry::begin(handle.clone(), tasks.end.clone());
        tasks.spawn("own traces", task);
        tasks.spawn("metrics", metrics.clone().follow(tasks.end.clone()));
        tasks.spawn("history of metrics", metrics.clone().remember(tasks.end.clone()));
        let faults = Faults::new(faults::Site {
            environment: id.clone(),
            engine: shared.engine.clone(),
            owner: shared.owner.clone(),
            handle: handle.clone(),
            vault: vault.clone(),
            authority: runtime.authority().to_owned(),
            directory: shared.store.environment(&id),
            disks: shared.store.loops(),
            agent_image: shared.store.agent_image(),
            backups: shared.backups.clone(),
            tasks: tasks.clone(),
        });
        let parts = Parts {
            handle,
            vault,
            origins_file,
            logs,
            runtime,
            reloader,
            progress,
            leases,
            metrics,
            telemetry,
            closed: AtomicBool::new(false),
            offline,
            forwards,
            fronts,
            activity: Activity::noted_in(shared.store.used(&id)),
            faults,
            tasks,
            id,
        };
        Ok(Self(Arc::new(parts)))
    }
}

impl WeakEnvironment {
    /// The environment, unless it has been forgotten.
    pub(crate) fn get(&self) -> Result<Environment, CommandError> {
        self.0.upgrade().map(Environment).ok_or(CommandError::Closing)
    }
}

/// The parts of an environment.
pub(crate) struct Parts {
    pub(crate) id: EnvironmentId,
    pub(crate) handle: Handle,
    pub(crate) vault: Vault,
    /// Where the values of the profile's secrets come from.
    pub(super) origins_file: PathBuf,
    pub(crate) logs: Logs,
    pub(crate) runtime: Arc<EnvironmentRuntime>,
    pub(crate) reloader: Reloader,
    pub(crate) progress: broadcast::Sender<Progress>,
    pub(crate) leases: Leases,
    pub(super) metrics: Arc<MetricsServer>,
    /// Hears of operations.
    pub(crate) telemetry: Telemetry,
    /// It is being removed for good, and nothing new is started in it.
    closed: AtomicBool,
    /// Forwards the ports of its services to this process's loopback.
    pub(crate) forwards: port_forwards::Held,
    pub(crate) fronts: Fronts,
    /// Pull no images.
    pub(crate) offline: Arc<AtomicBool>,
    pub(crate) activity: Activity,
    pub(crate) faults: Faults,
    pub(crate) tasks: Tasks,
}

impl Parts {
    pub(crate) fn is_open(&self) -> Result<(), CommandError> {
        if self.closed.load(Ordering::Acquire) { Err(CommandError::Closing) } else { Ok(()) }
    }

    /// Processes that are started on the host from now on inherit these variables.
    pub(crate) fn inherit(&self, variables: ShellVariables) -> Result<(), ApiError> {
        self.runtime.processes.inherited.keep(variables).map_err(internal)
    }

    /// Changes when the data that a lease copies changes.
    pub(crate) fn data_key(&self) -> String {
        self.runtime.data_key()
    }

    pub(crate) fn ask_no_registry(&self, offline: bool) {
        self.offline.store(offline, Ordering::Relaxed);
    }

    /// Ends everything that runs for it in this process; what runs in the engine keeps running.
    pub(crate) async fn end(&self) {
        self.tasks.stop().await;
        self.runtime.end();
        self.handle.events.close();
    }

    /// To be called by the operation that runs in it.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// The status with the active faults.
    pub(crate) fn status(&self) -> Status {
        Status { faults: self.faults.list(false), ..self.handle.status() }
    }

    /// Returns when nothing runs for it any more in this process: it was forgotten, or the daemon stops. Holds no reference.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.tasks.end.clone().cancelled_owned()
    }
}
