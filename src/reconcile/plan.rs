//! Decides what to do next, purely: the state goes in, operations come out.

pub(crate) mod asleep;

use std::{collections::BTreeMap, time::Instant};

use devenv_api::{Action, Condition, Consequence, Plan, Step};
use devenv_spec::{EnvironmentSpec, RestartWhen, ServiceName, ServiceSpec, Workload, differences};
use indexmap::IndexMap;

use super::state::{DesiredState, ImageState, Lifecycle, Network, Operation, RestartReason, Service, State};
use crate::store::Goal;

/// The prefix of the reason for a changed image build.
const CONTENT: &str = "image.built.content:";

/// One thing to start now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    CreateNetwork,
    /// Everything of the environment is removed except its network.
    RemoveNetwork,
    Operate(ServiceName, Operation),
}

/// All operations that can start now. The caller marks them as in progress, so calling it again
/// at once returns nothing.
pub(crate) fn next(state: &State, now: Instant) -> Vec<Next> {
    if !state.engine_answers {
        return Vec::new();
    }
    let mut steps = Vec::new();
    let wants_network =
        state.services.values().any(|service| service.wanted == DesiredState::Running && service.spec.container().is_some());
    if wants_network && state.network == Network::Absent {
        steps.push(Next::CreateNetwork);
    }
    for (name, service) in &state.services {
        if service.operation.is_none()
            && let Some(operation) = operation(state, name, service, now)
        {
            steps.push(Next::Operate(name.clone(), operation));
        }
    }
    let gone = state.services.values().all(|service| service.life == Lifecycle::Absent && service.operation.is_none());
    if state.goal != Goal::Up && gone && matches!(state.network, Network::Present { .. } | Network::Failed { .. }) {
        steps.push(Next::RemoveNetwork);
    }
    steps
}

/// The time after `now` at which something is due without any other input. What is due already and was not started does not
/// wait for time.
pub(crate) fn next_wake(state: &State, now: Instant) -> Option<Instant> {
    state
        .services
        .values()
        .filter(|service| service.operation.is_none() && service.wanted == DesiredState::Running)
        .filter_map(|service| match service.life {
            Lifecycle::Backoff(_, until, _) => Some(until),
            _ => None,
        })
        .filter(|until| *until > now)
        .min()
}

fn operation(state: &State, name: &ServiceName, service: &Service, now: Instant) -> Option<Operation> {
    if matches!(service.life, Lifecycle::Frozen(..)) {
        // Whatever comes next, nothing can be done with it before.
        return (service.wanted != DesiredState::Asleep || !service.freezes()).then_some(Operation::Thaw);
    }
    match service.wanted {
        // One attempt was enough, until it ends or another request comes.
        DesiredState::Running | DesiredState::Stopped | DesiredState::Asleep if matches!(service.life, Lifecycle::Unstoppable(..)) => None,
        DesiredState::Running => {
            towards_running(state, service, now).filter(|operation| *operation != Operation::Start || ports_are_free(state, name, service))
        }
        DesiredState::Asleep if service.freezes() && asleep::can_be_frozen(&service.life) => {
            may_stop(state, name).then_some(Operation::Freeze)
        }
        DesiredState::Stopped | DesiredState::Asleep => (service.life.runs() && may_stop(state, name)).then_some(Operation::Stop),
        DesiredState::Gone => match &service.life {
            Lifecycle::Absent => None,
            // It is removed by force.
            Lifecycle::Failed(None, _) | Lifecycle::Unstoppable(..) => Some(Operation::Remove),
            life if life.runs() => may_stop(state, name).then_some(Operation::Stop),
            _ => Some(Operation::Remove),
        },
    }
}

