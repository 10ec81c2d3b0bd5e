//! Observations: what exists already, and what the engine reports.

use std::collections::HashMap;

use devenv_engine::{ContainerState, EngineEvent, EngineEventKind};
use devenv_spec::{ContainerSpec, ProcessSpec, Resources, RestartWhen, ServiceName, ServiceSpec, SpecHash, Workload};
use indexmap::IndexMap;
use tokio::time::Instant;

use super::{Actor, Outcome};
use crate::{
    event::NewEvent,
    reconcile::{
        execute::{self, Observed, ObservedProcess},
        state::{DesiredState, Instance, Lifecycle, MissedEvent, Network, Operation},
    },
    store::Goal,
};

impl Actor {
    /// Adopts what an earlier daemon left: the goal from the record, the rest from the engine.
    pub(super) fn begin(&mut self, observed: Observed) {
        if let Some(spec) = self.record.spec.clone() {
            self.state.adopt_spec(&spec.services, &[], None);
            for (name, service) in &mut self.state.services {
                service.moved = self.record.moved.contains(name);
                service.wanted = match self.record.goal {
                    Goal::Up if self.record.stopped.contains(name) => DesiredState::Stopped,
                    Goal::Up if self.record.asleep.contains(name) => DesiredState::Asleep,
                    Goal::Up => DesiredState::Running,
                    Goal::Down | Goal::DownWithVolumes => DesiredState::Gone,
                };
            }
        }
        self.observe(observed);
    }

    pub(super) fn engine_event(&mut self, event: &EngineEvent) {
        let Some(name) = self
            .state
            .services
            .iter()
            .find(|(_, service)| service.life.instance().is_some_and(|instance| instance.id == event.container))
            .map(|(name, _)| name.clone())
        else {
            return;
        };
        let service = self.state.services.get_mut(&name).expect("just found");
        match &event.kind {
            EngineEventKind::Died { .. } if !service.start_heard => {}
            EngineEventKind::Died { code } => self.died(&name, *code),
            EngineEventKind::Removed => self.removed_by_others(&name),
            EngineEventKind::Started => {
                service.start_heard = true;
                self.started_by_others(&name);
            }
            EngineEventKind::OutOfMemory => {
                self.emit(&name, "service.out-of-memory", format!("{name} ran out of memory"));
            }
            // Its own operation reports it, once it is so.
            EngineEventKind::Paused | EngineEventKind::Unpaused if service.freezes() => {}
            EngineEventKind::Paused => {
                self.emit(&name, "service.paused", format!("{name} was paused"));
            }
            EngineEventKind::Unpaused => {
                self.emit(&name, "service.unpaused", format!("{name} was resumed after a pause"));
            }
        }
    }

    /// The end of a process that runs only for a moment may be reported before its start.
    pub(super) fn process_ended(&mut self, name: &ServiceName, pid: u32, code: i64) {
        let Some(service) = self.state.services.get_mut(name) else { return };
        if service.life.instance().is_some_and(|instance| instance.id == pid.to_string()) {
            self.died(name, code);
        } else if service.operation == Some(Operation::Start) {
            service.ended_early = Some(pid);
        }
    }

    pub(super) fn died(&mut self, name: &ServiceName, code: i64) {
        let service = self.state.services.get_mut(name).expect("found by the caller");
        match service.operation {
            // It was requested: the operation's end reports it. An object that is being created has not run yet.
            Some(Operation::Stop | Operation::Remove | Operation::Image | Operation::Create) => return,
            // It may have ended before its start was answered; and one that is being examined may have been started again by
            // someone else.
            Some(Operation::Start | Operation::Swap | Operation::Examine | Operation::Freeze | Operation::Thaw) => {
                service.meanwhile.get_or_insert(MissedEvent::Ended);
                return;
            }
            Some(Operation::Settle) | None => {}
        }
        if !service.life.runs() || service.meanwhile.is_some() {
            return;
        }
        service.cause = Some(self.events.emit(
            NewEvent::of(name, "service.ended", format!("{name} exited with code {code}")).with("exit_code", code).because(service.cause),
        ));
        let settles = service.operation.is_some();
        if settles {
            service.meanwhile = Some(MissedEvent::Ended);
        }
        self.stop_watching(name);
        if !settles {
            self.operate(name.clone(), Operation::Examine);
        }
    }

