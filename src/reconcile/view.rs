//! The view of an environment that callers get: published after each input of its task.

use std::{collections::HashSet, net::SocketAddrV4};

use devenv_api::{Phase, Port, Service as ServiceView, ServiceState, Status};
use devenv_spec::{Probe, ServiceName, Sleep, Workload};

use super::{
    plan,
    state::{DesiredState, Failure, Lifecycle, Network, Operation, Service, State},
};
use crate::{
    net::Gate,
    store::{Goal, Record},
};

/// One environment after one input.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Counts the views; the answer to a command names the first view that reflects it.
    pub(crate) revision: u64,
    pub(crate) goal: Goal,
    pub(crate) status: Status,
    /// Where its metrics are scraped.
    pub(crate) metrics_address: Option<SocketAddrV4>,
    /// The subnet of its networks.
    pub(crate) subnet: Option<ipnet::Ipv4Net>,
    /// Services that do not continue by themselves: those that are as requested, and those that failed for good.
    pub(crate) settled: HashSet<ServiceName>,
    /// Services that have answered in their current start and are not ready yet.
    answered: HashSet<ServiceName>,
    pub(crate) failures: Vec<FailedService>,
    /// Services that should run and cannot start, because a dependency cannot become ready by itself.
    pub(crate) blocked: Vec<BlockedService>,
    /// The environment itself cannot continue.
    pub(crate) stuck: Option<String>,
    /// Nothing goes on until the engine answers again.
    pub(crate) engine_lost: bool,
    /// The services whose ports the daemon holds.
    pub(crate) fronted: Vec<FrontedService>,
}

/// A service whose ports the daemon holds, so that a connection can wake it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrontedService {
    pub(crate) name: ServiceName,
    pub(crate) sleep: Sleep,
    /// Host ports with those of the container. None, if nothing listens: it is not asked for, or has failed.
    pub(crate) ports: Vec<(u16, u16)>,
    pub(crate) container: Option<String>,
    pub(crate) gate: Gate,
    /// A container needs it that does not sleep.
    pub(crate) stays_awake: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct FailedService {
    pub(crate) name: ServiceName,
    pub(crate) optional: bool,
    pub(crate) failure: Failure,
}

#[derive(Debug, Clone)]
pub(crate) struct BlockedService {
    pub(crate) name: ServiceName,
    pub(crate) optional: bool,
    pub(crate) on: ServiceName,
    /// A clause: `which failed: exit code 3`.
    pub(crate) why: String,
}

impl View {
    pub(crate) fn of(revision: u64, state: &State, record: &Record) -> Self {
        let services: Vec<ServiceView> = state
            .services
            .iter()
            .map(|(name, known)| {
                let view = if state.engine_answers { service(known) } else { unreachable(service(known)) };
                let waits = view.reason.is_none() && view.state == ServiceState::Pending;
                let blocker = waits.then(|| plan::hopeless(state, name)).flatten();
                ServiceView { reason: view.reason.or_else(|| blocker.map(|(on, why)| format!("it depends on {on}, {why}"))), ..view }
            })
            .collect();
        let status = Status {
            environment: record.id.as_str().to_owned(),
            project: record.project.display().to_string(),
            instance: record.instance.clone(),
            profile: record.spec.as_ref().map(|spec| spec.profile.clone()),
            phase: phase(state),
            services,
            elapsed_ms: None,
            drift: Vec::new(),
            faults: Vec::new(),
            operations: Vec::new(),
            overridden: record.spec.as_ref().map(|spec| spec.overridden.clone()).unwrap_or_default(),
            project_gone: false,
            subnet: None,
            timings: None,
        };
        Self {
            revision,
            goal: state.goal,
            status,
            subnet: record.subnet,
            metrics_address: record.spec.as_ref().and_then(|spec| spec.metrics_address),
            settled: state.services.iter().filter(|(_, service)| service.settled()).map(|(name, _)| name.clone()).collect(),
            answered: state.services.iter().filter(|(_, service)| service.has_answered()).map(|(name, _)| name.clone()).collect(),
            failures: state
                .services
                .iter()
                // What is to be removed concerns nobody any more, unless it cannot be stopped.
                .filter(|(_, service)| service.wanted != DesiredState::Gone || matches!(service.life, Lifecycle::Unstoppable(..)))
                .filter_map(|(name, service)| {
                    let failure = service.failure()?.clone();
                    Some(FailedService { name: name.clone(), optional: service.spec.optional, failure })
                })
                .collect(),
            blocked: state
                .services
                .iter()
                .filter(|(_, service)| {
                    service.wanted == DesiredState::Running && service.operation.is_none() && service.failure().is_none()
                })
                .filter(|(_, service)| matches!(service.life, Lifecycle::Idle(_) | Lifecycle::Backoff(..)))
                .filter_map(|(name, service)| {
                    let (on, why) = plan::hopeless(state, name)?;
                    Some(BlockedService { name: name.clone(), optional: service.spec.optional, on, why })
                })
                .collect(),
            stuck: match &state.network {
                Network::Failed { reason } => Some(reason.clone()),
                Network::Absent | Network::Coming | Network::Present { .. } | Network::Going => None,
            },
            engine_lost: !state.engine_answers,
            fronted: all_fronted(state),
        }
    }

