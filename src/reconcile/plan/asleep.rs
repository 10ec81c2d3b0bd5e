//! Which services fall asleep together, and which wake together: whatever is awake has what it depends on. Pure.

use std::collections::HashSet;

use devenv_spec::ServiceName;

use crate::reconcile::state::{DesiredState, Lifecycle, Service, State};

/// What falls asleep if these services are to, all if none is named: they and what depends on them, as far as the profile
/// lets it sleep, and nothing that a container needs which stays awake.
pub(crate) fn falling_asleep(state: &State, names: &[ServiceName]) -> Vec<ServiceName> {
    let mut found: Vec<&ServiceName> = state.services.keys().filter(|name| names.is_empty() || names.contains(name)).collect();
    let mut next = 0;
    while let Some(current) = found.get(next).copied() {
        next += 1;
        for (dependant, _) in state.dependants(current) {
            if !found.contains(&dependant) {
                found.push(dependant);
            }
        }
    }
    found.retain(|name| may_sleep(&state.services[*name]));
    loop {
        let stays =
            |name: &&ServiceName| state.dependants(name).any(|(dependant, service)| !found.contains(&dependant) && needs_others(service));
        let Some(place) = found.iter().position(stays) else { break };
        found.remove(place);
    }
    state.services.keys().filter(|name| found.contains(name)).cloned().collect()
}

/// The sleeping services that wake with these, all if none is named: they and what they depend on. What no client can connect to
/// wakes with what it depends on: it may be the one that works on what a client leaves there.
pub(crate) fn waking(state: &State, names: &[ServiceName]) -> Vec<ServiceName> {
    let mut found: Vec<&ServiceName> = state.services.keys().filter(|name| names.is_empty() || names.contains(name)).collect();
    let mut next = 0;
    while let Some(current) = found.get(next).copied() {
        next += 1;
        let needed = state.services[current].spec.depends_on.keys().filter(|name| state.services.contains_key(*name));
        let workers = state.dependants(current).filter(|(_, dependant)| dependant.spec.fronted_ports().next().is_none());
        let workers = workers.filter(|(_, dependant)| dependant.wanted == DesiredState::Asleep).map(|(name, _)| name);
        for other in needed.chain(workers) {
            if !found.contains(&other) {
                found.push(other);
            }
        }
    }
    let sleeps = |name: &&ServiceName| state.services[*name].wanted == DesiredState::Asleep;
    state.services.keys().filter(|name| found.contains(name)).filter(sleeps).cloned().collect()
}

pub(super) fn can_be_frozen(life: &Lifecycle) -> bool {
    matches!(life, Lifecycle::Running(_) | Lifecycle::Ready(..) | Lifecycle::Unhealthy(..))
}

fn may_sleep(service: &Service) -> bool {
    service.spec.sleep.is_some()
        && service.wanted == DesiredState::Running
        && service.failure().is_none()
        && !matches!(service.life, Lifecycle::Completed(_))
}

/// Whether what it depends on must be awake: it runs in a container, whose connections to other services nobody sees, or is still to
/// start. A process that runs connects to ports that the daemon holds, and wakes what is behind them.
fn needs_others(service: &Service) -> bool {
    service.wanted == DesiredState::Running && if service.life.runs() { service.made_from().container().is_some() } else { comes(service) }
}

/// Whether it does not run and is to.
fn comes(service: &Service) -> bool {
    service.wanted == DesiredState::Running
        && !service.life.runs()
        && service.failure().is_none()
        && !matches!(service.life, Lifecycle::Completed(_))
}

/// What a container needs, directly or not, that stays awake.
pub(crate) fn kept_awake(state: &State) -> HashSet<&ServiceName> {
    let mut found = HashSet::new();
    let mut next: Vec<&Service> = state.services.values().filter(|service| !may_sleep(service) && needs_others(service)).collect();
    while let Some(service) = next.pop() {
        for (name, needed) in service.spec.depends_on.keys().filter_map(|name| state.services.get_key_value(name)) {
            if found.insert(name) && needs_others(needed) {
                next.push(needed);
            }
        }
    }
    found
}

