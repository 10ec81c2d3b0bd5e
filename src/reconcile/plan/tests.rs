use std::time::Duration;

use devenv_spec::{ContainerSpec, OnDependencyRestart, Probe, Protocol, PublishedPort, RestartPolicy, RestartWhen, SpecHash, Stop};

use super::*;
use crate::reconcile::state::{Failure, Instance};

pub(super) fn spec(name: &str, depends_on: &[(&str, Condition)]) -> ServiceSpec {
    ServiceSpec {
        name: name.parse().unwrap(),
        kind: "container".into(),
        workload: Workload::Container(ContainerSpec::new(format!("{name}:1"))),
        depends_on: depends_on.iter().map(|(name, condition)| (name.parse().unwrap(), *condition)).collect(),
        on_dependency_restart: OnDependencyRestart::Ignore,
        scripts: None,
        optional: false,
        probe: Probe::None,
        provision: Vec::new(),
        proof: None,
        ready_timeout: Duration::from_mins(1),
        stop: Stop { signal: "SIGTERM".into(), grace: Duration::from_secs(10) },
        restart: RestartPolicy { policy: RestartWhen::Always, attempts: 5 },
        watch: Vec::new(),
        urls: IndexMap::new(),
        sleep: None,
    }
}

/// `api` needs `db` to be ready.
fn two() -> State {
    let mut state = State::new(Goal::Up);
    state.network = Network::Present { id: "n".into() };
    for spec in [spec("db", &[]), spec("api", &[("db", Condition::Ready)])] {
        let (name, mut service) = (spec.name.clone(), Service::new(spec));
        service.image = ImageState::Here;
        state.services.insert(name, service);
    }
    state
}

fn service<'a>(state: &'a mut State, name: &str) -> &'a mut Service {
    state.services.get_mut(name).unwrap()
}

fn instance(state: &State, name: &str) -> Instance {
    Instance { id: format!("{name}-1"), hash: state.services[name].spec.hash(), run: 1 }
}

fn put(state: &mut State, name: &str, life: impl FnOnce(Instance) -> Lifecycle) {
    let instance = instance(state, name);
    service(state, name).life = life(instance);
}

