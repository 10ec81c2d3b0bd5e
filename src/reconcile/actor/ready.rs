//! Ready services: how they become ready, stop being ready, and affect others.

use devenv_api::StartPhase;
use devenv_spec::{OnDependencyRestart, ServiceName};
use tokio::{sync::mpsc, time::Instant};

use super::{Actor, Outcome, operate::forwarded};
use crate::{
    event::NewEvent,
    reconcile::{
        execute::ReadinessUpdate,
        plan,
        state::{Lifecycle, Operation, RestartReason},
    },
};

impl Actor {
    pub(super) fn became_ready(&mut self, name: &ServiceName, proof: String) {
        let Some(service) = self.state.services.get_mut(name) else { return };
        let Some(instance) = service.life.instance().cloned() else { return };
        service.reloading = false;
        let first = service.ready_after.is_none();
        if first {
            service.ready_after = service.started.map(|started| Instant::now().into_std().duration_since(started));
        }
        let after = service.ready_after.map_or(0, |duration| duration.as_millis() as u64);
        service.life = Lifecycle::Ready(instance.clone(), proof.clone());
        let phases = service.timeline.take();
        let spec = service.spec.clone();
        let came_back = std::mem::take(&mut service.came_back);
        let message = if first { format!("{name} is ready after {after} ms: {proof}") } else { format!("{name} is ready: {proof}") };
        let news = NewEvent::of(name, "service.ready", message).with("ready_after_ms", after).with("proof", proof);
        let cause = self.emit_with(name, news.timed(&phases));
        let (runtime, watched, news) = (self.effects.runtime.clone(), name.clone(), self.news.clone());
        let watcher = self.start(Some(name), async move {
            let (sender, heard) = mpsc::unbounded_channel();
            let reason = forwarded(&watched, &news, heard, runtime.watch(&spec, &instance, &sender)).await;
            Outcome::Unhealthy(watched, reason)
        });
        if let Some(former) = self.watchers.insert(name.clone(), watcher) {
            former.abort();
        }
        if came_back {
            self.tell_dependants(name, cause);
        }
    }

    pub(super) fn unhealthy(&mut self, name: &ServiceName, reason: String) {
        self.watchers.remove(name);
        let Some(service) = self.state.services.get_mut(name) else { return };
        if let Lifecycle::Ready(instance, _) = &service.life {
            service.life = Lifecycle::Unhealthy(instance.clone(), reason.clone());
            self.emit(name, "service.unhealthy", format!("{name} does not answer: {reason}"));
        }
    }

    pub(super) fn heard(&mut self, name: &ServiceName, readiness: ReadinessUpdate, at: Instant) {
        match readiness {
            ReadinessUpdate::Answered => {
                // The message may arrive after the end of the operation.
                if let Some(service) = self.state.services.get_mut(name)
                    && service.operation == Some(Operation::Settle)
                {
                    service.provisioning = true;
                    service.timeline.begin(StartPhase::Provisioned, at.into_std());
                }
            }
            ReadinessUpdate::Provisioned | ReadinessUpdate::Scripted => {
                if let Some(service) = self.state.services.get_mut(name)
                    && service.operation == Some(Operation::Settle)
                {
                    let scripts_are_next = readiness == ReadinessUpdate::Provisioned && service.spec.scripts.is_some();
                    let next = if scripts_are_next { StartPhase::Scripts } else { StartPhase::Proven };
                    service.timeline.begin(next, at.into_std());
                }
            }
            ReadinessUpdate::Changed(what) => {
                self.emit(name, "service.provisioned", format!("{name}: {what}"));
            }
        }
    }

    fn tell_dependants(&mut self, name: &ServiceName, cause: u64) {
        for dependant in plan::affected_by(&self.state, name) {
            let service = self.state.services.get_mut(&dependant).expect("a dependent is a service");
            match service.spec.on_dependency_restart {
                OnDependencyRestart::Ignore => {}
                OnDependencyRestart::Restart => {
                    service.restart = Some(RestartReason::Dependency);
                    service.cause = Some(
                        self.events.emit(
                            NewEvent::of(&dependant, "service.restart-due", format!("{dependant} restarts because {name} came back"))
                                .with("cause", cause),
                        ),
                    );
                }
                OnDependencyRestart::Signal => {
                    let subject = self.subject_of(&dependant);
                    let effects = self.effects.clone();
                    self.events.emit(
                        NewEvent::of(&dependant, "service.signalled", format!("{dependant} got SIGHUP because {name} came back"))
                            .with("cause", cause),
                    );
                    self.start(None, async move {
                        if let Err(error) = effects.signal(&subject, "SIGHUP").await {
                            tracing::warn!(%error, service = %subject.spec.name, "Cannot send a signal to a service.");
                        }
                        Outcome::Signalled
                    });
                }
            }
        }
    }
}