/// Services that are to start and need something that sleeps.
pub(crate) fn held_up(state: &State) -> Vec<ServiceName> {
    if state.services.values().all(|service| service.wanted != DesiredState::Asleep) {
        return Vec::new();
    }
    let sleeps = |name: &ServiceName| state.services.get(name).is_some_and(|service| service.wanted == DesiredState::Asleep);
    let needs = |service: &&Service| comes(service) && service.spec.depends_on.keys().any(sleeps);
    state.services.values().filter(needs).map(|service| service.spec.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use devenv_spec::{Condition, ContainerSpec, Probe, PublishedPort, Sleep, SleepMode, Workload};

    use super::*;
    use crate::{reconcile::state::Instance, store::Goal};

    /// `api` needs `db`; `worker`, which has no port, needs `queue`; all run and may sleep.
    fn shop() -> State {
        let mut state = State::new(Goal::Up);
        for (name, needs, port) in [("db", None, 1), ("queue", None, 2), ("api", Some("db"), 3), ("worker", Some("queue"), 0)] {
            let mut container = ContainerSpec::new("data:1");
            container.fronted = port > 0;
            container.ports = (port > 0).then(|| PublishedPort::local(port, port)).into_iter().collect();
            let mut spec = crate::reconcile::plan::tests::spec(name, &[]);
            spec.depends_on = needs.map(|needs| (needs.parse().unwrap(), Condition::Ready)).into_iter().collect();
            spec.workload = Workload::Container(container);
            spec.probe = Probe::None;
            spec.sleep = Some(Sleep { after: None, mode: SleepMode::Freeze });
            let instance = Instance { id: name.to_owned(), hash: spec.hash(), run: 1 };
            let mut service = Service::new(spec);
            service.life = Lifecycle::Ready(instance, String::new());
            state.services.insert(name.parse().unwrap(), service);
        }
        state
    }

    fn names(names: &[&str]) -> Vec<ServiceName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_service_falls_asleep_with_what_depends_on_it_and_not_under_a_container_that_stays_awake() {
        let mut state = shop();
        assert_eq!(falling_asleep(&state, &names(&["db"])), names(&["db", "api"]));
        assert_eq!(falling_asleep(&state, &names(&["api"])), names(&["api"]));
        assert_eq!(falling_asleep(&state, &[]).len(), 4);
        assert!(kept_awake(&state).is_empty());
        state.services["api"].spec.sleep = None;
        assert_eq!(falling_asleep(&state, &[]), names(&["queue", "worker"]));
        assert_eq!(kept_awake(&state), HashSet::from([&names(&["db"])[0]]));
        let instance = state.services["api"].life.instance().unwrap().clone();
        state.services["api"].life = Lifecycle::Completed(instance);
        assert_eq!(falling_asleep(&state, &names(&["db"])), names(&["db"]), "one that has completed needs nothing");
        assert!(kept_awake(&state).is_empty());
    }

    #[test]
    fn what_is_to_start_and_needs_what_sleeps_is_held_up() {
        let mut state = shop();
        assert!(held_up(&state).is_empty());
        state.services["db"].wanted = DesiredState::Asleep;
        assert!(held_up(&state).is_empty(), "what runs has started");
        let instance = state.services["api"].life.instance().unwrap().clone();
        state.services["api"].life = Lifecycle::Idle(instance);
        assert_eq!(held_up(&state), names(&["api"]));
        state.services["api"].wanted = DesiredState::Asleep;
        assert!(held_up(&state).is_empty(), "it sleeps too");
    }

    #[test]
    fn a_service_wakes_with_what_it_needs_and_with_those_that_only_work_on_it() {
        let mut state = shop();
        for service in state.services.values_mut() {
            service.wanted = DesiredState::Asleep;
        }
        assert_eq!(waking(&state, &names(&["api"])), names(&["db", "api"]));
        assert_eq!(waking(&state, &names(&["db"])), names(&["db"]), "a client would connect to `api` itself");
        assert_eq!(waking(&state, &names(&["queue"])), names(&["queue", "worker"]));
        state.services["queue"].wanted = DesiredState::Running;
        assert_eq!(waking(&state, &[]), names(&["db", "api", "worker"]));
    }

    #[test]
    fn frozen_services_continue_in_any_other_state_and_freeze_after_their_dependants() {
        let mut state = shop();
        state.services.retain(|name, _| ["db", "api"].contains(&name.as_str()));
        let now = std::time::Instant::now();
        let next = |state: &State| {
            let shown = |next| match next {
                crate::reconcile::plan::Next::Operate(name, operation) => format!("{operation:?} {name}"),
                other => format!("{other:?}"),
            };
            crate::reconcile::plan::next(state, now).into_iter().map(shown).filter(|next| next != "CreateNetwork").collect::<Vec<_>>()
        };
        for service in state.services.values_mut() {
            service.wanted = DesiredState::Asleep;
        }
        assert_eq!(next(&state), ["Freeze api"]);
        let instance = state.services["api"].life.instance().unwrap().clone();
        state.services["api"].life = Lifecycle::Frozen(instance, Some("200".to_owned()));
        assert_eq!(next(&state), ["Freeze db"]);
        let instance = state.services["db"].life.instance().unwrap().clone();
        state.services["db"].life = Lifecycle::Frozen(instance, None);
        assert_eq!(next(&state), Vec::<String>::new());
        for wanted in [DesiredState::Running, DesiredState::Stopped, DesiredState::Gone] {
            state.services["api"].wanted = wanted;
            assert_eq!(next(&state), ["Thaw api"], "{wanted:?}");
        }
        // What is stopped to sleep is stopped in the same order.
        for service in state.services.values_mut() {
            service.wanted = DesiredState::Asleep;
            service.spec.sleep = Some(Sleep::default());
            let instance = service.life.instance().unwrap().clone();
            service.life = Lifecycle::Ready(instance, String::new());
        }
        assert_eq!(next(&state), ["Stop api"]);
    }
}