fn towards_running(state: &State, service: &Service, now: Instant) -> Option<Operation> {
    let runs = service.life.runs();
    if service.restart == Some(RestartReason::Swap) && matches!(service.life, Lifecycle::Ready(..)) && !service.outdated() {
        return Some(Operation::Swap);
    }
    if service.outdated() || service.restart.is_some() {
        // Without a running instance, a restart is just a start.
        if runs {
            return Some(Operation::Stop);
        }
        if service.outdated() {
            return Some(Operation::Remove);
        }
    }
    match &service.life {
        Lifecycle::Absent => match service.image {
            ImageState::Unknown if service.spec.container().is_some() => Some(Operation::Image),
            _ => match (&state.network, &service.spec.workload) {
                (Network::Present { .. }, Workload::Container(_)) | (_, Workload::Process(_)) => Some(Operation::Create),
                _ => None,
            },
        },
        Lifecycle::Idle(_) => dependencies_hold(state, &service.spec).then_some(Operation::Start),
        Lifecycle::Running(_) | Lifecycle::Unhealthy(..) => Some(Operation::Settle),
        Lifecycle::Backoff(_, until, _) => (*until <= now && dependencies_hold(state, &service.spec)).then_some(Operation::Start),
        Lifecycle::Ready(..)
        | Lifecycle::Completed(_)
        | Lifecycle::Frozen(..)
        | Lifecycle::Failed(..)
        | Lifecycle::Ended(..)
        | Lifecycle::CrashLoop(..)
        | Lifecycle::Unstoppable(..) => None,
    }
}

/// Whether no other service still runs on a port of this one and is about to give it up: one that left the profile, perhaps under
/// another name, or is to be replaced.
fn ports_are_free(state: &State, name: &ServiceName, service: &Service) -> bool {
    let ports = service.spec.ports();
    state.services.iter().filter(|(other, _)| *other != name).all(|(_, other)| {
        let gives_up = other.wanted != DesiredState::Running || other.outdated();
        let runs = other.life.runs() || matches!(other.operation, Some(Operation::Stop | Operation::Remove));
        let meets = || other.made_from().ports().values().any(|port| ports.values().any(|wanted| wanted == port));
        // What cannot be stopped says so itself, and the start then says who has the port.
        let stuck = matches!(other.life, Lifecycle::Unstoppable(..));
        !(gives_up && runs && !stuck && meets())
    })
}

fn dependencies_hold(state: &State, spec: &ServiceSpec) -> bool {
    spec.depends_on.iter().all(|(name, condition)| state.services.get(name).is_none_or(|dependency| holds(dependency, *condition)))
}

fn holds(dependency: &Service, condition: Condition) -> bool {
    // An optional service must not delay another optional one.
    if dependency.spec.optional && dependency.failure().is_some() {
        return true;
    }
    match condition {
        Condition::Ready => matches!(dependency.life, Lifecycle::Ready(..) | Lifecycle::Completed(_)),
        Condition::Started => {
            matches!(dependency.life, Lifecycle::Running(_) | Lifecycle::Ready(..) | Lifecycle::Unhealthy(..) | Lifecycle::Completed(_))
        }
        Condition::Completed => matches!(dependency.life, Lifecycle::Completed(_)),
    }
}

/// The dependency that keeps a service from starting, and why that cannot change by itself; `None` if it can.
pub(crate) fn hopeless(state: &State, name: &ServiceName) -> Option<(ServiceName, String)> {
    let mut seen = vec![name];
    let mut next = 0;
    while let Some(current) = seen.get(next).copied() {
        next += 1;
        let Some(service) = state.services.get(current) else { continue };
        for (on, condition) in &service.spec.depends_on {
            let Some(dependency) = state.services.get(on).filter(|dependency| !holds(dependency, *condition)) else { continue };
            if let Some(failure) = dependency.failure() {
                return Some((on.clone(), format!("which failed: {}", failure.reason)));
            }
            if dependency.wanted == DesiredState::Stopped {
                return Some((on.clone(), format!("which is stopped; run `devenv start {on}`")));
            }
            let settles = dependency.operation.is_none() && matches!(dependency.life, Lifecycle::Ready(..));
            if *condition == Condition::Completed && settles && dependency.spec.restart.policy == RestartWhen::Always {
                return Some((on.clone(), "which never completes, because it is started again whenever it ends".to_owned()));
            }
            if !seen.contains(&on) {
                seen.push(on);
            }
        }
    }
    None
}

