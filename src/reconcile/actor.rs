//! The task: takes one input at a time, changes the state, and starts what the plan says.
//!
//! Commands are handled in `commands` and `volumes`, observations in `observe`, starts of operations in `operate`, and their
//! ends in `ended`, `ready`, `sleep` and `reload`.

mod commands;
mod ended;
mod observe;
mod operate;
mod ready;
mod reload;
mod sleep;
mod volumes;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};

use devenv_spec::ServiceName;
use futures_util::FutureExt;
use ipnet::Ipv4Net;
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    execute::{Effects, NotStarted, Observed, OperationError, Progress, ReadinessUpdate},
    failure::Evidence,
    handle::{Command, Handle},
    plan,
    state::{Instance, State},
    swap::Swapped,
    view::View,
};
use crate::{
    event::{EventLog, NewEvent},
    store::{Record, Store, StoreError},
};

/// A service that has been ready for this long has proven itself: a later failure counts as a first attempt again.
const PROVEN: Duration = Duration::from_secs(10);
const COMMANDS: usize = 256;
/// Ends of operations that are handled together: with hundreds of services, a view for each would take longer than the operations.
const TOGETHER: usize = 64;

/// The inputs of an environment's task.
pub(crate) struct Setup {
    pub(crate) record: Record,
    pub(crate) store: Store,
    pub(crate) events: EventLog,
    pub(crate) effects: Effects,
    /// What the engine already has of it.
    pub(crate) observed: Observed,
    pub(crate) progress: broadcast::Sender<Progress>,
}

/// The handle of the task, and the task, which its owner runs and awaits. If it panics, the view says so first, so that
/// clients that wait do not wait for ever.
pub(crate) fn begin(setup: Setup, stop: CancellationToken) -> (Handle, impl Future<Output = ()> + Send + 'static) {
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let state = State::new(setup.record.goal);
    let (view, watched) = watch::channel(View::of(0, &state, &setup.record));
    let last = view.clone();
    let events = setup.events.clone();
    let (news, heard) = mpsc::unbounded_channel();
    let mut actor = Actor {
        state,
        record: setup.record,
        store: setup.store,
        events: setup.events,
        effects: setup.effects,
        progress: setup.progress,
        inbox,
        operations: JoinSet::new(),
        cancels: HashMap::new(),
        watchers: HashMap::new(),
        news,
        heard,
        view,
        revision: 0,
        unsaved: false,
    };
    // Before anybody can ask: the first view shows what was adopted.
    actor.begin(setup.observed);
    actor.publish();
    let task = async move {
        if let Err(panic) = AssertUnwindSafe(actor.run(stop)).catch_unwind().await {
            last.send_modify(View::fail);
            drop(last);
            resume_unwind(panic);
        }
    };
    (Handle { commands, view: watched, events }, task)
}

struct Actor {
    state: State,
    record: Record,
    store: Store,
    events: EventLog,
    effects: Effects,
    progress: broadcast::Sender<Progress>,
    inbox: mpsc::Receiver<Command>,
    /// Operations in progress, at most one per service, and the watchers of ready services.
    operations: JoinSet<Outcome>,
    cancels: HashMap<ServiceName, CancellationToken>,
    watchers: HashMap<ServiceName, AbortHandle>,
    /// Unbounded: a readiness check sends only a few messages.
    news: mpsc::UnboundedSender<(ServiceName, ReadinessUpdate, Instant)>,
    heard: mpsc::UnboundedReceiver<(ServiceName, ReadinessUpdate, Instant)>,
    view: watch::Sender<View>,
    revision: u64,
    /// The record differs from the file on disk, in something that may be lost.
    unsaved: bool,
}

/// How an operation ended.
enum Outcome {
    Network(Result<(String, Ipv4Net), OperationError>),
    NetworkGone(Result<Vec<String>, OperationError>),
    Image(ServiceName, Result<bool, OperationError>),
    Created(ServiceName, Result<Instance, OperationError>),
    Started(ServiceName, Result<Instance, NotStarted>),
    /// `None`: it was cancelled.
    Settled(ServiceName, Option<Result<String, Evidence>>),
    Stopped(ServiceName, Result<(), OperationError>),
    Frozen(ServiceName, Result<(), OperationError>),
    Thawed(ServiceName, Result<(), OperationError>),
    Removed(ServiceName, Result<(), OperationError>),
    /// `None`: it still runs.
    Examined(ServiceName, Option<Evidence>),
    Swapped(ServiceName, Swapped),
    /// A ready service has stopped answering.
    Unhealthy(ServiceName, String),
    /// An operation for the service (or the network) ended by a bug, with this message.
    Panicked(Option<ServiceName>, String),
    /// It answers again, as a probe has observed.
    EngineBack(Observed),
    Signalled,
}

