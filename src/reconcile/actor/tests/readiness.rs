//! A service is ready only if it runs, each wait ends with a reason, and edited files are the ones that run.

use std::{collections::BTreeMap, time::Duration};

use devenv_api::{Condition, Phase, ServiceState};
use devenv_engine::EngineError;
use devenv_spec::{Image, ImageBuild, OfKind, ProcessSpec, Resources, RestartWhen, ServiceSpec, Workload};
use indexmap::IndexMap;

use super::world::{World, within};
use crate::{
    reconcile::{CommandError, Evidence, ServiceAction},
    store::Store,
};

fn process() -> Workload {
    Workload::Process(ProcessSpec {
        command: vec!["api".into()],
        directory: "/p/shop".into(),
        environment: IndexMap::new(),
        ports: Vec::new(),
        fronted: false,
        resources: Resources::default(),
    })
}

fn edit(world: &mut World, service: usize, edit: impl FnOnce(&mut ServiceSpec)) {
    edit(&mut world.specs[service]);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_could_not_be_started_is_never_ready() {
    let world = World::new();
    let life = world.start().await;
    for _ in 0..2 {
        let refusal = EngineError::Refused { action: "upload".into(), status: 500, message: "Error processing tar file".into() };
        world.engine.fail_next("start", refusal);
        let view = life.up(&world).await;
        assert_eq!((life.state("db"), view.status.phase), (ServiceState::Failed, Phase::Failed));
        assert!(view.failures[0].failure.reason.contains("Error processing tar file"), "{:?}", view.failures);
    }
    assert_eq!(life.up(&world).await.status.phase, Phase::Ready, "it is tried again from the start");
}

/// Until its container is removed, which takes a moment, the service is still on the list.
#[tokio::test(start_paused = true)]
async fn a_service_that_has_failed_and_left_the_profile_does_not_fail_the_next_up() {
    for code in [5, 127] {
        let mut world = World::new();
        edit(&mut world, 0, |db| db.restart.policy = RestartWhen::Never);
        edit(&mut world, 1, |api| api.depends_on.clear());
        let life = world.start().await;
        life.up(&world).await;
        world.engine.exit(&world.container("db").await.id, code);
        life.until(|view| view.status.phase == Phase::Failed).await;
        world.engine.delay("remove_container", Duration::from_secs(5));
        world.specs.remove(0);
        let view = life.up(&world).await;
        assert_eq!((view.status.phase, view.failures.len(), view.status.services.len()), (Phase::Ready, 0, 1), "{:?}", view.status);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_a_service_that_was_ready_tells_nothing_that_it_logged_before() {
    let mut world = World::new();
    edit(&mut world, 0, |db| db.provision.push(OfKind { kind: "postgres".into(), value: serde_json::Value::Null }));
    let life = world.start().await;
    assert_eq!(life.up(&world).await.status.phase, Phase::Ready);
    let db = world.container("db").await.id;
    for attempt in ["first", "second"] {
        world.engine.log(&db, true, &format!("an error before the {attempt}"));
        world.next_settling("db", Err(Evidence::of("a script failed")));
        let view = life.up(&world).await;
        assert_eq!(view.status.phase, Phase::Failed, "{:?}", view.status);
        assert_eq!(world.container("db").await.id, db, "it was not replaced");
        let failure = &view.failures[0].failure;
        assert!(failure.reason.contains("a script failed") && !failure.detail.contains("an error before"), "{attempt}: {failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_failed_runs_again_with_the_next_up_and_holds_up_its_dependant_with_a_reason() {
    let mut world = World::new();
    edit(&mut world, 0, |db| db.restart.policy = RestartWhen::Never);
    edit(&mut world, 1, |api| api.depends_on = [("db".parse().unwrap(), Condition::Completed)].into_iter().collect());
    let life = world.start().await;
    for code in [3, 0] {
        let revision = life.handle.up(world.spec()).await.unwrap();
        life.until(|view| view.revision >= revision && view.status.services[0].state == ServiceState::Ready).await;
        world.engine.exit(&world.container("db").await.id, code);
        let view = within(life.handle.until_up(revision, &[])).await.unwrap();
        if code == 3 {
            assert_eq!((life.state("db"), view.status.phase), (ServiceState::Failed, Phase::Failed));
            let blocked = view.blocked_by("api").expect("its dependency cannot complete");
            assert!(blocked.on.as_str() == "db" && blocked.why.contains("exit code 3"), "{blocked:?}");
            let reason = view.status.services[1].reason.clone().unwrap();
            assert!(reason.contains("depends on db"), "{reason}");
        } else {
            assert_eq!((life.state("db"), view.status.phase), (ServiceState::Completed, Phase::Ready));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_wait_for_a_dependency_that_cannot_come_ends_and_names_it() {
    // It is stopped.
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let names = |name: &str| vec![name.parse().unwrap()];
    life.handle.services(Vec::new(), ServiceAction::Stop).await.unwrap();
    life.until(|view| view.status.phase == Phase::Stopped).await;
    let revision = life.handle.services(names("api"), ServiceAction::Start).await.unwrap();
    let view = within(life.handle.until_settled(revision, &names("api"))).await.unwrap();
    assert!(view.blocked_by("api").unwrap().why.contains("devenv start db"), "{:?}", view.blocked);

    // It never completes, because it is started again.
    let mut world = World::new();
    edit(&mut world, 1, |api| api.depends_on = [("db".parse().unwrap(), Condition::Completed)].into_iter().collect());
    let life = world.start().await;
    let view = life.up(&world).await;
    assert!(view.blocked_by("api").unwrap().why.contains("never completes"), "{:?}", view.blocked);

    // It may complete, and does not: the wait has a limit.
    edit(&mut world, 0, |db| db.restart.policy = RestartWhen::Never);
    let life = world.start().await;
    let revision = life.handle.up(world.spec()).await.unwrap();
    let wait = tokio::time::timeout(Duration::from_hours(1), life.handle.until_up(revision, &[])).await.expect("every wait ends");
    let error = wait.unwrap_err().to_string();
    assert!(error.contains("30 minutes: api"), "{error}");
}

/// The reports of a start and of an end come by two ways.
#[tokio::test(start_paused = true)]
async fn a_process_that_ends_before_its_start_is_reported_has_ended() {
    let mut world = World::new();
    edit(&mut world, 1, |api| {
        api.workload = process();
        api.restart.policy = RestartWhen::Never;
    });
    *world.runtime.process.lock().unwrap() = Some((4242, Duration::from_secs(1)));
    let life = world.start().await;
    let revision = life.handle.up(world.spec()).await.unwrap();
    life.until(|_| life.kinds("api").iter().any(|kind| kind == "service.created")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    life.handle.process_ended("api".parse().unwrap(), 4242, 7).await;
    let view = within(life.handle.until_up(revision, &[])).await.unwrap();
    assert_eq!((life.state("api"), view.status.phase), (ServiceState::Failed, Phase::Failed), "{:?}", life.kinds("api"));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_becomes_a_process_gives_up_its_container_first() {
    let mut world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    edit(&mut world, 1, |api| api.workload = process());
    life.up(&world).await;
    assert_eq!(world.find("api").await, None, "the container is gone");
    let calls = world.engine.calls();
    assert!(
        calls.iter().any(|call| call.starts_with("stop ")) && calls.iter().any(|call| call.starts_with("remove_container ")),
        "{calls:?}"
    );
    life.kill().await;

    // The same if the daemon ended in between.
    let mut world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    life.kill().await;
    let store = Store::open(world.directory.path()).unwrap();
    let mut record = store.records().unwrap().remove(0);
    edit(&mut world, 1, |api| api.workload = process());
    record.spec = Some(world.spec());
    store.save(&record).unwrap();
    let life = world.start().await;
    life.until(|view| view.failures.iter().any(|failed| failed.name.as_str() == "api")).await;
    assert_eq!(world.find("api").await, None, "the container is gone");
}

#[tokio::test(start_paused = true)]
async fn containers_are_replaced_on_request_and_when_their_images_content_changed() {
    let mut world = World::new();
    edit(&mut world, 1, |api| {
        let Workload::Container(container) = &mut api.workload else { unreachable!() };
        let mut build = ImageBuild::new("/p/shop".into(), "api:1");
        build.content = Some("one".into());
        container.image = Image::Built(build);
    });
    let life = world.start().await;
    life.up(&world).await;
    let ids = async |world: &World| (world.container("db").await.id, world.container("api").await.id);
    let first = ids(&world).await;
    edit(&mut world, 1, |api| api.set_content("two".into()));
    let rebuilds = BTreeMap::from([("api".parse().unwrap(), "rebuild: 3 files changed (a, b, …)".to_owned())]);
    let plan = life.handle.preview(world.spec(), rebuilds).await.unwrap();
    assert_eq!(
        (plan.steps[0].reason.as_str(), plan.steps[1].reason.as_str()),
        ("it runs as the profile says", "rebuild: 3 files changed (a, b, …)")
    );
    life.up(&world).await;
    let second = ids(&world).await;
    assert!(first.0 == second.0 && first.1 != second.1, "just the one that was edited");
    assert_eq!(world.engine.calls().iter().filter(|call| *call == "build api:1").count(), 2);
    let revision = life.handle.up_replacing(world.spec(), vec!["db".parse().unwrap()]).await.unwrap();
    within(life.handle.until_up(revision, &[])).await.unwrap();
    let third = ids(&world).await;
    assert!(second.0 != third.0 && second.1 == third.1, "just the one that was named");
}

/// Each call of the engine that an `up` or a `down` makes, as one that never returns.
#[tokio::test(start_paused = true)]
async fn up_and_down_end_whatever_call_of_the_engine_never_returns() {
    const DAY: Duration = Duration::from_hours(24);
    let calls = [
        "create_network",
        "image",
        "create_volume",
        "create_container",
        "upload",
        "start",
        "stop",
        "inspect",
        "logs",
        "containers",
        "networks",
        "remove_container",
        "remove_network",
    ];
    for call in calls {
        let world = World::new();
        let life = world.start().await;
        world.engine.delay(call, DAY * 365);
        let revision = life.handle.up(world.spec()).await.unwrap();
        let _ = tokio::time::timeout(DAY, life.handle.until_up(revision, &[])).await.unwrap_or_else(|_| panic!("`up` waits for `{call}`"));
        let names = vec!["db".parse().unwrap()];
        if let Ok(revision) = life.handle.services(names.clone(), ServiceAction::Restart).await {
            let settled = tokio::time::timeout(DAY, life.handle.until_settled(revision, &names)).await;
            let _ = settled.unwrap_or_else(|_| panic!("`restart` waits for `{call}`"));
        }
        let _ = tokio::time::timeout(DAY, life.handle.until_ready(&[])).await.unwrap_or_else(|_| panic!("`wait` waits for `{call}`"));
        let revision = life.handle.down(false).await.unwrap();
        let _ = tokio::time::timeout(DAY, life.handle.until_down(revision)).await.unwrap_or_else(|_| panic!("`down` waits for `{call}`"));
    }
}

#[tokio::test(start_paused = true)]
async fn no_wait_outlasts_an_engine_that_is_gone() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    life.handle.engine_gone().await;
    world.engine.disconnect();
    let revision = life.handle.down(false).await.unwrap();
    let error = tokio::time::timeout(Duration::from_hours(1), life.handle.until_down(revision)).await.expect("it ends").unwrap_err();
    assert!(matches!(error, CommandError::EngineSilent), "{error}");
}