/// In reverse order: nothing is stopped under a running dependant that must stop as well.
fn may_stop(state: &State, name: &ServiceName) -> bool {
    state.dependants(name).all(|(_, dependant)| {
        dependant.wanted == DesiredState::Running
            || (dependant.wanted == DesiredState::Asleep && matches!(dependant.life, Lifecycle::Frozen(..)))
            || !(dependant.life.runs() || dependant.operation == Some(Operation::Stop) || dependant.operation == Some(Operation::Start))
    })
}

/// What `up` with this spec would do: one step for each service, with the consequence and the reason.
pub(crate) fn preview(
    state: &State,
    wanted: &IndexMap<ServiceName, ServiceSpec>,
    applied: &BTreeMap<ServiceName, Workload>,
    rebuilds: &BTreeMap<ServiceName, String>,
) -> Plan {
    let mut steps: Vec<Step> = wanted
        .iter()
        .map(|(name, spec)| match state.services.get(name) {
            None => step(name, Action::Create, Consequence::None, "it does not exist yet"),
            Some(service) => preview_service(name, spec, service, applied.get(name), rebuilds.get(name)),
        })
        .collect();
    for (name, service) in &state.services {
        if !wanted.contains_key(name) && service.life != Lifecycle::Absent {
            steps.push(step(name, Action::Remove, Consequence::None, "the profile no longer contains it; its data is kept"));
        }
    }
    Plan { steps, host_powers: Vec::new(), overridden: Vec::new(), scripts: Vec::new() }
}

/// The same for an environment without resources.
pub(crate) fn preview_new(spec: &EnvironmentSpec) -> Plan {
    preview(&State::new(Goal::Down), &spec.services, &BTreeMap::new(), &BTreeMap::new())
}

fn preview_service(
    name: &ServiceName,
    spec: &ServiceSpec,
    service: &Service,
    applied: Option<&Workload>,
    rebuild: Option<&String>,
) -> Step {
    let Some(instance) = service.life.instance() else {
        return step(name, Action::Create, Consequence::None, "it does not exist yet");
    };
    if instance.hash != spec.hash() {
        let reason = match applied.map(|before| differences(before, &spec.workload)) {
            Some(mut found) if !found.is_empty() => {
                for difference in &mut found {
                    if difference.starts_with(CONTENT) {
                        *difference = rebuild.cloned().unwrap_or_else(|| "rebuild: files of its build context changed".to_owned());
                    }
                }
                found.join("; ")
            }
            _ => "its specification changed".to_owned(),
        };
        return step(name, Action::Recreate, Consequence::Recreate, &reason);
    }
    match &service.life {
        Lifecycle::Failed(_, failure)
        | Lifecycle::Ended(_, failure)
        | Lifecycle::CrashLoop(_, failure)
        | Lifecycle::Unstoppable(_, failure) => step(name, Action::Start, Consequence::None, &failure.reason),
        life if life.runs() && service.spec.provision != spec.provision => {
            step(name, Action::None, Consequence::None, "what it declares is provisioned while it runs")
        }
        life if life.runs() => step(name, Action::None, Consequence::None, "it runs as the profile says"),
        Lifecycle::Completed(_) => step(name, Action::None, Consequence::None, "it has completed"),
        _ => step(name, Action::Start, Consequence::None, "it is stopped"),
    }
}

fn step(name: &ServiceName, action: Action, consequence: Consequence, reason: &str) -> Step {
    Step { service: name.as_str().to_owned(), action, consequence, reason: reason.to_owned() }
}

/// Services that must be restarted (or signalled) because the supervisor restarted this one.
pub(crate) fn affected_by(state: &State, name: &ServiceName) -> Vec<ServiceName> {
    state
        .dependants(name)
        .filter(|(_, dependant)| {
            dependant.wanted == DesiredState::Running && dependant.life.runs() && dependant.restart != Some(RestartReason::Asked)
        })
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests;
