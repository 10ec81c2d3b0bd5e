//! How operations end: the consequences of each for its service.

use devenv_spec::{RestartWhen, ServiceName};
use ipnet::Ipv4Net;
use rand::RngExt;
use tokio::time::Instant;

use super::{Actor, Outcome, PROVEN};
use crate::{
    event::NewEvent,
    reconcile::{
        backoff,
        execute::{NotStarted, OperationError},
        failure::Evidence,
        state::{DesiredState, Failure, ImageState, Instance, Lifecycle, MissedEvent, Network, Operation, Service},
    },
    store::Goal,
};

impl Actor {
    pub(super) fn ended(&mut self, outcome: Outcome) {
        let heard = outcome.operated().and_then(|name| self.state.services.get_mut(name)?.meanwhile.take());
        if let (Some(MissedEvent::Removed), Some(name)) = (heard, outcome.operated()) {
            // The container is gone, so there is nothing more to record.
            self.cancels.remove(name);
            self.finish(name);
            self.is_gone(name);
            return;
        }
        let ended = heard == Some(MissedEvent::Ended);
        match outcome {
            Outcome::Network(result) => self.network_made(result),
            Outcome::NetworkGone(result) => self.network_gone(result),
            Outcome::Image(name, result) => self.image_is_here(&name, result),
            Outcome::Created(name, result) => self.created(&name, result),
            Outcome::Started(name, result) => self.started(&name, result, ended),
            Outcome::Settled(name, result) => self.settled(&name, result, ended),
            Outcome::Stopped(name, result) => self.stopped(&name, result),
            Outcome::Frozen(name, result) => self.frozen(&name, result, ended),
            Outcome::Thawed(name, result) => self.thawed(&name, result, ended),
            Outcome::Removed(name, result) => self.removed(&name, result),
            Outcome::Examined(name, evidence) => self.examined(&name, evidence, ended),
            Outcome::Swapped(name, swapped) => self.swapped(&name, swapped, ended),
            Outcome::Unhealthy(name, reason) => self.unhealthy(&name, reason),
            Outcome::EngineBack(observed) => self.engine_is_back(observed),
            Outcome::Panicked(name, said) => self.panicked(name, &said),
            Outcome::Signalled => {}
        }
    }

    /// After a bug nobody may wait for ever: the service has failed, and says so.
    fn panicked(&mut self, name: Option<ServiceName>, said: &str) {
        let what = format!("devenv failed at it, which is a bug: {said}");
        match name {
            Some(name) => {
                self.stop_watching(&name);
                self.give_up(&name, Evidence::of(what));
            }
            // Signals and the like have no outcome; the network is checked again.
            None if matches!(self.state.network, Network::Coming | Network::Going) => {
                self.events.emit(NewEvent::new("network.failed", format!("the network: {what}")));
                self.state.network = Network::Failed { reason: what };
            }
            None => {}
        }
    }

    fn network_made(&mut self, result: Result<(String, Ipv4Net), OperationError>) {
        // Until more is known of it.
        self.state.network = Network::Absent;
        match result {
            Ok((id, subnet)) => {
                self.state.network = Network::Present { id };
                self.record.subnet = Some(subnet);
                self.unsaved = true;
                self.events.emit(NewEvent::new("network.created", format!("created the network on {subnet}")));
            }
            Err(error) if error.is_engine_gone() => self.engine_is_gone(),
            Err(error) => {
                self.events.emit(NewEvent::new("network.failed", format!("cannot create the network: {error}")));
                self.state.network = Network::Failed { reason: error.to_string() };
            }
        }
    }

    fn network_gone(&mut self, result: Result<Vec<String>, OperationError>) {
        // One that still exists is found when the engine is checked again.
        self.state.network = Network::Absent;
        match result {
            Ok(foreign) => {
                let message = if foreign.is_empty() {
                    "removed the network".to_owned()
                } else {
                    format!("removed the network; disconnected {} from it", foreign.join(", "))
                };
                self.events.emit(NewEvent::new("network.removed", message));
            }
            Err(error) if error.is_engine_gone() => self.engine_is_gone(),
            Err(error) => {
                // Left for the next daemon's sweep: a network that cannot be removed must not block `down`.
                self.events.emit(NewEvent::new("network.left", format!("cannot remove the network: {error}")));
            }
        }
    }

    fn image_is_here(&mut self, name: &ServiceName, result: Result<bool, OperationError>) {
        match result {
            Ok(fetched) => {
                let Some(service) = self.finish(name) else { return };
                service.image = ImageState::Here;
                if fetched {
                    let image = service.spec.container().map(|container| container.image.name().to_owned()).unwrap_or_default();
                    self.emit(name, "service.image-fetched", format!("the image {image} is available"));
                }
            }
            Err(error) => self.operation_failed(name, "its image is not available", &error),
        }
    }

