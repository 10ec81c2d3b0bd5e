//! Sleep and wake: what is on record is what the services become, whatever ends the daemon meanwhile.

use devenv_spec::ServiceName;

use super::Actor;
use crate::{
    event::NewEvent,
    reconcile::{
        execute::OperationError,
        handle::CommandError,
        plan::asleep,
        state::{DesiredState, Lifecycle, Operation},
    },
    store::Goal,
};

impl Actor {
    /// Puts these services to sleep with what depends on them; all that may sleep, if none is named. Returns which.
    pub(super) fn sleep(&mut self, names: &[ServiceName]) -> Result<(u64, Vec<ServiceName>), CommandError> {
        if self.state.goal != Goal::Up {
            return Err(CommandError::NotUp);
        }
        if self.state.services.values().all(|service| service.spec.sleep.is_none()) {
            return Err(CommandError::Sleepless("this environment".to_owned()));
        }
        let falling = asleep::falling_asleep(&self.state, names);
        for name in names {
            let Some(service) = self.state.services.get(name) else { return Err(CommandError::NoService(name.to_string())) };
            if service.spec.sleep.is_none() {
                return Err(CommandError::Sleepless(format!("`{name}`")));
            }
            if service.wanted == DesiredState::Running && !falling.contains(name) {
                return Err(CommandError::StaysAwake(name.to_string()));
            }
        }
        for name in &falling {
            self.record.asleep.retain(|asleep| asleep != name);
            self.record.asleep.push(name.clone());
        }
        // Before anything is stopped: if the daemon dies next, the next one knows what is asleep.
        self.save()?;
        for name in &falling {
            let cause = self.events.emit(NewEvent::of(name, "service.falls-asleep", format!("{name} falls asleep")));
            let Some(service) = self.state.services.get_mut(name) else { continue };
            service.cause = Some(cause);
            service.wanted = DesiredState::Asleep;
            service.restart = None;
            if let Lifecycle::Backoff(instance, ..) = service.life.clone() {
                service.life = Lifecycle::Idle(instance);
            }
            if matches!(service.operation, Some(Operation::Settle | Operation::Swap)) {
                self.stop_watching(name);
            }
        }
        Ok((self.revision + 1, falling))
    }

    /// Wakes these services with what they depend on, or all. Returns which.
    pub(super) fn wake(&mut self, names: &[ServiceName], why: &str) -> Result<(u64, Vec<ServiceName>), CommandError> {
        if self.state.goal != Goal::Up {
            return Err(CommandError::NotUp);
        }
        if let Some(unknown) = names.iter().find(|name| !self.state.services.contains_key(*name)) {
            return Err(CommandError::NoService(unknown.to_string()));
        }
        let woken = self.rouse(names, why);
        if !woken.is_empty() {
            self.save()?;
        }
        Ok((self.revision + 1, woken))
    }

    /// As [`Self::wake`]; the caller saves the record.
    pub(super) fn rouse(&mut self, names: &[ServiceName], why: &str) -> Vec<ServiceName> {
        let waking = asleep::waking(&self.state, names);
        for name in &waking {
            let cause = self.events.emit(NewEvent::of(name, "service.wakes", format!("{name} wakes: {why}")));
            let Some(service) = self.state.services.get_mut(name) else { continue };
            service.cause = Some(cause);
            service.wanted = DesiredState::Running;
            service.attempts = 0;
            self.record.asleep.retain(|asleep| asleep != name);
        }
        waking
    }

    /// On record first: the next daemon lets continue what is paused, and only that.
    pub(super) fn freeze_begins(&mut self, name: &ServiceName) {
        self.stop_watching(name);
        if !self.record.frozen.contains(name) {
            self.record.frozen.push(name.clone());
            self.save_quietly();
        }
    }

    pub(super) fn frozen(&mut self, name: &ServiceName, result: Result<(), OperationError>, ended: bool) {
        let Some(service) = self.finish(name) else { return };
        let Some(instance) = service.life.instance().cloned() else { return };
        if ended {
            service.life = Lifecycle::Running(instance);
            self.operate(name.clone(), Operation::Examine);
            return;
        }
        match result {
            Ok(()) => {
                let proof = if let Lifecycle::Ready(_, proof) = &service.life { Some(proof.clone()) } else { None };
                service.life = Lifecycle::Frozen(instance, proof);
                self.emit(name, "service.frozen", format!("{name} is frozen"));
            }
            Err(error) if error.is_engine_gone() => self.engine_is_gone(),
            Err(error) => {
                // It stays awake. It may have been paused all the same, and is unpaused next.
                service.life = Lifecycle::Frozen(instance, None);
                if service.wanted == DesiredState::Asleep {
                    service.wanted = DesiredState::Running;
                    self.record.asleep.retain(|asleep| asleep != name);
                    self.unsaved = true;
                }
                self.emit(name, "service.freeze-failed", format!("{name} stays awake, because it cannot be frozen: {error}"));
            }
        }
    }

    pub(super) fn thawed(&mut self, name: &ServiceName, result: Result<(), OperationError>, ended: bool) {
        if let Err(error) = result {
            self.operation_failed(name, "cannot be woken", &error);
            return;
        }
        self.record.frozen.retain(|frozen| frozen != name);
        self.unsaved = true;
        let Some(service) = self.finish(name) else { return };
        let Lifecycle::Frozen(instance, proof) = service.life.clone() else { return };
        service.life = Lifecycle::Running(instance);
        let current = service.wanted == DesiredState::Running && service.restart.is_none() && !service.outdated();
        self.emit(name, "service.thawed", format!("{name} continues"));
        match proof {
            _ if ended => self.operate(name.clone(), Operation::Examine),
            // Nothing in it has changed since it was ready.
            Some(proof) if current => self.became_ready(name, proof),
            _ => {}
        }
    }
}
