//! Runs one operation from its turn to its end, and serves its followers.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
};

use devenv_api::{ApiError, AskedBy, ErrorCode, Event, Operation, OperationMessage, OperationRequest, OperationState, Submission};
use devenv_spec::EnvironmentId;
use futures_util::{FutureExt, Stream, future::BoxFuture, stream};
use serde_json::Value;
use tokio::sync::{
    broadcast::{self, error::RecvError, error::TryRecvError},
    watch,
};

use super::{Body, Context, Live, Operations, Outcome, internal, recovery::Left};

/// An event of a running operation.
#[derive(Debug, Clone)]
pub(crate) enum NewEvent {
    Event(Event),
    Progress { service: Option<String>, message: String },
}

/// What comes before and after the body of an operation.
pub(super) struct Around {
    pub(super) left: Left,
    /// The environments whose servers it uses.
    pub(super) used: Vec<EnvironmentId>,
    pub(super) then: Option<OperationRequest>,
}

impl Operations {
    pub(super) async fn run(self, context: Context, body: Body, around: Around) {
        let Around { left, used, then } = around;
        let id = context.id().to_owned();
        let begun = async {
            self.wait_for_turn(&context).await?;
            self.trace(&Operation { state: OperationState::Running, ..context.operation.clone() });
            self.wake_used(&context, &used).await?;
            let paid = AssertUnwindSafe(self.pay_before(&left)).catch_unwind();
            paid.await.unwrap_or_else(|panic| Err(panicked(&context.operation, panic.as_ref())))
        };
        let result = match begun.await {
            Ok(()) => {
                let work = AssertUnwindSafe(body(context.clone())).catch_unwind();
                work.await.unwrap_or_else(|panic| Err(panicked(&context.operation, panic.as_ref())))
            }
            Err(error) => Err(error),
        };
        self.pay_after(&left, result.is_ok()).await;
        let (state, message, result) = self.settle(&context, result).await;
        context.stop_following().await;
        let ended = self.shared.store.end(&id, state, message).await;
        self.leave_queue(&id);
        self.live().remove(&id);
        let operation = ended.unwrap_or_else(|| Operation { state, ..context.operation.clone() });
        self.trace(&operation);
        let next = match (&result, then) {
            (Ok(_), Some(request)) => Some(self.continue_with(request, operation.asked_by.clone()).await),
            _ => None,
        };
        let (result, next) = match next {
            None => (result, None),
            Some(Ok(follower)) => (result, Some(Arc::new(Mutex::new(Some(follower))))),
            Some(Err(error)) => {
                let message = format!("`{}` is complete, and what follows it was refused: {}", operation.kind, error.message);
                (Err(ApiError { message, ..error }), None)
            }
        };
        context.live.outcome.send_replace(Some(Outcome { operation, result, next }));
    }

    /// For the tracing service of its environment. An environment that it creates hears only of its end.
    fn trace(&self, operation: &Operation) {
        let id = operation.environment.as_deref().map(EnvironmentId::recorded);
        if let Some(environment) = id.and_then(|id| self.shared.environments.get(&id)) {
            environment.telemetry.operation(operation);
        }
    }

    /// What the operation works with may sleep.
    async fn wake_used(&self, context: &Context, used: &[EnvironmentId]) -> Result<(), ApiError> {
        for environment in used.iter().filter_map(|id| self.shared.environments.get(id)) {
            let why = format!("`{}` uses it", context.operation.kind);
            context.unless_cancelled(environment.awake(&[], &why)).await??;
        }
        Ok(())
    }