    /// The environment's task has ended by a bug: nothing in it continues.
    pub(super) fn fail(&mut self) {
        self.revision += 1;
        self.status.phase = Phase::Failed;
        self.stuck = Some("its task in the daemon ended by a bug; `daemon.log` in the state directory says which".to_owned());
    }

    /// Whether its program is done with starting, as far as it can be seen: what it writes from now on it writes while it runs.
    pub(crate) fn has_started(&self, name: &ServiceName) -> bool {
        self.settled.contains(name) || self.answered.contains(name)
    }

    pub(crate) fn has_settled(&self, name: &ServiceName) -> bool {
        self.settled.contains(name)
    }

    /// What keeps a service from starting and will not change by itself.
    pub(crate) fn blocked_by(&self, name: &str) -> Option<&BlockedService> {
        self.blocked.iter().find(|blocked| blocked.name.as_str() == name)
    }

    /// The named services that failed for good (all that are not optional, if none is named).
    pub(crate) fn failures_of(&self, names: &[ServiceName]) -> impl Iterator<Item = &FailedService> {
        self.failures.iter().filter(|failed| is_concerned(names, &failed.name, failed.optional))
    }

    /// The named services that cannot start because of another one (all that are not optional, if none is named).
    pub(crate) fn blocked_of(&self, names: &[ServiceName]) -> impl Iterator<Item = &BlockedService> {
        self.blocked.iter().filter(|blocked| is_concerned(names, &blocked.name, blocked.optional))
    }

    /// Whether the service does not continue by itself: it is as requested, has failed, or waits for something that cannot happen.
    pub(super) fn is_over(&self, name: &str) -> bool {
        self.settled.contains(name) || self.blocked_by(name).is_some()
    }

    /// Services that wait for a dependency that may still become ready, with nothing in progress that ends in a limited time.
    pub(crate) fn only_waits(&self) -> Vec<&str> {
        let services = || self.status.services.iter();
        let late = |state| matches!(state, ServiceState::Pending | ServiceState::Unhealthy | ServiceState::Unreachable);
        if services().any(|service| !self.is_over(&service.name) && !late(service.state)) {
            return Vec::new();
        }
        services().filter(|service| !self.is_over(&service.name)).map(|service| service.name.as_str()).collect()
    }

    pub(crate) fn all_settled(&self) -> bool {
        self.status.services.iter().all(|service| self.is_over(&service.name))
    }
}

fn is_concerned(names: &[ServiceName], name: &ServiceName, optional: bool) -> bool {
    if names.is_empty() { !optional } else { names.contains(name) }
}

fn all_fronted(state: &State) -> Vec<FrontedService> {
    if state.services.values().all(|service| service.spec.sleep.is_none()) {
        return Vec::new();
    }
    let kept = plan::asleep::kept_awake(state);
    state.services.values().filter_map(|service| fronted(state, service, kept.contains(&service.spec.name))).collect()
}