fn operations(state: &State) -> Vec<String> {
    next(state, Instant::now())
        .into_iter()
        .map(|next| match next {
            Next::Operate(name, operation) => format!("{operation:?} {name}"),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn containers_are_made_at_once_and_started_in_order() {
    let mut state = two();
    assert_eq!(operations(&state), ["Create db", "Create api"]);
    put(&mut state, "db", Lifecycle::Idle);
    put(&mut state, "api", Lifecycle::Idle);
    assert_eq!(operations(&state), ["Start db"]);
    put(&mut state, "db", Lifecycle::Running);
    assert_eq!(operations(&state), ["Settle db"]);
    put(&mut state, "db", |instance| Lifecycle::Ready(instance, String::new()));
    assert_eq!(operations(&state), ["Start api"]);
}

#[test]
fn images_and_the_network_are_seen_to_side_by_side() {
    let mut state = two();
    state.network = Network::Absent;
    service(&mut state, "db").image = ImageState::Unknown;
    assert_eq!(operations(&state), ["CreateNetwork", "Image db"]);
}

#[test]
fn an_operation_under_way_is_not_started_twice() {
    let mut state = two();
    service(&mut state, "db").operation = Some(Operation::Create);
    assert_eq!(operations(&state), ["Create api"]);
}

#[test]
fn a_changed_service_is_stopped_then_removed_then_recreated() {
    let mut state = two();
    put(&mut state, "db", |instance| Lifecycle::Ready(instance, String::new()));
    put(&mut state, "api", |instance| Lifecycle::Ready(instance, String::new()));
    let mut spec = service(&mut state, "db").spec.clone();
    let Workload::Container(container) = &mut spec.workload else { unreachable!() };
    container.command = Some(vec!["other".into()]);
    service(&mut state, "db").set_spec(spec);
    assert_eq!(operations(&state), ["Stop db"]);
    let Lifecycle::Ready(old, _) = service(&mut state, "db").life.clone() else { unreachable!() };
    service(&mut state, "db").life = Lifecycle::Idle(old);
    assert_eq!(operations(&state), ["Remove db"]);
    service(&mut state, "db").life = Lifecycle::Absent;
    assert_eq!(operations(&state), ["Create db"]);
}

#[test]
fn going_down_stops_dependants_first_and_the_network_last() {
    let mut state = two();
    put(&mut state, "db", |instance| Lifecycle::Ready(instance, String::new()));
    put(&mut state, "api", |instance| Lifecycle::Ready(instance, String::new()));
    state.goal = Goal::Down;
    for service in state.services.values_mut() {
        service.wanted = DesiredState::Gone;
    }
    assert_eq!(operations(&state), ["Stop api"]);
    put(&mut state, "api", Lifecycle::Idle);
    assert_eq!(operations(&state), ["Stop db", "Remove api"]);
    service(&mut state, "api").life = Lifecycle::Absent;
    put(&mut state, "db", Lifecycle::Idle);
    assert_eq!(operations(&state), ["Remove db"]);
    service(&mut state, "db").life = Lifecycle::Absent;
    assert_eq!(operations(&state), ["RemoveNetwork"]);
    state.network = Network::Absent;
    assert!(operations(&state).is_empty());
}

#[test]
fn a_service_that_backs_off_waits_for_its_moment() {
    let mut state = two();
    let due = Instant::now() + Duration::from_hours(1);
    put(&mut state, "db", |instance| Lifecycle::Backoff(instance, due, "exit 1".into()));
    service(&mut state, "api").operation = Some(Operation::Create);
    assert!(operations(&state).is_empty());
    assert_eq!(next_wake(&state, Instant::now()), Some(due));
    assert_eq!(next(&state, due), [Next::Operate("db".parse().unwrap(), Operation::Start)]);
}

#[test]
fn a_due_service_that_waits_for_a_dependency_sets_no_timer() {
    let mut state = two();
    let due = Instant::now() + Duration::from_hours(1);
    put(&mut state, "db", Lifecycle::Running);
    service(&mut state, "db").operation = Some(Operation::Settle);
    put(&mut state, "api", |instance| Lifecycle::Backoff(instance, due, "exit 1".into()));
    assert!(next(&state, due).is_empty());
    assert_eq!(next_wake(&state, due), None);
    service(&mut state, "db").operation = None;
    put(&mut state, "db", |instance| Lifecycle::Ready(instance, "proven".into()));
    assert_eq!(next(&state, due), [Next::Operate("api".parse().unwrap(), Operation::Start)]);
}

#[test]
fn an_optional_dependency_that_failed_holds_nobody_up() {
    let mut state = two();
    put(&mut state, "api", Lifecycle::Idle);
    let failure = Failure { reason: "no image".into(), detail: String::new(), hint: None };
    service(&mut state, "db").life = Lifecycle::Failed(None, failure);
    assert!(operations(&state).is_empty());
    service(&mut state, "db").spec.optional = true;
    assert_eq!(operations(&state), ["Start api"]);
}

#[test]
fn nothing_is_started_while_the_engine_is_away() {
    let mut state = two();
    state.engine_answers = false;
    assert!(operations(&state).is_empty());
}

#[test]
fn a_preview_names_what_changed() {
    let mut state = two();
    put(&mut state, "db", |instance| Lifecycle::Ready(instance, String::new()));
    let mut wanted: IndexMap<ServiceName, ServiceSpec> =
        state.services.iter().map(|(name, service)| (name.clone(), service.spec.clone())).collect();
    let applied = wanted.iter().map(|(name, spec)| (name.clone(), spec.workload.clone())).collect();
    let Workload::Container(container) = &mut wanted.get_mut("db").unwrap().workload else { unreachable!() };
    container.command = Some(vec!["shared_buffers=96MB".into()]);
    let plan = preview(&state, &wanted, &applied, &BTreeMap::new());
    assert_eq!(plan.steps[0].action, Action::Recreate);
    assert!(plan.steps[0].reason.contains("shared_buffers=96MB"), "{}", plan.steps[0].reason);
    assert_eq!(plan.steps[1].action, Action::Create);
}

#[test]
fn versions_are_swapped_only_beside_one_that_serves() {
    let mut state = two();
    let name: ServiceName = "api".parse().unwrap();
    let hash = service(&mut state, "api").spec.hash();
    let instance = Instance { id: "7".into(), hash, run: 1 };
    service(&mut state, "api").restart = Some(RestartReason::Swap);
    let decided = |state: &State| {
        next(state, Instant::now()).into_iter().find_map(|step| match step {
            Next::Operate(of, operation) if of == name => Some(operation),
            _ => None,
        })
    };
    service(&mut state, "api").life = Lifecycle::Ready(instance.clone(), "200".into());
    assert_eq!(decided(&state), Some(Operation::Swap));
    service(&mut state, "api").life = Lifecycle::Running(instance.clone());
    assert_eq!(decided(&state), Some(Operation::Stop), "nothing is proven of the old one: it makes room");
    service(&mut state, "api").life = Lifecycle::Ready(Instance { hash: SpecHash::recorded("other"), ..instance }, "200".into());
    assert_eq!(decided(&state), Some(Operation::Stop), "another workload is no new version");
}

#[test]
fn a_service_waits_for_the_port_that_a_removed_one_still_has() {
    let mut state = two();
    let port = PublishedPort { container: 80, host: 8080, address: "127.0.0.1".into(), protocol: Protocol::Tcp };
    for name in ["db", "api"] {
        let service = service(&mut state, name);
        let mut spec = service.spec.clone();
        let Workload::Container(container) = &mut spec.workload else { unreachable!() };
        container.ports = vec![port.clone()];
        spec.depends_on.clear();
        service.set_spec(spec);
    }
    put(&mut state, "db", |instance| Lifecycle::Ready(instance, String::new()));
    put(&mut state, "api", Lifecycle::Idle);
    service(&mut state, "db").wanted = DesiredState::Gone;
    assert_eq!(operations(&state), ["Stop db"]);
    service(&mut state, "db").operation = Some(Operation::Stop);
    assert!(operations(&state).is_empty());
    service(&mut state, "db").operation = None;
    put(&mut state, "db", Lifecycle::Idle);
    assert_eq!(operations(&state), ["Remove db", "Start api"]);
    put(&mut state, "db", |instance| {
        Lifecycle::Unstoppable(instance, Failure { reason: String::new(), detail: String::new(), hint: None })
    });
    assert!(operations(&state).contains(&"Start api".to_owned()));
}
