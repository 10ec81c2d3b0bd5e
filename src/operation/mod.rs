//! Operations: everything that changes an environment.
//!
//! # Theory of operation
//!
//! A handler submits a request and follows the result; it does nothing itself. [`Operations::submit`] checks the
//! request without changing anything, puts the operation on record (`operation_store`), lets it wait for its turn (`queue`), and
//! runs it in a task of the daemon's own (`run`), so it does not depend on a follower. There is one file for
//! each operation; its body gets a [`Context`], through which it records what it is about to make before it makes it, and
//! learns that it must stop.
//!
//! Whatever ends an operation early (an error, a panic, a cancellation, the end of the daemon, SIGKILL), its pending steps are
//! carried out (`owed`): by the daemon that ran it, or by the next one ([`Operations::recover`]) before it serves requests.
//!
//! Nothing here knows of connections: the server turns a [`Follower`] into an answer.

mod context;
mod owed;
mod queue;
mod recovery;
mod run;

// What several operations share.
mod copy;
pub(crate) mod ready;
mod replacement;
mod transfer;
mod volume_files;

// One file for each operation.
mod apply;
mod backup;
mod backup_restore;
mod build;
mod down;
mod export;
mod fork;
pub(crate) mod gc;
mod import;
mod lease;
mod relocate;
mod reset;
mod services;
pub(crate) mod sleep;
mod snapshot;
mod take_over;
mod test;
mod undo;
mod up;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use devenv_api::{ApiError, AskedBy, EnvironmentTarget, ErrorCode, Operation, OperationKind, OperationRequest, Submission};
use devenv_spec::EnvironmentId;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::{broadcast, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    environment::{Environment, Environments},
    error::failed,
    operation_store::{OperationStore, Record},
    reconcile::ServiceAction,
};

pub(crate) use context::Context;
pub(crate) use down::absent;
pub(crate) use lease::mark;
pub(crate) use queue::{Claim, Work};
pub(crate) use run::{Follower, NewEvent};
pub(crate) use services::names;

use queue::Queue;
use recovery::Left;
use run::Around;

/// The events of an operation that a follower may have unread; beyond these it misses some, but never the end.
const NEWS: usize = 1024;

/// Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Operations {
    shared: Arc<Shared>,
}

/// A reference that does not keep the operations in memory.
pub(crate) struct WeakOperations(Weak<Shared>);

impl WeakOperations {
    /// `None` once the daemon has ended.
    pub(crate) fn get(&self) -> Option<Operations> {
        self.0.upgrade().map(|shared| Operations { shared })
    }
}

struct Shared {
    environments: Environments,
    store: OperationStore,
    queue: Mutex<Queue>,
    /// Changes when an operation has ended: those that wait check again.
    changes: watch::Sender<u64>,
    live: Mutex<HashMap<String, Arc<Live>>>,
    tasks: TaskTracker,
}

/// An operation that has not ended.
struct Live {
    cancel: CancellationToken,
    /// Why it must stop.
    reason: Mutex<Option<Reason>>,
    news: broadcast::Sender<NewEvent>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Live {
    fn new() -> Self {
        Self {
            cancel: CancellationToken::new(),
            reason: Mutex::default(),
            news: broadcast::channel(NEWS).0,
            outcome: watch::Sender::default(),
        }
    }
}

/// Why an operation must stop.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    /// The client cancelled it.
    Asked,
    /// Another operation replaces it, as this clause says.
    Superseded(String),
    DaemonStops,
}

/// The result of an operation.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) operation: Operation,
    pub(crate) result: Result<Value, ApiError>,
    /// Follows the operation that continues it; the first follower of this one takes it.
    next: Option<Arc<Mutex<Option<Follower>>>>,
}

/// The body of an operation, which runs when it is its turn.
pub(crate) type Body = Box<dyn FnOnce(Context) -> BoxFuture<'static, Result<Value, ApiError>> + Send>;

