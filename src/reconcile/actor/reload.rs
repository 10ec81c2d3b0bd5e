//! Reloads: what the environment's task does when files of a service have changed.

use devenv_spec::ServiceName;
use tokio::time::Instant;

use super::{Actor, Outcome};
use crate::{
    event::NewEvent,
    reconcile::{
        failure::Evidence,
        handle::{CommandError, Reload},
        state::{DesiredState, Failure, ImageState, Lifecycle, Operation, RestartReason, Service},
        swap::Swapped,
    },
    store::Goal,
};

impl Actor {
    /// Does it as soon as possible. A service that should not run is left alone.
    pub(super) fn reload(&mut self, name: &ServiceName, how: Reload, cause: u64) -> Result<u64, CommandError> {
        if self.state.goal != Goal::Up {
            return Err(CommandError::NotUp);
        }
        if self.state.services.get(name).is_some_and(|service| service.wanted == DesiredState::Asleep) {
            // Its next client is to meet the new version.
            self.rouse(std::slice::from_ref(name), "its files have changed");
            self.unsaved = true;
        }
        let Some(service) = self.state.services.get_mut(name) else { return Err(CommandError::NoService(name.to_string())) };
        if service.wanted != DesiredState::Running {
            return Ok(self.revision + 1);
        }
        service.cause = Some(cause);
        let reason = match how {
            Reload::Signal(signal) => {
                self.signal_changed(name, &signal);
                return Ok(self.revision + 1);
            }
            Reload::Restart => RestartReason::Reload,
            Reload::Swap => RestartReason::Swap,
            Reload::Replace(content) => {
                if let Some(content) = content {
                    service.set_content(content.clone());
                    if let Some(recorded) = self.record.spec.as_mut().and_then(|spec| spec.services.get_mut(name)) {
                        recorded.set_content(content);
                    }
                    self.unsaved = true;
                }
                // It has just been built.
                service.image = ImageState::Here;
                service.moved = true;
                if !self.record.moved.contains(name) {
                    self.record.moved.push(name.clone());
                    self.unsaved = true;
                }
                RestartReason::Reload
            }
        };
        if service.operation == Some(Operation::Settle)
            && service.meanwhile.is_none()
            && let Some(instance) = service.life.instance()
        {
            self.effects.runtime.confirm_version(name, instance.run);
        }
        begin_anew(service, reason);
        service.reloading = true;
        service.held_back = None;
        self.effects.runtime.go_on(name);
        if matches!(service.operation, Some(Operation::Settle | Operation::Swap)) {
            self.stop_settling(name);
        }
        Ok(self.revision + 1)
    }

    fn signal_changed(&mut self, name: &ServiceName, signal: &str) {
        let Some(service) = self.state.services.get(name) else { return };
        if !service.life.runs() {
            return;
        }
        let subject = self.subject(service);
        let effects = self.effects.clone();
        self.emit(name, "service.signalled", format!("{name} got {signal} because its files changed"));
        let signal = signal.to_owned();
        self.start(None, async move {
            if let Err(error) = effects.signal(&subject, &signal).await {
                tracing::warn!(%error, service = %subject.spec.name, "Cannot send a signal to a service.");
            }
            Outcome::Signalled
        });
    }

    pub(super) fn swapped(&mut self, name: &ServiceName, swapped: Swapped, ended: bool) {
        self.cancels.remove(name);
        let Some(service) = self.finish(name) else { return };
        match swapped {
            Swapped::Cancelled => {}
            Swapped::Failed(evidence) => {
                service.reloading = false;
                let failure = evidence.into_failure();
                service.held_back = Some(held_back(&failure));
                self.tell_reload_failed(name, &failure, "the old one keeps serving");
            }
            Swapped::Moved(instance, proof) => {
                let old = service.life.instance().map(|old| old.run);
                let subject = self.subject_of(name);
                if let Some(watcher) = self.watchers.remove(name) {
                    watcher.abort();
                }
                if let Some(old) = old {
                    let effects = self.effects.clone();
                    self.start(None, async move {
                        if let Err(error) = effects.runtime.retire_process(&subject.spec, old).await {
                            tracing::warn!(%error, service = %subject.spec.name, "Cannot stop an old version.");
                        }
                        Outcome::Signalled
                    });
                }
                let Some(service) = self.state.services.get_mut(name) else { return };
                let run = instance.run;
                service.reloading = false;
                service.life = Lifecycle::Running(instance);
                self.emit(name, "service.swapped", format!("connections to {name} go to its new version, run {run}"));
                self.became_ready(name, proof);
                return;
            }
        }
        if ended && self.state.services.get(name).is_some_and(|service| service.life.runs()) {
            self.stop_watching(name);
            self.operate(name.clone(), Operation::Examine);
        }
    }