    fn created(&mut self, name: &ServiceName, result: Result<Instance, OperationError>) {
        match result {
            Ok(instance) => {
                let Some(service) = self.finish(name) else { return };
                service.life = Lifecycle::Idle(instance);
                service.moved = false;
                let workload = service.spec.workload.clone();
                self.record.moved.retain(|moved| moved != name);
                self.record.applied.insert(name.clone(), workload);
                self.unsaved = true;
                self.emit(name, "service.created", format!("{name} was created"));
            }
            Err(error) => self.operation_failed(name, "cannot be created", &error),
        }
    }

    fn started(&mut self, name: &ServiceName, result: Result<Instance, NotStarted>, ended: bool) {
        match result {
            Ok(instance) => {
                let Some(service) = self.finish(name) else { return };
                let run = instance.run;
                let ended = ended || service.ended_early.take().is_some_and(|pid| pid.to_string() == instance.id);
                service.life = Lifecycle::Running(instance);
                service.provisioning = false;
                self.emit(name, "service.started", format!("{name} was started, run {run}"));
                if ended {
                    self.operate(name.clone(), Operation::Examine);
                }
            }
            Err(NotStarted::ContainerGone) => {
                self.finish(name);
                self.emit(name, "service.removed", format!("the container of {name} no longer exists"));
                self.is_gone(name);
            }
            Err(NotStarted::EngineGone) => {
                self.finish(name);
                self.engine_is_gone();
            }
            Err(NotStarted::Failed(evidence)) => self.give_up(name, evidence),
        }
    }

    fn settled(&mut self, name: &ServiceName, result: Option<Result<String, Evidence>>, ended: bool) {
        self.cancels.remove(name);
        // What it said before its end, which may arrive in any order.
        while let Ok((service, readiness, at)) = self.heard.try_recv() {
            self.heard(&service, readiness, at);
        }
        let Some(service) = self.finish(name) else { return };
        service.provisioning = false;
        if ended {
            // Its result belongs to a run that is over.
            self.operate(name.clone(), Operation::Examine);
            return;
        }
        let Some(instance) = service.life.instance().cloned() else { return };
        match result {
            None => {}
            Some(Ok(proof)) => self.became_ready(name, proof),
            Some(Err(evidence)) if matches!(service.life, Lifecycle::Unhealthy(..)) => {
                let reason = evidence.into_failure().reason;
                service.life = Lifecycle::Unhealthy(instance, reason);
            }
            Some(Err(evidence)) => self.give_up(name, evidence),
        }
    }

    fn stopped(&mut self, name: &ServiceName, result: Result<(), OperationError>) {
        let Some(service) = self.finish(name) else { return };
        if let Err(error) = result {
            if error.is_engine_gone() {
                // The state is found when the engine is checked again.
                self.engine_is_gone();
                return;
            }
            let (instance, wanted) = (service.life.instance().cloned(), service.wanted);
            self.emit(name, "service.stop-failed", format!("cannot stop {name}: {error}"));
            match (instance, wanted) {
                (Some(instance), DesiredState::Running | DesiredState::Stopped | DesiredState::Asleep) => {
                    self.could_not_be_stopped(name, instance, &error);
                }
                // It is removed next, by force.
                (Some(instance), DesiredState::Gone) => self.set_life(name, Lifecycle::Idle(instance)),
                (None, _) => {}
            }
            return;
        }
        if let Some(instance) = service.life.instance().cloned() {
            // Nothing is left of a process.
            service.life = if service.made_from().container().is_some() {
                Lifecycle::Idle(instance)
            } else {
                service.former = None;
                Lifecycle::Absent
            };
        }
        service.restart = None;
        self.emit(name, "service.stopped", format!("{name} was stopped"));
    }

    /// It may still run, so nothing may be started in its place.
    fn could_not_be_stopped(&mut self, name: &ServiceName, instance: Instance, error: &OperationError) {
        let Some(service) = self.state.services.get_mut(name) else { return };
        let failure = self.effects.refused(&service.spec, "cannot stop it, and it may still be running", error).into_failure();
        service.restart = None;
        service.life = Lifecycle::Unstoppable(instance, failure.clone());
        let reloading = std::mem::take(&mut service.reloading);
        self.emit_with(
            name,
            NewEvent::of(name, "service.failed", format!("{name}: {}", failure.reason)).with("detail", failure.detail.clone()),
        );
        if reloading {
            self.tell_reload_failed(name, &failure, "the next change is waited for");
        }
    }

    fn set_life(&mut self, name: &ServiceName, life: Lifecycle) {
        if let Some(service) = self.state.services.get_mut(name) {
            service.life = life;
        }
    }

    fn removed(&mut self, name: &ServiceName, result: Result<(), OperationError>) {
        match result {
            Ok(()) => {
                self.finish(name);
                self.emit(name, "service.removed", format!("{name} was removed"));
                self.is_gone(name);
            }
            Err(error) => self.operation_failed(name, "cannot be removed", &error),
        }
    }

