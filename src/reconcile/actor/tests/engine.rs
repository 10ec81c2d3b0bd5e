//! What the engine does unexpectedly: it is away, is late, has a subnet or a port in use, has objects twice.

use devenv_engine::{Engine, EngineError, EngineEvent, EngineEventKind, Labels, NetworkCreate, fake::FakeEngine};
use devenv_spec::SpecHash;

use super::{world::observe, *};

#[tokio::test(start_paused = true)]
async fn the_engine_may_go_away_and_come_back_under_it() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    world.engine.disconnect();
    life.handle.engine_gone().await;
    let view = life.until(|view| view.status.services.iter().any(|service| service.state == ServiceState::Unreachable)).await;
    assert_eq!(view.status.phase, Phase::Degraded, "a lost link is no failure");
    let revision = life.handle.up(world.spec()).await.unwrap();
    world.engine.reconnect();
    life.handle.observed(observe(&world.engine).await).await;
    let view = within(life.handle.until_up(revision, &[])).await.unwrap();
    assert_eq!(view.status.phase, Phase::Ready);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_heard_of_before_the_start_has_returned_is_not_missed() {
    let world = World::new();
    let life = world.start().await;
    world.engine.delay("start", Duration::from_millis(50));
    let revision = life.handle.up(world.spec()).await.unwrap();
    life.until(|view| view.status.services[0].state == ServiceState::Starting).await;
    let container = world.container("db").await;
    let died = EngineEvent { container: container.id, labels: container.labels, kind: EngineEventKind::Died { code: 1 } };
    life.handle.engine_event(died).await;
    let view = within(life.handle.until_up(revision, &[])).await.unwrap();
    assert_eq!(view.status.phase, Phase::Ready, "it was examined, and it ran");
}

#[tokio::test(start_paused = true)]
async fn a_taken_subnet_is_passed_over() {
    let world = World {
        engine: FakeEngine::new().with_image("db:1").with_image("api:1").with_foreign_subnet("10.213.0.0/24".parse().unwrap()),
        ..World::new()
    };
    let life = world.start().await;
    assert_eq!(life.up(&world).await.status.phase, Phase::Ready);
    let network = world.engine.networks(&World::owner()).await.unwrap().remove(0);
    assert_ne!(network.subnet.unwrap().to_string(), "10.213.0.0/26");
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_taken_at_the_start_fails_that_service_alone() {
    let world = World::new();
    world.engine.fail_next("start", EngineError::PortTaken { port: 25_000 });
    let life = world.start().await;
    let view = life.up(&world).await;
    assert_eq!(view.failures[0].name.as_str(), "db");
    assert!(view.failures[0].failure.reason.contains("port 25000"), "{:?}", view.failures);
}

#[tokio::test(start_paused = true)]
async fn objects_that_the_engine_created_late_for_a_dead_daemon_are_used_or_replaced() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let (db, api) = (world.container("db").await, world.container("api").await);
    let (as_asked, _) = world.engine.created(&db.id).unwrap();
    let (mut of_another_spec, _) = world.engine.created(&api.id).unwrap();
    of_another_spec.labels.spec = Some(SpecHash::recorded("older"));
    life.kill().await;
    world.engine.remove_externally(&db.id);
    world.engine.remove_externally(&api.id);

    world.engine.delay("image", Duration::from_millis(50));
    let life = world.start().await;
    let late = [world.engine.create_container(&as_asked).await.unwrap(), world.engine.create_container(&of_another_spec).await.unwrap()];
    life.until(|view| view.status.phase == Phase::Ready).await;
    assert_eq!(world.container("db").await.id, late[0]);
    assert_ne!(world.container("api").await.id, late[1]);
    assert_eq!(world.containers().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_one_of_two_networks_with_one_name_is_kept_and_down_removes_both() {
    let world = World::new();
    world.engine.delay("networks", Duration::from_millis(50));
    let life = world.start().await;
    let revision = life.handle.up(world.spec()).await.unwrap();
    let late = || NetworkCreate {
        name: format!("devenv-{}", World::id()),
        labels: Labels {
            owner: World::owner(),
            environment: World::id(),
            project: "/p/shop".into(),
            instance: "default".into(),
            service: None,
            spec: None,
            role: None,
        },
        subnet: "10.213.0.64/26".parse().unwrap(),
        internal: false,
    };
    while !world.engine.calls().iter().any(|call| call.starts_with("create_network")) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.engine.finish_late(&late());
    within(life.handle.until_up(revision, &[])).await.unwrap();
    let left = world.engine.networks(&World::owner()).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].subnet, life.handle.record().await.unwrap().subnet);

    world.engine.finish_late(&late());
    life.down(false).await;
    assert_eq!(world.leftovers().await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_failed_for_a_single_call_is_asked_again() {
    let world = World::new();
    world.engine.fail_next("create_container", EngineError::Unreachable { endpoint: "fake".into(), reason: "too many at once".into() });
    let life = world.start().await;
    assert_eq!(life.up(&world).await.status.phase, Phase::Ready);
}