/// An operation that has been checked and not started.
pub(crate) struct Prepared {
    pub(crate) kind: OperationKind,
    pub(crate) claims: Vec<Claim>,
    /// How long it may take, including the wait for its turn.
    pub(crate) limit: Option<Duration>,
    pub(crate) body: Body,
    /// Submitted when it has succeeded, whether or not there is a follower.
    pub(crate) then: Option<OperationRequest>,
}

impl Prepared {
    /// An operation in one environment.
    pub(crate) fn new<F>(
        kind: OperationKind,
        environment: &EnvironmentId,
        work: Work,
        body: impl FnOnce(Context) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Value, ApiError>> + Send + 'static,
    {
        Self::with_claims(kind, vec![Claim { environment: Some(environment.clone()), work }], body)
    }

    /// An operation in an existing environment. Until its turn it holds no strong reference to the environment; if that is
    /// forgotten meanwhile, it fails.
    pub(crate) fn in_environment<F>(
        kind: OperationKind,
        environment: &Environment,
        work: Work,
        body: impl FnOnce(Context, Environment) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Value, ApiError>> + Send + 'static,
    {
        let found = environment.downgrade();
        Self::new(kind, &environment.id, work, async move |context: Context| body(context, found.get()?).await)
    }

    pub(crate) fn with_claims<F>(kind: OperationKind, claims: Vec<Claim>, body: impl FnOnce(Context) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Value, ApiError>> + Send + 'static,
    {
        Self { kind, claims, limit: None, body: Box::new(|context| Box::pin(body(context))), then: None }
    }

    /// Continued by another operation.
    pub(crate) fn then(self, then: Option<OperationRequest>) -> Self {
        Self { then, ..self }
    }

    pub(crate) fn within(self, limit: Option<Duration>) -> Self {
        Self { limit, ..self }
    }
}

impl Operations {
    pub(crate) fn new(environments: Environments, store: OperationStore) -> Self {
        let shared = Shared {
            environments,
            store,
            queue: Mutex::default(),
            changes: watch::Sender::default(),
            live: Mutex::default(),
            tasks: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A reference that does not keep the operations in memory.
    pub(crate) fn downgrade(&self) -> WeakOperations {
        WeakOperations(Arc::downgrade(&self.shared))
    }

    /// How requests name this environment.
    pub(crate) fn target(&self, environment: &EnvironmentId) -> Option<EnvironmentTarget> {
        let status = self.shared.environments.get(environment)?.handle.status();
        Some(EnvironmentTarget { project: status.project, instance: status.instance })
    }

    pub(crate) fn store(&self) -> &OperationStore {
        &self.shared.store
    }

    /// Checks the request, which changes nothing, and queues it. An error is a refusal.
    pub(crate) async fn submit(&self, submission: Submission) -> Result<Follower, ApiError> {
        let prepared = self.prepare(submission.request).await?;
        self.begin(prepared, submission.asked_by).await
    }

    async fn prepare(&self, request: OperationRequest) -> Result<Prepared, ApiError> {
        let environments = &self.shared.environments;
        match request {
            OperationRequest::Up(request) => up::prepare(environments, request).await,
            OperationRequest::Down(request) => Ok(down::prepare(environments, request)),
            OperationRequest::Start(request) => services::prepare(environments, request, ServiceAction::Start),
            OperationRequest::Stop(request) => services::prepare(environments, request, ServiceAction::Stop),
            OperationRequest::Restart(request) => services::prepare(environments, request, ServiceAction::Restart),
            OperationRequest::Apply(request) => apply::prepare(environments, request),
            OperationRequest::Reset(request) => reset::prepare(environments, request).await,
            OperationRequest::SnapshotSave(request) => snapshot::save(environments, request).await,
            OperationRequest::SnapshotRestore(request) => snapshot::restore(environments, request).await,
            OperationRequest::SnapshotRemove(request) => snapshot::remove(environments, request).await,
            OperationRequest::Fork(request) => fork::prepare(environments, request).await,
            OperationRequest::Undo(target) => undo::prepare(environments, &target),
            OperationRequest::Backup(request) => backup::prepare(environments, request),
            OperationRequest::BackupRestore(request) => backup_restore::prepare(environments, request),
            OperationRequest::Import(request) => import::prepare(environments, request),
            OperationRequest::Export(request) => export::prepare(environments, request),
            OperationRequest::Build(request) => build::prepare(environments, request).await,
            OperationRequest::Gc(request) => Ok(gc::prepare(request)),
            OperationRequest::Move(request) => relocate::prepare(environments, request).await,
            OperationRequest::TakeOver(request) => take_over::prepare(environments, request).await,
            OperationRequest::Sleep(request) => sleep::sleep(environments, &request),
            OperationRequest::Wake(request) => sleep::wake(environments, &request),
        }
    }

    /// Puts it on record and queues it.
    pub(crate) async fn begin(&self, prepared: Prepared, asked_by: AskedBy) -> Result<Follower, ApiError> {
        if self.shared.tasks.is_closed() {
            return Err(ApiError::new(ErrorCode::Interrupted, "the daemon is shutting down"));
        }
        let Prepared { kind, claims, limit, body, then } = prepared;
        let environments: Vec<EnvironmentId> = claims.iter().filter_map(|claim| claim.environment.clone()).collect();
        let left = Left::of(kind, &claims);
        let used = claims.iter().filter(|claim| claim.work.uses_servers()).filter_map(|claim| claim.environment.clone()).collect();
        let record = Record::new(kind, asked_by, environments);
        let id = record.operation.id.clone();
        // The turn is checked first: most operations run at once, and are written only once for that.
        let (superseded, runs) = {
            let mut queue = self.queue();
            (queue.add(&id, kind, claims), queue.start(&id).is_ok())
        };
        let operation = match self.shared.store.begin(record, runs).await {
            Ok(operation) => operation,
            Err(error) => {
                self.leave_queue(&id);
                return Err(internal(&error));
            }
        };
        let live = Arc::new(Live::new());
        let follower = Follower::new(operation.clone(), &live);
        self.live().insert(operation.id.clone(), live.clone());
        for id in superseded {
            let by = match kind {
                OperationKind::Down => "another command stopped the environment".to_owned(),
                OperationKind::Test => "the test run that the environment belongs to has ended".to_owned(),
                other => format!("`{other}` replaces it"),
            };
            self.cancel_because(&id, Reason::Superseded(by));
        }
        let context = Context::new(self.clone(), operation, live, limit);
        self.shared.tasks.spawn(self.clone().run(context, body, Around { left, used, then }));
        Ok(follower)
    }

    /// Asks an operation to stop. It ends a little later, where that is clean.
    pub(crate) fn cancel(&self, id: &str) -> Result<Operation, ApiError> {
        let Some(operation) = self.shared.store.operation(id) else {
            return Err(ApiError::new(ErrorCode::NotFound, format!("operation `{id}` does not exist"))
                .hint("run `devenv operations` to list the operations"));
        };
        if !operation.state.has_ended() {
            self.cancel_because(id, Reason::Asked);
        }
        Ok(operation)
    }

    fn cancel_because(&self, id: &str, reason: Reason) {
        let Some(live) = self.live().get(id).cloned() else { return };
        live.reason.lock().expect("no code panics while it holds this lock").get_or_insert(reason);
        live.cancel.cancel();
    }

    /// Stops the operations under way and waits for them, at most this long. The next daemon handles the rest.
    pub(crate) async fn shut_down(&self, limit: Duration) {
        self.shared.tasks.close();
        let ids: Vec<String> = self.live().keys().cloned().collect();
        for id in ids {
            self.cancel_because(&id, Reason::DaemonStops);
        }
        if tokio::time::timeout(limit, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("Some operations did not end in time; the next daemon finishes or undoes them.");
        }
    }

    /// It has ended: operations that wait for it check again.
    fn leave_queue(&self, id: &str) {
        self.queue().remove(id);
        self.shared.changes.send_modify(|count| *count += 1);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().expect("no code panics while it holds this lock")
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Arc<Live>>> {
        self.shared.live.lock().expect("no code panics while it holds this lock")
    }
}

fn internal(error: &dyn std::error::Error) -> ApiError {
    failed(ErrorCode::Internal, error)
}
