//! Commands to the environment. A command changes the goal and the record before anything is created.

use devenv_spec::{EnvironmentSpec, MountSource, ServiceName};

use super::Actor;
use crate::{
    event::NewEvent,
    reconcile::{
        handle::{Command, CommandError, ServiceAction},
        plan,
        state::{DesiredState, ImageState, Lifecycle, Network, Operation, RestartReason},
    },
    store::Goal,
};

impl Actor {
    pub(super) fn command(&mut self, command: Command) {
        // The caller may have disconnected; the command is executed anyway.
        match command {
            Command::Up { spec, replaced, alone, reply } => {
                let _ = reply.send(self.up(*spec, &replaced, &alone));
            }
            Command::Down { volumes, reply } => {
                let _ = reply.send(self.down(volumes));
            }
            Command::Services { names, verb, reply } => {
                let _ = reply.send(self.services(&names, verb));
            }
            Command::Sleep { names, reply } => {
                let _ = reply.send(self.sleep(&names));
            }
            Command::Wake { names, why, reply } => {
                let _ = reply.send(self.wake(&names, &why));
            }
            Command::StopStarting { reply } => {
                let _ = reply.send(self.stop_starting());
            }
            Command::Reload { service, how, cause, reply } => {
                let _ = reply.send(self.reload(&service, how, cause));
            }
            Command::Preview { spec, rebuilds, reply } => {
                let _ = reply.send(plan::preview(&self.state, &spec.services, &self.record.applied, &rebuilds));
            }
            Command::Undo { reply } => {
                let _ = reply.send(self.undo());
            }
            Command::EmptyTrash { older_than, reply } => {
                let _ = reply.send(self.empty_trash(older_than));
            }
            Command::ReserveVolumes { keys, reply } => {
                let names = keys.into_iter().map(|key| (key.clone(), self.record.reserve(&key))).collect();
                let _ = reply.send(self.save().map(|()| names).map_err(CommandError::from));
            }
            Command::MoveTo { volumes, why, reply } => {
                let _ = reply.send(self.move_to(volumes, why));
            }
            Command::AddSnapshot { name, snapshot, reply } => {
                let _ = reply.send(self.add_snapshot(name, snapshot));
            }
            Command::RemoveSnapshot { name, reply } => {
                let removed = self.record.snapshots.remove(&name);
                let saved = if removed.is_some() { self.save() } else { Ok(()) };
                let _ = reply.send(saved.map(|()| removed).map_err(CommandError::from));
            }
            Command::KeepPorts { ports, reply } => {
                // On the disk before anything is made on them: `up` saves first.
                self.record.ports = ports;
                let _ = reply.send(Ok(()));
            }
            Command::Keep { reply } => {
                self.record.ephemeral = false;
                let _ = reply.send(self.save().map_err(CommandError::from));
            }
            Command::Record { reply } => {
                let _ = reply.send(Box::new(self.record.clone()));
            }
            Command::Engine(event) => self.engine_event(&event),
            Command::ProcessEnded { service, pid, code } => self.process_ended(&service, pid, code),
            Command::EngineGone => {
                if self.state.engine_answers {
                    self.events.emit(NewEvent::new("engine.gone", "the engine no longer answers"));
                }
                self.state.engine_answers = false;
            }
            Command::Observed(observed) => {
                self.engine_is_back(*observed);
            }
        }
    }

    fn up(&mut self, spec: EnvironmentSpec, replaced: &[ServiceName], alone: &[ServiceName]) -> Result<u64, CommandError> {
        let cause = self.events.emit(
            NewEvent::new("environment.up-asked", format!("`up` was requested with the profile `{}`", spec.profile))
                .with("profile", spec.profile.clone()),
        );
        // The times in later events count from this one.
        let asked = tokio::time::Instant::now().into_std();
        for (name, service) in &spec.services {
            for mount in service.container().into_iter().flat_map(|container| &container.mounts) {
                match &mount.source {
                    MountSource::Volume(volume) => drop(self.record.volume(name, volume)),
                    MountSource::Shared { service, volume } => drop(self.record.volume(service, volume)),
                    MountSource::Host(_) | MountSource::Memory | MountSource::External(_) => {}
                }
            }
        }
        self.record.goal = Goal::Up;
        if spec.planned {
            self.record.subnet = Some(spec.subnet);
        }
        self.record.subnet.get_or_insert(spec.subnet);
        self.record.stopped.retain(|stopped| alone.contains(stopped));
        self.record.asleep.retain(|asleep| alone.contains(asleep));
        for name in replaced.iter().filter(|name| spec.services.get(*name).is_some_and(|service| service.container().is_some())) {
            if !self.record.moved.contains(name) {
                self.record.moved.push(name.clone());
            }
        }
        self.record.spec = Some(spec.clone());
        // Before anything is made: if the daemon dies next, the next one knows the goal.
        self.save()?;
        self.state.goal = Goal::Up;
        if matches!(self.state.network, Network::Failed { .. }) {
            self.state.network = Network::Absent;
        }
        self.state.adopt_spec(&spec.services, alone, Some(cause));
        self.state.services.values_mut().for_each(|service| service.timeline.start_over(asked));
        for name in replaced {
            if let Some(service) = self.state.services.get_mut(name) {
                if service.spec.container().is_some() {
                    service.moved = service.life != Lifecycle::Absent;
                } else {
                    service.restart = Some(RestartReason::Asked);
                }
            }
        }
        Ok(self.revision + 1)
    }

