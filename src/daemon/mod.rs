//! The daemon: composition root. It takes the lock, finds the engine, adopts what runs, serves the socket, and waits.
//!
//! # Theory of operation
//!
//! One daemon runs for each runtime directory, started on demand by the first command that needs it. It owns one task for
//! each environment (`reconcile`), one that follows the engine's events and passes them to those tasks, and the server on
//! the unix socket. Environments outlive it: when it stops or is killed, everything keeps running, and the next daemon
//! adopts it by its labels and its records.

mod engine_events;
mod engine_selection;
mod fault_backups;
mod lock;
mod recovery;
mod sleeper;
mod socket;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use devenv_api::{Announcement, ApiError, ErrorCode};
use devenv_engine::{Engine, docker};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use crate::runtime::readiness::STEADY;
use crate::{
    environment::Environments,
    error::{describe, internal, no_engine},
    operation::{Operations, gc},
    operation_store::OperationStore,
    paths::{MEMORY_BUDGET, Paths},
    runtime::tasks::said,
    server::{self, Daemon},
    store::Store,
};
use fault_backups::FaultBackups;
use lock::{lock, lock_state};
use socket::Socket;

/// The inputs of a daemon.
pub(crate) struct Options {
    pub(crate) paths: Paths,
    /// `--context`.
    pub(crate) context: Option<String>,
    /// The engine to drive. `None`: the one that `context` and the environment variables name.
    pub(crate) engine: Option<Arc<dyn Engine>>,
    /// How long a service without a probe must run until it is ready.
    pub(crate) steady: Duration,
}

/// Runs until stopped. `announce` is called once, when the socket accepts connections or the start has failed.
pub(crate) async fn run(options: Options, announce: impl FnOnce(Announcement)) -> Result<(), ApiError> {
    let begun = async {
        let paths = options.paths;
        paths.create().map_err(|error| ApiError::new(ErrorCode::Internal, describe(&error)))?;
        let Some(runtime_lock) = lock(&paths.lock())? else { return Ok(None) };
        let Some(state_lock) = lock_state(&paths)? else { return Ok(None) };
        let budget = sleeper::budget(std::env::var(MEMORY_BUDGET).ok())?;
        let store = Store::open(&paths.state).map_err(internal)?;
        store.remove_unfinished().map_err(internal)?;
        let owner = store.owner().map_err(internal)?;
        let selection = docker::Selection::read(options.context, |name| std::env::var(name).ok());
        let engine = match options.engine {
            Some(engine) => engine,
            None => docker::connect(&selection).await.map_err(|error| no_engine(&error))?,
        };
        let info = engine.info().await.map_err(|error| no_engine(&error))?;
        // Operations end first, and then the environments' tasks, through which they work.
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        let backups = Arc::new(FaultBackups::default());
        let under_way = OperationStore::open(&paths.state);
        let reach = engine.reach().await;
        let environments = Environments::new(store, under_way.clone(), engine.clone(), reach, owner, backups.clone(), end.clone())
            .with_steady(options.steady);
        let operations = Operations::new(environments.clone(), under_way);
        backups.submit_to(&operations);
        operations.unpause_left().await;
        recovery::adopt(&environments).await?;
        operations.recover().await;
        operations.end_left_leases().await;
        recovery::prove(&environments).await;
        let refuse_engine = engine_selection::check(selection, info.endpoint.clone());
        let daemon = Daemon { environments, operations, paths, refuse_engine, engine: info, started: Instant::now(), stop };
        let socket = Socket::bind(daemon.paths.clone(), runtime_lock)?;
        Ok::<_, ApiError>(Some((daemon, socket, budget, end, state_lock)))
    };
    let (daemon, socket, budget, end, _state_lock) = match begun.await {
        Ok(Some(begun)) => begun,
        Ok(None) => {
            announce(Announcement::Running);
            return Ok(());
        }
        Err(error) => {
            announce(Announcement::Error(error.clone()));
            return Err(error);
        }
    };
    announce(Announcement::Ready);
    tracing::info!(engine = %daemon.engine.endpoint, version = %daemon.engine.version, socket = %daemon.paths.socket().display(), "Daemon \
        is ready.");
    serve(daemon, socket, budget, end).await
}