fn fronted(state: &State, service: &Service, stays_awake: bool) -> Option<FrontedService> {
    let sleep = service.spec.sleep?;
    let gate = match (service.wanted, &service.life) {
        (DesiredState::Asleep, _) => Gate::Asleep,
        (DesiredState::Running, Lifecycle::Ready(..) | Lifecycle::Unhealthy(..)) if service.operation.is_none() => Gate::Serve,
        (DesiredState::Running, Lifecycle::Unhealthy(..)) => Gate::Serve,
        _ => Gate::Wait,
    };
    let listens = state.goal == Goal::Up
        && match service.wanted {
            DesiredState::Asleep => true,
            DesiredState::Running => {
                service.life.instance().is_some() && service.failure().is_none() && !matches!(service.life, Lifecycle::Completed(_))
            }
            DesiredState::Stopped | DesiredState::Gone => false,
        };
    Some(FrontedService {
        name: service.spec.name.clone(),
        sleep,
        ports: service.spec.fronted_ports().filter(|_| listens).map(|port| (port.host, port.container)).collect(),
        container: service.life.instance().map(|instance| instance.id.clone()),
        gate,
        stays_awake,
    })
}

/// Whether something sleeps and no container is to be awake. Processes do not sleep.
fn sleeps(state: &State) -> bool {
    let is_awake = |service: &Service| {
        service.wanted == DesiredState::Running && service.spec.container().is_some() && !matches!(service.life, Lifecycle::Completed(_))
    };
    state.services.values().any(|service| service.wanted == DesiredState::Asleep) && !state.services.values().any(is_awake)
}

fn phase(state: &State) -> Phase {
    let services = || state.services.values();
    let exists = services().any(|service| service.life != Lifecycle::Absent || service.operation.is_some());
    if state.goal != Goal::Up {
        return if exists || state.network != Network::Absent { Phase::Stopping } else { Phase::Absent };
    }
    let required = || services().filter(|service| !service.spec.optional && service.wanted == DesiredState::Running);
    if !exists && services().next().is_none() {
        Phase::Absent
    } else if services().any(|service| matches!(service.life, Lifecycle::Unstoppable(..))) {
        Phase::Failed
    } else if sleeps(state) && !required().any(|service| service.failure().is_some()) {
        let falls = services().any(|service| service.wanted == DesiredState::Asleep && !service.settled());
        if falls { Phase::Stopping } else { Phase::Asleep }
    } else if required().next().is_none() && services().all(|service| service.wanted != DesiredState::Running) {
        if services().any(|service| service.life.runs()) { Phase::Stopping } else { Phase::Stopped }
    } else if required().any(|service| service.failure().is_some()) || matches!(state.network, Network::Failed { .. }) {
        Phase::Failed
    } else if required().all(|service| matches!(service.life, Lifecycle::Ready(..) | Lifecycle::Completed(_))) {
        let unknown = !state.engine_answers && required().any(|service| service.spec.container().is_some() && service.life.runs());
        if unknown { Phase::Degraded } else { Phase::Ready }
    } else if required().any(|service| matches!(service.life, Lifecycle::Unhealthy(..) | Lifecycle::Backoff(..)) || service.came_back) {
        Phase::Degraded
    } else {
        Phase::Starting
    }
}

fn service(service: &Service) -> ServiceView {
    let instance = service.life.instance().filter(|instance| !instance.id.is_empty());
    let address = |container: u16, host: u16, address: &str| Port { container, host, address: address.to_owned() };
    let (container, pid, image, ports) = match &service.spec.workload {
        Workload::Container(spec) => (
            instance.map(|instance| instance.id.clone()),
            None,
            Some(spec.image.name().to_owned()),
            spec.ports.iter().map(|port| address(port.container, port.host, &port.address)).collect(),
        ),
        Workload::Process(spec) => (
            None,
            instance.filter(|_| service.life.runs()).and_then(|instance| instance.id.parse().ok()),
            None,
            spec.ports.iter().map(|port| address(*port, *port, "127.0.0.1")).collect(),
        ),
    };
    ServiceView {
        name: service.spec.name.as_str().to_owned(),
        kind: service.spec.kind.clone(),
        state: state_of(service),
        reason: reason(service),
        ready_after_ms: service.ready_after.map(|duration| duration.as_millis() as u64),
        restarts: service.restarts,
        optional: service.spec.optional.then_some(true),
        container,
        pid,
        image,
        ports,
        urls: service.spec.urls.clone(),
        depends_on: service.spec.depends_on.iter().map(|(name, condition)| (name.as_str().to_owned(), *condition)).collect(),
    }
}