impl Outcome {
    /// The service whose operation this outcome ends.
    fn operated(&self) -> Option<&ServiceName> {
        match self {
            Self::Image(name, _)
            | Self::Created(name, _)
            | Self::Started(name, _)
            | Self::Settled(name, _)
            | Self::Stopped(name, _)
            | Self::Frozen(name, _)
            | Self::Thawed(name, _)
            | Self::Removed(name, _)
            | Self::Examined(name, _)
            | Self::Swapped(name, _) => Some(name),
            Self::Panicked(name, _) => name.as_ref(),
            Self::Network(_) | Self::NetworkGone(_) | Self::Unhealthy(..) | Self::EngineBack(_) | Self::Signalled => None,
        }
    }
}

enum Input {
    Command(Command),
    Ended(Outcome),
    NewEvent(ServiceName, ReadinessUpdate, Instant),
    Due,
    Stop,
    /// There is no sender any more: the environment was forgotten, with its record.
    Forgotten,
}

impl Actor {
    /// Starts something about the service, or about the network. However it ends, its outcome arrives.
    fn start(&mut self, service: Option<&ServiceName>, work: impl Future<Output = Outcome> + Send + 'static) -> AbortHandle {
        let service = service.cloned();
        self.operations.spawn(async move {
            AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
                Outcome::Panicked(service, text.unwrap_or("it panicked").to_owned())
            })
        })
    }

    async fn run(mut self, stop: CancellationToken) {
        loop {
            // One time for both: what is not due yet must set a timer.
            let now = Instant::now().into_std();
            self.proceed(now);
            self.publish();
            let wake = plan::next_wake(&self.state, now).map(Instant::from_std);
            let input = loop {
                // Each branch is cancel-safe: receiving from a channel, joining a set, a timer, a token.
                break tokio::select! {
                    () = stop.cancelled() => Input::Stop,
                    command = self.inbox.recv() => match command {
                        // Nothing has changed. A request that follows a view must not trigger another view.
                        Some(command) if command.only_asks() => {
                            self.command(command);
                            continue;
                        }
                        command => command.map_or(Input::Forgotten, Input::Command),
                    },
                    Some(ended) = self.operations.join_next() => match ended {
                        Ok(outcome) => Input::Ended(outcome),
                        // An aborted watcher; the runtime has logged a panic.
                        Err(_) => continue,
                    },
                    Some((service, readiness, at)) = self.heard.recv() => match readiness {
                        // As above: only how long it took has become known.
                        ReadinessUpdate::Provisioned | ReadinessUpdate::Scripted => {
                            self.heard(&service, readiness, at);
                            continue;
                        }
                        readiness => Input::NewEvent(service, readiness, at),
                    },
                    () = async { tokio::time::sleep_until(wake.expect("guarded")).await }, if wake.is_some() => Input::Due,
                };
            };
            match input {
                Input::Command(command) => self.command(command),
                Input::Ended(outcome) => {
                    self.ended(outcome);
                    // Each is of another service, because none gets its next one before the plan is asked again.
                    for _ in 1..TOGETHER {
                        match self.operations.try_join_next() {
                            Some(Ok(outcome)) => self.ended(outcome),
                            // As above.
                            Some(Err(_)) => {}
                            None => break,
                        }
                    }
                }
                Input::NewEvent(service, readiness, at) => self.heard(&service, readiness, at),
                Input::Due => {}
                // Environments continue to run without a daemon; the next one adopts them.
                Input::Stop => {
                    self.save_quietly();
                    break;
                }
                Input::Forgotten => break,
            }
        }
        self.operations.shutdown().await;
    }

    fn publish(&mut self) {
        self.revision += 1;
        if self.unsaved {
            self.save_quietly();
        }
        self.view.send_replace(View::of(self.revision, &self.state, &self.record));
    }

    fn save(&mut self) -> Result<(), StoreError> {
        self.unsaved = false;
        self.store.save(&self.record)
    }

    /// For what may be lost without harm.
    fn save_quietly(&mut self) {
        if let Err(error) = self.save() {
            tracing::error!(%error, environment = %self.record.id, "Cannot save the environment's record.");
        }
    }

    fn emit(&mut self, name: &ServiceName, kind: &'static str, message: String) -> u64 {
        self.emit_with(name, NewEvent::of(name, kind, message))
    }

    /// Publishes it as the consequence of the service's previous event.
    fn emit_with(&mut self, name: &ServiceName, news: NewEvent) -> u64 {
        let service = self.state.services.get_mut(name);
        let sequence = self.events.emit(news.because(service.as_ref().and_then(|service| service.cause)));
        if let Some(service) = service {
            service.cause = Some(sequence);
        }
        sequence
    }
}
