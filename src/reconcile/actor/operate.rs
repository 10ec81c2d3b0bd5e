//! Starts what the plan says: each operation is a future, whose end comes back as an [`Outcome`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use devenv_api::StartPhase;
use devenv_spec::ServiceName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Actor, Outcome};
use crate::reconcile::{
    execute::{Leaving, NotStarted, OperationError, ReadinessUpdate, Subject},
    failure::Evidence,
    plan::{self, Next},
    state::{DesiredState, Lifecycle, Network, Operation, Service},
};

/// What an operation may take at the most. The calls of the engine have shorter limits, and say more: this one ends what nobody has
/// thought of. Not for images, whose steps have limits, nor for settling, which has the service's own and runs its scripts.
const LONGEST: Duration = Duration::from_mins(30);

async fn in_time<T>(work: impl Future<Output = Result<T, OperationError>>) -> Result<T, OperationError> {
    tokio::time::timeout(LONGEST, work).await.unwrap_or_else(|_| Err(too_long()))
}

/// The part of a start that an operation is.
fn phase(operation: Operation, service: &Service) -> Option<StartPhase> {
    match operation {
        Operation::Image if service.spec.build().is_some() => Some(StartPhase::Built),
        Operation::Image => Some(StartPhase::Pulled),
        Operation::Create => Some(StartPhase::Created),
        Operation::Start => Some(StartPhase::Started),
        Operation::Settle => Some(StartPhase::Answered),
        Operation::Stop => Some(StartPhase::Stopped),
        Operation::Remove => Some(StartPhase::Removed),
        Operation::Swap => Some(StartPhase::Swapped),
        Operation::Examine | Operation::Freeze | Operation::Thaw => None,
    }
}

/// The result of `work`, whose messages the environment's task gets in the meantime, with the time.
pub(super) async fn forwarded<T>(
    name: &ServiceName,
    news: &mpsc::UnboundedSender<(ServiceName, ReadinessUpdate, tokio::time::Instant)>,
    mut heard: mpsc::UnboundedReceiver<ReadinessUpdate>,
    work: impl Future<Output = T>,
) -> T {
    // The actor outlives its operations.
    let forward = |readiness| drop(news.send((name.clone(), readiness, tokio::time::Instant::now())));
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            biased;
            Some(readiness) = heard.recv() => forward(readiness),
            result = &mut work => break result,
        }
    };
    // What it said last, in the same step.
    while let Ok(readiness) = heard.try_recv() {
        forward(readiness);
    }
    result
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn too_long() -> OperationError {
    OperationError::Other(format!("it did not end within {} minutes, and was given up", LONGEST.as_secs() / 60))
}

impl Actor {
    /// Starts whatever can be started now.
    pub(super) fn proceed(&mut self, now: Instant) {
        let held_up = plan::asleep::held_up(&self.state);
        if !held_up.is_empty() {
            self.rouse(&held_up, "what depends on it is to start");
            self.unsaved = true;
        }
        for next in plan::next(&self.state, now) {
            match next {
                Next::CreateNetwork => {
                    self.state.network = Network::Coming;
                    let (effects, record) = (self.effects.clone(), self.record.clone());
                    self.start(None, async move { Outcome::Network(in_time(effects.create_network(&record)).await) });
                }
                Next::RemoveNetwork => {
                    self.state.network = Network::Going;
                    let (effects, record) = (self.effects.clone(), self.record.clone());
                    self.start(None, async move { Outcome::NetworkGone(in_time(effects.clear(&record)).await) });
                }
                Next::Operate(name, operation) => self.operate(name, operation),
            }
        }
        self.finish_down();
    }