/// A container that ran when the engine last answered.
fn unreachable(service: ServiceView) -> ServiceView {
    let ran = matches!(service.state, ServiceState::Starting | ServiceState::Provisioning | ServiceState::Ready | ServiceState::Unhealthy);
    if !ran || service.container.is_none() {
        return service;
    }
    let reason = Some("the engine does not answer, so its state is not known".to_owned());
    ServiceView { state: ServiceState::Unreachable, reason, ..service }
}

fn state_of(service: &Service) -> ServiceState {
    match service.operation {
        Some(Operation::Image) => return ServiceState::Pulling,
        Some(Operation::Create) => return ServiceState::Creating,
        Some(Operation::Start | Operation::Thaw) => return ServiceState::Starting,
        Some(Operation::Stop | Operation::Freeze | Operation::Remove) => return ServiceState::Stopping,
        Some(Operation::Examine) => return ServiceState::Unhealthy,
        // During a swap the old version serves.
        Some(Operation::Settle | Operation::Swap) | None => {}
    }
    match &service.life {
        Lifecycle::Absent | Lifecycle::Idle(_) if service.wanted == DesiredState::Running => ServiceState::Pending,
        Lifecycle::Absent | Lifecycle::Idle(_) if service.wanted == DesiredState::Asleep => ServiceState::Asleep,
        Lifecycle::Absent | Lifecycle::Idle(_) => ServiceState::Stopped,
        Lifecycle::Frozen(..) if service.wanted == DesiredState::Running => ServiceState::Starting,
        Lifecycle::Frozen(..) => ServiceState::Asleep,
        Lifecycle::Running(_) if service.provisioning => ServiceState::Provisioning,
        Lifecycle::Running(_) | Lifecycle::Backoff(..) => ServiceState::Starting,
        Lifecycle::Ready(..) => ServiceState::Ready,
        Lifecycle::Unhealthy(..) => ServiceState::Unhealthy,
        Lifecycle::Completed(_) => ServiceState::Completed,
        Lifecycle::Failed(..) | Lifecycle::Ended(..) | Lifecycle::Unstoppable(..) => ServiceState::Failed,
        Lifecycle::CrashLoop(..) => ServiceState::CrashLoop,
    }
}

fn reason(service: &Service) -> Option<String> {
    match &service.life {
        Lifecycle::Failed(_, failure)
        | Lifecycle::Ended(_, failure)
        | Lifecycle::CrashLoop(_, failure)
        | Lifecycle::Unstoppable(_, failure) => Some(failure.reason.clone()),
        Lifecycle::Unhealthy(_, reason) | Lifecycle::Backoff(_, _, reason) => Some(reason.clone()),
        Lifecycle::Frozen(..) if service.wanted == DesiredState::Asleep => Some("frozen until a client connects".to_owned()),
        Lifecycle::Absent | Lifecycle::Idle(_) if service.wanted == DesiredState::Asleep => {
            Some("stopped until a client connects".to_owned())
        }
        _ if service.held_back.is_some() => service.held_back.clone(),
        Lifecycle::Ready(..) if service.spec.probe == Probe::None => {
            Some("running; it has no `probe`, so its readiness is unknown".to_owned())
        }
        Lifecycle::Absent
        | Lifecycle::Idle(_)
        | Lifecycle::Running(_)
        | Lifecycle::Ready(..)
        | Lifecycle::Frozen(..)
        | Lifecycle::Completed(_) => None,
    }
}