/// How long operations may take to stop cleanly when the daemon stops.
const OPERATIONS_END: Duration = Duration::from_secs(3);
/// For the daemon's and the environments' tasks after that.
const TASKS_END: Duration = Duration::from_secs(5);

/// An error if the daemon ends because one of its own tasks has.
async fn serve(daemon: Daemon, listener: Socket, budget: Option<u64>, end: CancellationToken) -> Result<(), ApiError> {
    let stop = daemon.stop.clone();
    let socket = daemon.paths.socket();
    let (environments, operations) = (daemon.environments.clone(), daemon.operations.clone());
    let mut tasks = Watched::default();
    tasks.spawn("that follows the engine's events", engine_events::follow_engine(environments.clone(), stop.clone()));
    tasks.spawn("that collects garbage", gc::sweep_regularly(operations.clone(), stop.clone()));
    tasks.spawn("that wakes services", sleeper::look_after_sleep(environments.clone(), operations.clone(), budget, stop.clone()));
    tasks.spawn("that restarts environments", environments.clone().restart_failed(stop.clone()));
    tasks.spawn("that serves the socket", server::serve(daemon, listener, stop.clone()));
    // Each branch is cancel-safe: a token, signals, joining a set.
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        () = ended_by_signal() => Ok(()),
        died = tasks.died(&stop) => {
            tracing::error!(reason = died.message, "The daemon stops.");
            Err(died)
        }
    };
    stop.cancel();
    // Remove the socket first: clients that connect from now on start the next daemon.
    if let Err(error) = std::fs::remove_file(&socket) {
        tracing::debug!(%error, "The socket file no longer exists.");
    }
    operations.shut_down(OPERATIONS_END).await;
    end.cancel();
    let ending = async {
        tasks.finish().await;
        environments.finish().await;
    };
    if tokio::time::timeout(TASKS_END, ending).await.is_err() {
        tracing::warn!("Some tasks did not stop in time.");
    }
    outcome
}

/// The daemon's own tasks. None of them ends before the daemon does, except by a bug.
#[derive(Default)]
struct Watched {
    tasks: JoinSet<()>,
    names: HashMap<tokio::task::Id, &'static str>,
}

impl Watched {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Returns when a task has ended that was not told to. Cancel-safe.
    async fn died(&mut self, stop: &CancellationToken) -> ApiError {
        let (id, how) = match self.tasks.join_next_with_id().await {
            // A task that was told to stop has not failed; the caller handles its end.
            _ if stop.is_cancelled() => return std::future::pending().await,
            Some(Ok((id, ()))) => (id, "it ended".to_owned()),
            Some(Err(error)) => {
                let id = error.id();
                (id, error.try_into_panic().map_or_else(|error| error.to_string(), |panic| said(panic.as_ref())))
            }
            None => return std::future::pending().await,
        };
        let name = self.names.get(&id).copied().unwrap_or("of the daemon");
        ApiError::new(ErrorCode::Internal, format!("the task {name} ended, which is a bug in devenv: {how}"))
    }

    async fn finish(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn ended_by_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // Without handlers the signals end the process by themselves, which is safe too.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_of_the_daemon_that_dies_is_named_with_its_reason() {
        let stop = CancellationToken::new();
        let mut tasks = Watched::default();
        tasks.spawn("that lives", std::future::pending());
        tasks.spawn("that collects garbage", async { panic!("no such list") });
        let died = tasks.died(&stop).await;
        assert_eq!(died.message, "the task that collects garbage ended, which is a bug in devenv: no such list");
    }
}