    fn removed_by_others(&mut self, name: &ServiceName) {
        let service = self.state.services.get_mut(name).expect("found by the caller");
        if service.operation == Some(Operation::Remove) || service.meanwhile == Some(MissedEvent::Removed) {
            return;
        }
        service.cause = Some(self.events.emit(
            NewEvent::of(name, "service.removed", format!("the container of {name} was removed outside of devenv")).because(service.cause),
        ));
        let operates = service.operation.is_some();
        if operates {
            service.meanwhile = Some(MissedEvent::Removed);
        }
        self.stop_watching(name);
        if !operates {
            self.is_gone(name);
        }
    }

    fn started_by_others(&mut self, name: &ServiceName) {
        let service = self.state.services.get_mut(name).expect("found by the caller");
        if service.operation.is_some() || service.life.runs() {
            return;
        }
        if let Some(instance) = service.life.instance().cloned() {
            service.life = Lifecycle::Running(instance);
            service.started = Some(Instant::now().into_std());
            self.emit(name, "service.started", format!("{name} was started outside of devenv"));
        }
    }

    /// An operation could not reach the engine. The event stream need not have been interrupted, if the outage was short.
    pub(super) fn engine_is_gone(&mut self) {
        if !std::mem::replace(&mut self.state.engine_answers, false) {
            return;
        }
        let (effects, id) = (self.effects.clone(), self.record.id.clone());
        self.start(None, async move { Outcome::EngineBack(effects.look_until_it_answers(&id).await) });
    }

    pub(super) fn engine_is_back(&mut self, observed: Observed) {
        if !std::mem::replace(&mut self.state.engine_answers, true) {
            self.events.emit(NewEvent::new("engine.back", "the engine answers again"));
        }
        self.observe(observed);
    }

    /// Accepts the observed state. Services with an operation in progress get it when that ends.
    pub(super) fn observe(&mut self, observed: Observed) {
        if !matches!(self.state.network, Network::Coming | Network::Going) {
            self.state.network = match execute::choose(observed.networks, self.record.subnet).0 {
                Some(network) => Network::Present { id: network.id },
                None => Network::Absent,
            };
        }
        let mut found: HashMap<ServiceName, (Instance, ContainerState)> = HashMap::new();
        let mut of_other_sort: Vec<ServiceName> = Vec::new();
        for container in observed.containers {
            let Some(name) = container.labels.service.clone() else { continue };
            if container.labels.role.is_some() {
                continue;
            }
            let hash = container.labels.spec.clone().unwrap_or_else(|| SpecHash::recorded("unknown"));
            let run = self.effects.runtime.last_run(&name);
            if self.state.services.get(&name).is_some_and(|service| service.spec.container().is_none()) {
                of_other_sort.push(name.clone());
            }
            found.insert(name, (Instance { id: container.id, hash, run }, container.state));
        }
        let looked_at_processes = observed.processes.is_some();
        for (name, process) in observed.processes.into_iter().flatten() {
            let Some(service) = self.state.services.get(&name) else { continue };
            if found.contains_key(&name) {
                // Its container is removed first; the process is found again when its port is taken, or by its own end.
                continue;
            }
            let is_process = service.spec.container().is_none();
            if !is_process && matches!(process, ObservedProcess::Ended { .. }) {
                continue;
            }
            let hash = if is_process { service.spec.hash() } else { SpecHash::recorded("a process") };
            if !is_process {
                of_other_sort.push(name.clone());
            }
            let (instance, state) = match process {
                ObservedProcess::Running { pid, run } => (Instance { id: pid.to_string(), hash, run }, ContainerState::Running { pid }),
                ObservedProcess::Ended { code, run } => {
                    let state = ContainerState::Exited { code, out_of_memory: false, error: None, finished_at: String::new() };
                    (Instance { id: String::new(), hash, run }, state)
                }
            };
            found.insert(name, (instance, state));
        }
        for name in &of_other_sort {
            if let Some(service) = self.state.services.get_mut(name) {
                service.former = Some(Box::new(of_the_other_sort(&service.spec)));
            }
        }
        let names: Vec<ServiceName> = self
            .state
            .services
            .iter()
            .filter(|(_, service)| looked_at_processes || service.made_from().container().is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let there = found.remove(&name);
            self.observe_service(&name, there);
        }
    }