    /// Boxed, because an operation that is submitted is run.
    fn continue_with(&self, request: OperationRequest, asked_by: AskedBy) -> BoxFuture<'_, Result<Follower, ApiError>> {
        Box::pin(self.submit(Submission { request, asked_by }))
    }

    /// Returns when no earlier operation conflicts with it any more.
    async fn wait_for_turn(&self, context: &Context) -> Result<(), ApiError> {
        if context.operation.state == OperationState::Running {
            return Ok(());
        }
        let mut changes = self.shared.changes.subscribe();
        let mut shown = Vec::new();
        loop {
            changes.borrow_and_update();
            context.check()?;
            let started = self.queue().start(context.id());
            let blocking = match started {
                Ok(()) => break,
                Err(blocking) => blocking,
            };
            let names: Vec<String> = blocking.iter().map(|(id, kind)| format!("`{kind}` ({id})")).collect();
            if blocking != shown {
                context.message(format!("waiting for {}", names.join(", ")));
                shown = blocking;
            }
            // Cancel-safe: a change that is missed is seen by the next look.
            let changed = context.unless_cancelled(changes.changed());
            match context.time_left() {
                None => drop(changed.await?),
                Some(left) => match tokio::time::timeout(left, changed).await {
                    Ok(changed) => drop(changed?),
                    Err(_) => {
                        let message = format!("the time limit expired while it waited for {}", names.join(", "));
                        return Err(ApiError::new(ErrorCode::TimedOut, message).hint("run `devenv operations` to see what is in progress"));
                    }
                },
            }
        }
        self.shared.store.run(context.id()).await.map_err(|error| internal(&error))
    }

    /// Carries out its pending steps, and returns how it ended.
    async fn settle(
        &self,
        context: &Context,
        result: Result<Value, ApiError>,
    ) -> (OperationState, Option<String>, Result<Value, ApiError>) {
        let owed = self.pay(context.id()).await;
        match (result, owed) {
            (Ok(value), Ok(())) => (OperationState::Succeeded, None, Ok(value)),
            // The request is fulfilled; steps that could not be finished stay on record.
            (Ok(value), Err(reason)) => {
                tracing::error!(reason, operation = context.id(), "Cannot finish the remaining steps of an operation.");
                (OperationState::Succeeded, Some(reason), Ok(value))
            }
            (Err(mut error), owed) => {
                let is_cancelled = error.code == ErrorCode::Interrupted && context.cancel().is_cancelled();
                if let Err(reason) = owed {
                    error.message = format!("{}; the steps so far cannot be undone: {reason}", error.message);
                    error.hint.get_or_insert_with(|| "the next daemon tries again: run `devenv daemon stop`, then any command".to_owned());
                }
                let state = if is_cancelled { OperationState::Cancelled } else { OperationState::Failed };
                (state, Some(error.message.clone()), Err(error))
            }
        }
    }
}

/// Follows one operation from its submission to its end; if another one continues it, to the end of that one.
#[derive(Debug)]
pub(crate) struct Follower {
    operation: Operation,
    news: broadcast::Receiver<NewEvent>,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Follower {
    pub(super) fn new(operation: Operation, live: &Live) -> Self {
        Self { operation, news: live.news.subscribe(), outcome: live.outcome.subscribe() }
    }

    /// Waits for its end.
    pub(crate) async fn result(mut self) -> Result<Value, ApiError> {
        loop {
            let outcome = self.outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
            let Some(outcome) = outcome else { return Err(ApiError::new(ErrorCode::Internal, "the operation was lost")) };
            match outcome.next() {
                Some(next) => self = next,
                None => return outcome.result,
            }
        }
    }

    /// All events, then the end. Dropping it changes nothing for the operation.
    pub(crate) fn messages(self) -> impl Stream<Item = OperationMessage> + Send + 'static {
        enum Next {
            Begin(Follower),
            Working(Follower),
            Over,
        }
        stream::unfold(Next::Begin(self), |state| async move {
            match state {
                Next::Begin(follower) => Some((OperationMessage::Accepted(follower.operation.clone()), Next::Working(follower))),
                Next::Working(mut follower) => {
                    let message = follower.next().await;
                    let is_last = matches!(message, OperationMessage::Done { .. } | OperationMessage::Failed { .. });
                    Some((message, if is_last { Next::Over } else { Next::Working(follower) }))
                }
                Next::Over => None,
            }
        })
    }

    async fn next(&mut self) -> OperationMessage {
        loop {
            // Cancel-safe: receiving, and waiting for a value. Biased, so that the end comes last.
            tokio::select! {
                biased;
                news = self.news.recv() => match news {
                    Ok(news) => return news.into(),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                },
                _ = self.outcome.wait_for(Option::is_some) => break,
            }
        }
        loop {
            match self.news.try_recv() {
                Ok(news) => return news.into(),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        // The sender is kept until the outcome is known.
        let outcome = self.outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        if let Some(next) = outcome.as_ref().and_then(Outcome::next) {
            *self = next;
            return OperationMessage::Accepted(self.operation.clone());
        }
        match outcome {
            Some(Outcome { operation, result: Ok(result), .. }) => OperationMessage::Done { operation, result },
            Some(Outcome { operation, result: Err(error), .. }) => OperationMessage::Failed { operation: Some(operation), error },
            None => OperationMessage::Failed { operation: None, error: ApiError::new(ErrorCode::Internal, "the operation was lost") },
        }
    }
}

impl Outcome {
    /// Taken by the first caller.
    fn next(&self) -> Option<Follower> {
        self.next.as_ref()?.lock().expect("no code panics while it holds this lock").take()
    }
}

impl From<NewEvent> for OperationMessage {
    fn from(news: NewEvent) -> Self {
        match news {
            NewEvent::Event(event) => Self::Event(event),
            NewEvent::Progress { service, message } => Self::Progress { service, message },
        }
    }
}

fn panicked(operation: &Operation, panic: &(dyn Any + Send)) -> ApiError {
    let said =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
    tracing::error!(operation = %operation.id, said, "An operation panicked.");
    ApiError::new(ErrorCode::Internal, format!("`{}` failed because of a bug in devenv: {said}", operation.kind))
        .hint("please report this, with `daemon.log` of the state directory")
}