    fn down(&mut self, volumes: bool) -> Result<u64, CommandError> {
        let what = if volumes { "`down --volumes` was requested" } else { "`down` was requested" };
        let cause = self.events.emit(NewEvent::new("environment.down-asked", what));
        self.record.goal = if volumes { Goal::DownWithVolumes } else { Goal::Down };
        self.record.asleep.clear();
        self.save()?;
        self.state.goal = self.record.goal;
        let names: Vec<ServiceName> = self.state.services.keys().cloned().collect();
        for name in names {
            let service = self.state.services.get_mut(&name).expect("listed above");
            service.wanted = DesiredState::Gone;
            service.restart = None;
            service.cause = Some(cause);
            service.may_be_stopped_again();
            if matches!(service.operation, Some(Operation::Settle | Operation::Swap)) {
                self.stop_watching(&name);
            }
        }
        Ok(self.revision + 1)
    }

    fn stop_starting(&mut self) -> Result<u64, CommandError> {
        if self.state.goal != Goal::Up {
            return Ok(self.revision);
        }
        let cause = self.events.emit(NewEvent::new("environment.up-cancelled", "up was cancelled"));
        for (name, service) in &mut self.state.services {
            let started = service.life.runs()
                || matches!(
                    service.life,
                    Lifecycle::Completed(_) | Lifecycle::CrashLoop(..) | Lifecycle::Ended(..) | Lifecycle::Failed(..)
                );
            if started || service.wanted != DesiredState::Running || service.operation == Some(Operation::Start) {
                continue;
            }
            service.wanted = DesiredState::Stopped;
            service.restart = None;
            service.cause = Some(cause);
            if !self.record.stopped.contains(name) {
                self.record.stopped.push(name.clone());
            }
        }
        self.save()?;
        Ok(self.revision + 1)
    }

    fn services(&mut self, names: &[ServiceName], verb: ServiceAction) -> Result<u64, CommandError> {
        if self.state.goal != Goal::Up {
            return Err(CommandError::NotUp);
        }
        if let Some(unknown) = names.iter().find(|name| !self.state.services.contains_key(*name)) {
            return Err(CommandError::NoService(unknown.to_string()));
        }
        let names: Vec<ServiceName> = if names.is_empty() { self.state.services.keys().cloned().collect() } else { names.to_vec() };
        if verb != ServiceAction::Stop {
            self.rouse(&names, "it is to run");
        }
        for name in &names {
            let (kind, word) = match verb {
                ServiceAction::Start => ("service.start-asked", "start"),
                ServiceAction::Stop => ("service.stop-asked", "stop"),
                ServiceAction::Restart => ("service.restart-asked", "restart"),
            };
            let cause = self.events.emit(NewEvent::of(name, kind, format!("{word} was requested")));
            let service = self.state.services.get_mut(name).expect("checked above");
            service.cause = Some(cause);
            service.may_be_stopped_again();
            match verb {
                ServiceAction::Start | ServiceAction::Restart => {
                    service.wanted = DesiredState::Running;
                    if verb == ServiceAction::Restart {
                        service.attempts = 0;
                        service.restart = Some(RestartReason::Asked);
                        service.held_back = None;
                        self.effects.runtime.go_on(name);
                        // Nothing of it exists that could be stopped first.
                        if matches!(service.life, Lifecycle::Failed(None, _)) {
                            service.life = Lifecycle::Absent;
                            service.image = ImageState::Unknown;
                        }
                        if let Lifecycle::Completed(instance)
                        | Lifecycle::Ended(instance, _)
                        | Lifecycle::CrashLoop(instance, _)
                        | Lifecycle::Backoff(instance, ..) = service.life.clone()
                        {
                            service.life = Lifecycle::Idle(instance);
                        }
                    } else if service.failure().is_some() || matches!(service.life, Lifecycle::Backoff(..)) {
                        service.second_chance();
                    }
                    self.record.stopped.retain(|stopped| stopped != name);
                }
                ServiceAction::Stop => {
                    service.wanted = DesiredState::Stopped;
                    self.record.asleep.retain(|asleep| asleep != name);
                    service.restart = None;
                    // One that has failed does not run either: its failure is no error any more.
                    service.life = match std::mem::replace(&mut service.life, Lifecycle::Absent) {
                        Lifecycle::Backoff(instance, ..) | Lifecycle::Ended(instance, _) | Lifecycle::CrashLoop(instance, _) => {
                            Lifecycle::Idle(instance)
                        }
                        Lifecycle::Failed(None, _) => Lifecycle::Absent,
                        Lifecycle::Failed(Some(instance), _) => Lifecycle::Running(instance),
                        other => other,
                    };
                    if !self.record.stopped.contains(name) {
                        self.record.stopped.push(name.clone());
                    }
                }
            }
            if matches!(service.operation, Some(Operation::Settle | Operation::Swap)) {
                self.stop_watching(name);
            }
        }
        self.save()?;
        Ok(self.revision + 1)
    }
}