    fn observe_service(&mut self, name: &ServiceName, there: Option<(Instance, ContainerState)>) {
        let service = self.state.services.get_mut(name).expect("listed by the caller");
        // Events in between were missed.
        service.start_heard = true;
        if service.operation == Some(Operation::Settle) && service.spec.container().is_some() {
            // It would continue to probe a container that does not exist.
            match there {
                None => self.removed_by_others(name),
                Some((_, ContainerState::Exited { code, .. })) => self.died(name, code),
                Some(_) => {}
            }
            return;
        }
        if service.operation.is_some() {
            return;
        }
        let Some((instance, state)) = there else {
            if service.life != Lifecycle::Absent {
                service.life = Lifecycle::Absent;
            }
            return;
        };
        match state {
            ContainerState::Paused { .. } if self.record.frozen.contains(name) => {
                let same = service.life.instance().is_some_and(|known| known.id == instance.id);
                if !(same && matches!(service.life, Lifecycle::Frozen(..))) {
                    self.effects.runtime.keep_output(service.made_from(), &instance);
                    service.life = Lifecycle::Frozen(instance, None);
                }
            }
            ContainerState::Running { .. } if matches!(service.life, Lifecycle::Frozen(..)) => service.life = Lifecycle::Running(instance),
            ContainerState::Running { .. } | ContainerState::Paused { .. } | ContainerState::Other(_) => {
                let same = service.life.runs() && service.life.instance().is_some_and(|known| known.id == instance.id);
                if !same {
                    self.effects.runtime.keep_output(service.made_from(), &instance);
                    service.life = Lifecycle::Running(instance);
                    service.started.get_or_insert_with(|| Instant::now().into_std());
                    self.emit(name, "service.adopted", format!("{name} is already running and was adopted"));
                }
            }
            ContainerState::Created => service.life = Lifecycle::Idle(instance),
            ContainerState::Exited { code, .. } => {
                if service.life.runs() {
                    self.died(name, code);
                } else if !matches!(
                    service.life,
                    Lifecycle::Backoff(..) | Lifecycle::Completed(_) | Lifecycle::Ended(..) | Lifecycle::CrashLoop(..)
                ) {
                    let policy = service.spec.restart.policy;
                    service.life = if code == 0 && policy != RestartWhen::Always && service.wanted == DesiredState::Running {
                        Lifecycle::Completed(instance)
                    } else {
                        Lifecycle::Idle(instance)
                    };
                }
            }
        }
    }
}

/// The specification for stopping a container of a service that is now a process, or the other way round.
fn of_the_other_sort(spec: &ServiceSpec) -> ServiceSpec {
    let workload = match &spec.workload {
        Workload::Process(_) => Workload::Container(ContainerSpec::new("")),
        Workload::Container(_) => Workload::Process(ProcessSpec {
            command: Vec::new(),
            directory: "/".into(),
            environment: IndexMap::new(),
            ports: Vec::new(),
            fronted: false,
            resources: Resources::default(),
        }),
    };
    ServiceSpec { workload, ..spec.clone() }
}