    pub(super) fn operate(&mut self, name: ServiceName, operation: Operation) {
        let Some(service) = self.state.services.get_mut(&name) else { return };
        debug_assert_eq!(service.operation, None, "{name}: {operation:?} would start next to it");
        service.operation = Some(operation);
        // One that no longer answers may have logged the reason before.
        let again = operation == Operation::Settle
            && std::mem::replace(&mut service.settled, true)
            && matches!(service.life, Lifecycle::Running(_));
        if let Some(phase) = phase(operation, service) {
            service.timeline.begin(phase, now());
        }
        let mut subject = self.subject_of(&name);
        if matches!(operation, Operation::Stop | Operation::Freeze | Operation::Thaw | Operation::Remove | Operation::Examine) {
            subject.spec = self.state.services[&name].made_from().clone();
        }
        let effects = self.effects.clone();
        match operation {
            Operation::Image => {
                let (progress, mut steps) = mpsc::channel(16);
                let sender = self.progress.clone();
                self.start(Some(&name.clone()), async move {
                    // Each of its steps has a limit of its own.
                    let ensure = effects.ensure_image(&subject.spec, &progress);
                    tokio::pin!(ensure);
                    loop {
                        tokio::select! {
                            result = &mut ensure => break Outcome::Image(name, result),
                            // There may be no receiver.
                            Some(step) = steps.recv() => { let _ = sender.send(step); }
                        }
                    }
                });
            }
            Operation::Create => {
                self.start(Some(&name.clone()), async move { Outcome::Created(name, in_time(effects.create(&subject)).await) });
            }
            Operation::Start => {
                self.start_begins(&name);
                self.start(Some(&name.clone()), async move {
                    let started = tokio::time::timeout(LONGEST, effects.start(&subject)).await;
                    let late = |_| Err(NotStarted::Failed(effects.refused(&subject.spec, "cannot be started", &too_long())));
                    Outcome::Started(name, started.unwrap_or_else(late))
                });
            }
            Operation::Settle => {
                let cancel = CancellationToken::new();
                self.cancels.insert(name.clone(), cancel.clone());
                let news = self.news.clone();
                self.start(Some(&name.clone()), async move {
                    let (sender, heard) = mpsc::unbounded_channel();
                    let result = forwarded(&name, &news, heard, effects.settle(&subject, again, sender, cancel)).await;
                    Outcome::Settled(name, result)
                });
            }
            Operation::Swap => {
                let cancel = CancellationToken::new();
                self.cancels.insert(name.clone(), cancel.clone());
                self.swap_begins(&name);
                self.start(Some(&name.clone()), async move { Outcome::Swapped(name, effects.swap(&subject, cancel).await) });
            }
            Operation::Stop => {
                self.stop_watching(&name);
                let grace = subject.spec.stop.grace;
                self.start(Some(&name.clone()), async move {
                    let stopped = tokio::time::timeout(LONGEST + grace, effects.stop(&subject)).await;
                    Outcome::Stopped(name, stopped.unwrap_or_else(|_| Err(too_long())))
                });
            }
            Operation::Freeze => {
                self.freeze_begins(&name);
                self.start(Some(&name.clone()), async move { Outcome::Frozen(name, in_time(effects.freeze(&subject)).await) });
            }
            Operation::Thaw => {
                self.start(Some(&name.clone()), async move { Outcome::Thawed(name, in_time(effects.thaw(&subject)).await) });
            }
            Operation::Remove => {
                self.start(Some(&name.clone()), async move { Outcome::Removed(name, in_time(effects.remove(&subject)).await) });
            }
            Operation::Examine => {
                self.start(Some(&name.clone()), async move {
                    let examined = tokio::time::timeout(LONGEST, effects.examine(&subject)).await;
                    let unknown = || Some(Evidence::of("it ended, and how it did could not be found out"));
                    Outcome::Examined(name, examined.unwrap_or_else(|_| unknown()))
                });
            }
        }
    }

    /// The context of an operation on the service.
    pub(super) fn subject(&self, service: &Service) -> Subject {
        let network = match &self.state.network {
            Network::Present { id } => Some(id.clone()),
            Network::Absent | Network::Coming | Network::Going | Network::Failed { .. } => None,
        };
        // A container takes the ports over from the engine, not from a process that held them.
        let comes_back = service.wanted == DesiredState::Running && service.former.is_none();
        let leaving = if comes_back { Leaving::Ports } else { Leaving::Nothing };
        Subject {
            record: Arc::new(self.record.for_operation()),
            spec: service.spec.clone(),
            instance: service.life.instance().cloned(),
            network,
            leaving,
        }
    }

    pub(super) fn subject_of(&self, name: &ServiceName) -> Subject {
        self.subject(&self.state.services[name])
    }

    /// Cancels the readiness check or the takeover that is in progress.
    pub(super) fn stop_settling(&mut self, name: &ServiceName) {
        if let Some(cancel) = self.cancels.remove(name) {
            cancel.cancel();
        }
    }

    pub(super) fn stop_watching(&mut self, name: &ServiceName) {
        if let Some(watcher) = self.watchers.remove(name) {
            watcher.abort();
        }
        self.stop_settling(name);
    }
}