    fn examined(&mut self, name: &ServiceName, evidence: Option<Evidence>, ended: bool) {
        let Some(service) = self.finish(name) else { return };
        let Some(instance) = service.life.instance().cloned() else { return };
        let Some(evidence) = evidence else {
            service.life = Lifecycle::Running(instance);
            // Once more, after another client had started it again.
            if ended {
                self.operate(name.clone(), Operation::Examine);
            }
            return;
        };
        if service.wanted != DesiredState::Running {
            service.life = Lifecycle::Idle(instance);
            return;
        }
        let code = evidence.exit.as_ref().map_or(-1, |exit| exit.code);
        let reported = evidence.exit.as_ref().map_or_else(|| "it exited".to_owned(), |exit| format!("it exited with {}", exit.describe()));
        if service
            .ready_after
            .is_some_and(|_| service.started.is_some_and(|started| Instant::now().into_std().duration_since(started) > PROVEN))
        {
            service.attempts = 0;
        }
        let again = match service.spec.restart.policy {
            RestartWhen::Always => true,
            RestartWhen::OnFailure => code != 0,
            RestartWhen::Never => false,
        };
        let Some(evidence) = self.old_version_instead(name, evidence, again || code != 0) else { return };
        let Some(service) = self.state.services.get_mut(name) else { return };
        if again && service.attempts < service.spec.restart.attempts {
            let delay = backoff::delay(service.attempts, rand::rng().random_range(0.0..1.0));
            service.attempts += 1;
            service.restarts += 1;
            service.came_back = true;
            service.life = Lifecycle::Backoff(instance, Instant::now().into_std() + delay, reported.clone());
            let message = format!("{name} restarts in {} ms: {reported}", delay.as_millis());
            self.emit_with(name, NewEvent::of(name, "service.restarting", message).with("exit_code", code));
        } else if again {
            let mut evidence = evidence;
            evidence.what = format!("it exited {} times in a row", service.attempts + 1);
            let failure = evidence.into_failure();
            service.life = Lifecycle::CrashLoop(instance, failure.clone());
            let phases = service.timeline.take();
            let news = NewEvent::of(name, "service.crash-loop", format!("{name}: {}", failure.reason)).with("exit_code", code);
            self.emit_with(name, news.timed(&phases));
        } else if code == 0 {
            service.life = Lifecycle::Completed(instance);
            service.timeline.ran();
            let phases = service.timeline.take();
            let news = NewEvent::of(name, "service.completed", format!("{name} has completed: {reported}")).with("exit_code", code);
            self.emit_with(name, news.timed(&phases));
        } else {
            service.life = Lifecycle::Idle(instance);
            self.give_up(name, evidence);
        }
    }

    pub(super) fn operation_failed(&mut self, name: &ServiceName, what: &str, error: &OperationError) {
        if error.is_engine_gone() {
            self.engine_is_gone();
            self.finish(name);
            return;
        }
        let Some(service) = self.state.services.get(name) else { return };
        let evidence = self.effects.refused(&service.spec, what, error);
        self.give_up(name, evidence);
    }

    pub(super) fn give_up(&mut self, name: &ServiceName, evidence: Evidence) {
        let Some(service) = self.finish(name) else { return };
        let failure: Failure = evidence.into_failure();
        service.life = match service.life.instance().cloned() {
            Some(instance) if !service.life.runs() => Lifecycle::Ended(instance, failure.clone()),
            instance => Lifecycle::Failed(instance, failure.clone()),
        };
        service.restart = None;
        if service.wanted == DesiredState::Gone {
            // Nothing more can be done for it here; it must not block the others.
            service.life = Lifecycle::Absent;
        }
        let phases = service.timeline.take();
        let news = NewEvent::of(name, "service.failed", format!("{name}: {}", failure.reason)).with("detail", failure.detail.clone());
        self.emit_with(name, news.timed(&phases));
        self.reload_failed(name, &failure);
    }

    /// It has no resources left, and no operation in progress.
    pub(super) fn is_gone(&mut self, name: &ServiceName) {
        let Some(service) = self.state.services.get_mut(name) else { return };
        service.life = Lifecycle::Absent;
        service.former = None;
        service.provisioning = false;
        service.moved = false;
        let forget = service.wanted == DesiredState::Gone && self.state.goal == Goal::Up;
        self.record.moved.retain(|moved| moved != name);
        self.record.frozen.retain(|frozen| frozen != name);
        self.record.applied.remove(name);
        self.unsaved = true;
        if forget {
            self.state.services.shift_remove(name);
        }
    }

    /// The service's operation has ended.
    pub(super) fn finish(&mut self, name: &ServiceName) -> Option<&mut Service> {
        let service = self.state.services.get_mut(name)?;
        service.operation = None;
        service.timeline.end(Instant::now().into_std());
        Some(service)
    }
}