    /// If a new version ended by itself, the old version is started again, if its files are kept. Then this end needs no
    /// other reaction; otherwise its evidence is returned.
    pub(super) fn old_version_instead(&mut self, name: &ServiceName, evidence: Evidence, ended_badly: bool) -> Option<Evidence> {
        let service = self.state.services.get_mut(name).filter(|service| ended_badly && service.reloading);
        let Some(service) = service else { return Some(evidence) };
        if let Some(instance) = service.life.instance().cloned() {
            service.life = Lifecycle::Idle(instance);
        }
        let failure = evidence.clone().into_failure();
        self.reload_failed(name, &failure);
        let falls_back = self.state.services.get(name).is_some_and(|service| service.restart == Some(RestartReason::FallBack));
        (!falls_back).then_some(evidence)
    }

    /// The new version of a service that was started in place of the old one does not become ready: the old one is started
    /// again, if its files are kept. Reported once.
    pub(super) fn reload_failed(&mut self, name: &ServiceName, failure: &Failure) {
        let Some(service) = self.state.services.get_mut(name) else { return };
        if !std::mem::take(&mut service.reloading) {
            return;
        }
        let consequence = match self.effects.runtime.fall_back(&service.spec) {
            Some(run) => {
                begin_anew(service, RestartReason::FallBack);
                service.held_back = Some(held_back(failure));
                format!("run {run} is started again")
            }
            None => "the previous version's files are not kept, so devenv waits for the next change".to_owned(),
        };
        self.tell_reload_failed(name, failure, &consequence);
    }

    pub(super) fn tell_reload_failed(&mut self, name: &ServiceName, failure: &Failure, consequence: &str) {
        let message = format!("the new version of {name} did not become ready: {}; {consequence}", failure.reason);
        self.emit_with(name, NewEvent::of(name, "service.reload-failed", message).with("detail", failure.detail.clone()));
    }

    pub(super) fn swap_begins(&mut self, name: &ServiceName) {
        if let Some(service) = self.state.services.get_mut(name) {
            // As above: a later change may not have been seen by this version.
            service.restart = None;
            service.started = Some(Instant::now().into_std());
            service.ready_after = None;
            service.settled = false;
        }
    }

    /// The time at which the current start was requested.
    pub(super) fn start_begins(&mut self, name: &ServiceName) {
        if let Some(service) = self.state.services.get_mut(name) {
            // A later reason to restart may not have been seen by this start.
            service.restart = None;
            service.start_heard = false;
            service.started = Some(Instant::now().into_std());
            service.ready_after = None;
            service.settled = false;
        }
    }
}

/// Stopped once if it runs, and started, whatever its former state.
fn begin_anew(service: &mut Service, reason: RestartReason) {
    service.attempts = 0;
    service.restart = Some(reason);
    service.life = match std::mem::replace(&mut service.life, Lifecycle::Absent) {
        Lifecycle::Completed(instance)
        | Lifecycle::Ended(instance, _)
        | Lifecycle::CrashLoop(instance, _)
        | Lifecycle::Backoff(instance, ..) => Lifecycle::Idle(instance),
        Lifecycle::Failed(None, _) => Lifecycle::Absent,
        Lifecycle::Unstoppable(instance, _) => Lifecycle::Running(instance),
        other => other,
    };
}

fn held_back(failure: &Failure) -> String {
    format!("running the previous version, because the current files did not become ready: {}", failure.reason)
}
