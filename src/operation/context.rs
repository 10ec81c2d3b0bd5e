//! What an operation's body works with: it records what it is about to do, and learns when it must stop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use devenv_api::{ApiError, ErrorCode, Operation, OperationProgress};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Live, NewEvent, Operations, Reason, internal};
use crate::{
    environment::{Environment, Environments},
    operation_store::{Journal, Step},
};

/// Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Context {
    pub(super) operations: Operations,
    pub(super) operation: Operation,
    pub(super) live: Arc<Live>,
    journal: Journal,
    /// Forwards an environment's events to the followers.
    forwarders: TaskTracker,
    /// Cancelled when the operation is over.
    over: CancellationToken,
    asked: Instant,
    limit: Option<Duration>,
}

impl Context {
    pub(super) fn new(operations: Operations, operation: Operation, live: Arc<Live>, limit: Option<Duration>) -> Self {
        let journal = operations.shared.store.journal(&operation.id);
        Self {
            operations,
            operation,
            live,
            journal,
            forwarders: TaskTracker::new(),
            over: CancellationToken::new(),
            asked: Instant::now(),
            limit,
        }
    }

    /// Returns when the followers have received everything that happened.
    pub(super) async fn stop_following(&self) {
        self.over.cancel();
        self.forwarders.close();
        self.forwarders.wait().await;
    }

    pub(crate) fn environments(&self) -> &Environments {
        &self.operations.shared.environments
    }

    pub(crate) fn operations(&self) -> &Operations {
        &self.operations
    }

    pub(crate) fn id(&self) -> &str {
        &self.operation.id
    }

    /// Since the request.
    pub(crate) fn elapsed(&self) -> Duration {
        self.asked.elapsed()
    }

    /// What is left of the client's time limit; `None` without a limit.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.limit.map(|limit| limit.saturating_sub(self.elapsed()))
    }

    /// Whether another operation brings the environment up.
    pub(crate) fn comes_up_otherwise(&self, environment: &Environment) -> bool {
        self.operations.queue().comes_up_otherwise(self.id(), &environment.id)
    }

    /// Cancelled when the operation must stop.
    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.live.cancel
    }

    /// An error if the operation must stop. Call it where stopping is clean.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        if self.live.cancel.is_cancelled() { Err(self.cancelled(self.left())) } else { Ok(()) }
    }

    /// Waits for something that may be abandoned.
    pub(crate) async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, ApiError> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.live.cancel.cancelled() => Err(self.cancelled(self.left())),
        }
    }

    /// The state after stopping now: the undo steps run afterwards.
    fn left(&self) -> &'static str {
        match self.operations.shared.store.record(self.id()) {
            Some(record) if record.committed || !record.finish.is_empty() => "what was done stays",
            Some(record) if !record.undo.is_empty() => "what was done so far is undone",
            _ => "nothing was changed",
        }
    }

    /// The error of a cancelled operation, with the resulting state.
    pub(crate) fn cancelled(&self, left: &str) -> ApiError {
        let kind = self.operation.kind;
        let message = match self.reason() {
            None | Some(Reason::Asked) => format!("`{kind}` was cancelled: {left}"),
            Some(Reason::Superseded(by)) => format!("`{kind}` was stopped, because {by}: {left}"),
            Some(Reason::DaemonStops) => format!("`{kind}` was stopped, because the daemon is shutting down: {left}"),
        };
        ApiError::new(ErrorCode::Interrupted, message)
    }

    /// Whether it must stop because the daemon stops: the environment's goal stays as it is, for the next daemon.
    pub(crate) fn daemon_stops(&self) -> bool {
        self.reason() == Some(Reason::DaemonStops)
    }

    fn reason(&self) -> Option<Reason> {
        self.live.reason.lock().expect("no code panics while it holds this lock").clone()
    }

    /// Await it before the action that these steps undo.
    pub(crate) async fn owe(&self, steps: Vec<Step>) -> Result<(), ApiError> {
        self.journal.owe(steps).await.map_err(|error| internal(&error))
    }

    /// These steps have been carried out, or are not needed any more.
    pub(crate) async fn settle(&self, steps: &[Step]) -> Result<(), ApiError> {
        self.journal.settle(steps).await.map_err(|error| internal(&error))
    }

    /// The result is on record: nothing is undone from here on, and `finish` is what is left to do.
    pub(crate) async fn commit(&self, finish: Vec<Step>) -> Result<(), ApiError> {
        self.journal.commit(finish).await.map_err(|error| internal(&error))
    }

    /// Shows what it works on now.
    pub(crate) fn message(&self, message: impl Into<String>) {
        let message = message.into();
        // There may be no receiver.
        let _ = self.live.news.send(NewEvent::Progress { service: None, message: message.clone() });
        self.operations.shared.store.note(self.id(), |operation| operation.message = Some(message));
    }

    pub(crate) fn progress(&self, done: u64, total: Option<u64>, unit: &str) {
        let progress = OperationProgress { done, total, unit: unit.to_owned() };
        self.operations.shared.store.note(self.id(), |operation| operation.progress = Some(progress));
    }

    /// From now on followers get the environment's events.
    pub(crate) fn follow(&self, environment: &Environment) {
        let (mut events, mut progress) = (environment.handle.events.subscribe(), environment.progress.subscribe());
        let (news, over) = (self.live.news.clone(), self.over.clone());
        let forward = async move {
            loop {
                // Cancel-safe: receiving, and a token. Biased, so that events before the end are reported first.
                let item = tokio::select! {
                    biased;
                    event = events.recv() => match event {
                        Ok(event) => NewEvent::Event(event),
                        Err(RecvError::Lagged(_)) => continue,
                        Err(RecvError::Closed) => return,
                    },
                    step = progress.recv() => match step {
                        Ok(step) => NewEvent::Progress { service: Some(step.service.to_string()), message: step.message },
                        Err(RecvError::Lagged(_)) => continue,
                        Err(RecvError::Closed) => return,
                    },
                    () = over.cancelled() => return,
                };
                let _ = news.send(item);
            }
        };
        self.forwarders.spawn(forward);
    }
}
