//! `up SERVICE`, `stop` and what they leave alone.

use devenv_api::ServiceState;
use devenv_engine::EngineError;

use crate::world::{TestDaemon, World, until};

fn states(daemon: &TestDaemon) -> Vec<(String, ServiceState)> {
    daemon.status("default").services.into_iter().map(|service| (service.name, service.state)).collect()
}

fn state(daemon: &TestDaemon, name: &str) -> Option<ServiceState> {
    states(daemon).into_iter().find(|(known, _)| known == name).map(|(_, state)| state)
}

const PROFILE: &str = r#"
services:
  bad: { container: { image: "api:1" }, restart: { policy: never } }
  cache: { container: { image: "data:1" } }
  web: { container: { image: "api:1" }, depends_on: { cache: ready } }
  other: { container: { image: "api:1" } }
"#;

#[test]
fn up_of_one_service_starts_that_and_what_it_needs_and_leaves_all_others_as_they_are() {
    let world = World::new();
    world.write("profiles/four.yaml", PROFILE);
    let daemon = world.start();
    daemon.expect(0, "up four");
    daemon.expect(0, "down");
    daemon.expect(0, "up four web");
    let names: Vec<String> = states(&daemon).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["cache", "web"], "a service that was up before `down` is not started with it");

    daemon.expect(0, "up four");
    let container = |name: &str| daemon.status("default").services.into_iter().find(|one| one.name == name).and_then(|one| one.container);
    daemon.engine.exit(&container("bad").unwrap(), 1);
    until("it has failed", || state(&daemon, "bad") == Some(ServiceState::Failed));
    daemon.expect(0, "stop other");
    let (bad, cache) = (container("bad"), container("cache"));
    world.write("profiles/four.yaml", &PROFILE.replace("bad: { container: { image", "bad: { container: { command: [x], image"));
    daemon.expect(0, "up four web");
    assert_eq!(state(&daemon, "bad"), Some(ServiceState::Failed), "it was not asked for, and does not fail the `up` of others");
    assert_eq!(state(&daemon, "other"), Some(ServiceState::Stopped));
    assert_eq!((container("bad"), container("cache")), (bad, cache));
    daemon.expect(1, "wait bad --timeout 20s");

    let refusal = EngineError::Refused { action: "start".into(), status: 500, message: "no".into() };
    daemon.engine.fail_next("start", refusal);
    daemon.expect(1, "up four bad");
    daemon.expect(0, "up four --force-recreate web");
    assert_eq!(state(&daemon, "bad"), Some(ServiceState::Failed));
    daemon.expect(0, "up four");
    assert_eq!((state(&daemon, "bad"), state(&daemon, "other")), (Some(ServiceState::Ready), Some(ServiceState::Ready)));
    daemon.expect(0, "down --volumes");
}

#[test]
fn a_service_that_has_failed_can_be_stopped_and_is_no_error_then() {
    let world = World::new();
    world.write("profiles/four.yaml", PROFILE);
    let daemon = world.start();
    daemon.expect(0, "up four");
    let bad = daemon.status("default").services[0].container.clone().unwrap();
    daemon.engine.exit(&bad, 1);
    until("it has failed", || state(&daemon, "bad") == Some(ServiceState::Failed));
    daemon.expect(0, "stop bad");
    assert_eq!(state(&daemon, "bad"), Some(ServiceState::Stopped));
    until("nothing is wrong", || daemon.phase() == "ready");
    daemon.expect(0, "start bad");
    assert_eq!(state(&daemon, "bad"), Some(ServiceState::Ready));
}
