//! The task with a fake engine and a fake service runtime: what it does, in which order, and what it leaves behind when
//! it is killed at any moment.

mod engine;
mod interleavings;
mod readiness;
mod world;

use std::{collections::BTreeMap, time::Duration};

use devenv_api::{Phase, ServiceState};
use devenv_engine::{Engine, EngineError};

use crate::reconcile::{Evidence, ServiceAction};
use world::{World, within};

#[tokio::test(start_paused = true)]
async fn everything_comes_up_in_order_and_a_second_up_changes_nothing() {
    let world = World::new();
    let life = world.start().await;
    let view = life.up(&world).await;
    assert_eq!(view.status.phase, Phase::Ready);
    let starts: Vec<String> = world.engine.take_calls().into_iter().filter(|call| call.starts_with("start ")).collect();
    assert_eq!(starts.len(), 2);
    let before = world.containers().await;
    let view = life.up(&world).await;
    assert_eq!((view.status.phase, world.containers().await), (Phase::Ready, before));
    let changing: Vec<String> = world
        .engine
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("start ") || call.starts_with("create") || call.starts_with("stop"))
        .collect();
    assert!(changing.is_empty(), "{changing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dependant_is_restarted_once_after_its_dependency_came_back_ready() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let (db, api) = (world.container("db").await, world.container("api").await);
    world.engine.exit(&db.id, 137);
    let view = life
        .until(|view| {
            view.status.services.iter().all(|service| service.state == ServiceState::Ready)
                && view.status.services[0].restarts == 1
                && view.status.phase == Phase::Ready
                && view.settled.len() == 2
        })
        .await;
    assert_eq!(view.status.phase, Phase::Ready);
    assert_eq!((world.container("db").await.id, world.container("api").await.id), (db.id, api.id), "restarted, not replaced");
    let reported = life.kinds("api");
    assert_eq!(reported.iter().filter(|kind| *kind == "service.restart-due").count(), 1, "{reported:?}");
    let why = life.handle.events.why("api", &[]).unwrap();
    assert!(why.iter().any(|event| event.message.contains("137")), "the chain goes back to the exit: {why:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_ends_again_and_again_is_a_crash_loop_and_says_how() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    for _ in 0..4 {
        let id = world.container("db").await.id;
        life.until(|view| view.status.services[0].state == ServiceState::Ready).await;
        world.engine.exit(&id, 3);
        life.until(|view| view.status.services[0].state != ServiceState::Ready).await;
    }
    let view = life.until(|view| view.status.services[0].state == ServiceState::CrashLoop).await;
    assert_eq!(view.status.phase, Phase::Failed);
    assert!(view.failures[0].failure.reason.contains("exit code 3"), "{:?}", view.failures);
    let view = life.up(&world).await;
    assert_eq!(view.status.phase, Phase::Ready, "another `up` tries again");
}

#[tokio::test(start_paused = true)]
async fn a_failed_up_leaves_services_running_and_reports_the_evidence() {
    let world = World::new();
    world.next_settling("db", Err(Evidence { probes: vec!["connection refused".into()], ..Evidence::of("not ready within 60 s") }));
    let life = world.start().await;
    let view = life.up(&world).await;
    assert_eq!(view.status.phase, Phase::Failed);
    assert_eq!(view.failures[0].failure.reason, "not ready within 60 s: connection refused");
    assert_eq!(world.containers().await.len(), 2);
    assert_eq!(life.up(&world).await.status.phase, Phase::Ready);
}

#[tokio::test(start_paused = true)]
async fn down_goes_in_reverse_and_leaves_nothing_but_volumes() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let (db, api) = (world.container("db").await.id, world.container("api").await.id);
    world.engine.take_calls();
    let view = life.down(false).await;
    assert_eq!((view.status.phase, world.leftovers().await), (Phase::Absent, 0));
    let stops: Vec<String> = world.engine.calls().into_iter().filter(|call| call.starts_with("stop ")).collect();
    assert_eq!(stops, [format!("stop {api}"), format!("stop {db}")]);
    assert_eq!(world.engine.volumes(&World::owner()).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_starts_while_the_network_is_removed_gets_a_new_one() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let former = world.engine.networks(&World::owner()).await.unwrap()[0].id.clone();
    world.engine.delay("remove_network", Duration::from_secs(1));
    life.handle.down(false).await.unwrap();
    while !world.engine.calls().iter().any(|call| call.starts_with("remove_network")) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(world.leftovers().await, 1, "only the network is left, and it is being removed");
    let view = life.up(&world).await;
    assert_eq!(view.status.phase, Phase::Ready);
    let networks = world.engine.networks(&World::owner()).await.unwrap();
    assert!(networks.len() == 1 && networks[0].id != former, "{networks:?}");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_gone_when_it_should_start_is_recreated() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    world.engine.fail_next("start", EngineError::NotFound { what: "container", name: "api".to_owned() });
    world.engine.take_calls();
    let revision = life.handle.services(vec!["api".parse().unwrap()], ServiceAction::Restart).await.unwrap();
    let view = within(life.handle.until_settled(revision, &["api".parse().unwrap()])).await.unwrap();
    assert_eq!(view.status.phase, Phase::Ready);
    assert!(world.engine.calls().iter().any(|call| call.starts_with("create_container")));
}

#[tokio::test(start_paused = true)]
async fn removed_volumes_rest_in_the_trash_and_come_back() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let volume = world.engine.volumes(&World::owner()).await.unwrap()[0].name.clone();
    life.down(true).await;
    assert!(life.handle.record().await.unwrap().volumes.is_empty());
    let undone = life.handle.undo().await.unwrap().unwrap();
    assert_eq!((undone.volumes, undone.revision), (vec!["db/data".to_owned()], None));
    assert_eq!(life.handle.record().await.unwrap().volumes["db/data"], volume);
    life.down(true).await;
    life.up(&world).await;
    assert_ne!(life.handle.record().await.unwrap().volumes["db/data"], volume, "what comes after the trash has a volume of its own");
    assert!(life.handle.empty_trash(Duration::from_hours(1)).await.unwrap().is_empty());
    assert_eq!(life.handle.empty_trash(Duration::ZERO).await.unwrap(), [volume]);
    assert!(life.handle.undo().await.unwrap().is_err(), "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn an_undo_affects_only_its_services_and_restarts_running_ones() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let (db, api) = (world.container("db").await.id, world.container("api").await.id);
    let mut record = life.handle.record().await.unwrap();
    let former = record.volumes.clone();
    let revision = life.handle.move_to(BTreeMap::from([("db/data".to_owned(), "other".to_owned())]), "reset".to_owned()).await.unwrap();
    within(life.handle.until_up(revision, &[])).await.unwrap();
    assert_ne!(world.container("db").await.id, db);
    let undone = life.handle.undo().await.unwrap().unwrap();
    let view = within(life.handle.until_up(undone.revision.unwrap(), &[])).await.unwrap();
    assert_eq!(view.status.phase, Phase::Ready);
    record = life.handle.record().await.unwrap();
    assert_eq!(record.volumes, former);
    assert_eq!(record.trash[0].volumes, BTreeMap::from([("db/data".to_owned(), "other".to_owned())]));
    life.down(false).await;
    assert_eq!(life.handle.undo().await.unwrap().unwrap().volumes, ["db/data"]);
    assert_eq!(life.handle.record().await.unwrap().volumes["db/data"], "other", "and so on, in turn");
    assert_ne!(world.find("api").await.map(|found| found.id), Some(api));
}

#[tokio::test(start_paused = true)]
async fn requests_that_follow_a_view_do_not_trigger_another_view() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let mut views = life.handle.view.clone();
    // Operations that run once it is up: watchers that start.
    while tokio::time::timeout(Duration::from_secs(1), views.changed()).await.is_ok() {}
    let before = views.borrow_and_update().revision;
    life.handle.record().await.unwrap();
    life.handle.preview(world.spec(), BTreeMap::new()).await.unwrap();
    assert!(!views.has_changed().unwrap() && views.borrow().revision == before);
}

#[tokio::test(start_paused = true)]
async fn a_service_moved_to_another_volume_is_recreated_with_it() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let before = world.container("db").await.id;
    let fresh = life.handle.reserve_volumes(vec!["db/data".into()]).await.unwrap();
    let revision = life.handle.move_to(fresh.clone(), "reset".to_owned()).await.unwrap();
    let view = within(life.handle.until_up(revision, &[])).await.unwrap();
    assert_eq!(view.status.phase, Phase::Ready);
    assert_ne!(world.container("db").await.id, before);
    assert_eq!(life.handle.record().await.unwrap().volumes["db/data"], fresh["db/data"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_could_not_be_stopped_gets_no_second_copy_and_is_not_reported_stopped() {
    let refused = || EngineError::TimedOut { action: "end it by SIGKILL".to_owned(), limit: Duration::from_secs(30) };
    for verb in [ServiceAction::Restart, ServiceAction::Stop] {
        let world = World::new();
        let life = world.start().await;
        life.up(&world).await;
        let before = world.container("db").await.id;
        world.engine.take_calls();
        world.engine.fail_next("stop", refused());
        let names = vec!["db".parse().unwrap()];
        let revision = life.handle.services(names.clone(), verb).await.unwrap();
        let view = within(life.handle.until_settled(revision, &names)).await.unwrap();
        assert_eq!((life.state("db"), view.status.phase), (ServiceState::Failed, Phase::Failed));
        assert!(view.failures[0].failure.reason.starts_with("cannot stop it, and it may still be running"), "{:?}", view.failures);
        let calls = world.engine.calls();
        assert!(!calls.iter().any(|call| call.starts_with("start ") || call.starts_with("create_container")), "{calls:?}");
        assert_eq!(world.container("db").await.id, before);
        assert!(!life.kinds("db").contains(&"service.stopped".to_owned()), "{:?}", life.kinds("db"));
        // Requested again it is stopped, and everything is as before.
        let revision = life.handle.services(names.clone(), ServiceAction::Restart).await.unwrap();
        let view = within(life.handle.until_settled(revision, &names)).await.unwrap();
        assert_eq!((life.state("db"), view.failures.len()), (ServiceState::Ready, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_could_not_be_stopped_is_started_again_once_it_has_ended() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    world.engine.fail_next("stop", EngineError::TimedOut { action: "end it by SIGKILL".to_owned(), limit: Duration::from_secs(30) });
    let names = vec!["db".parse().unwrap()];
    let revision = life.handle.services(names.clone(), ServiceAction::Restart).await.unwrap();
    within(life.handle.until_settled(revision, &names)).await.unwrap();
    world.engine.exit(&world.container("db").await.id, 137);
    life.until(|view| view.status.services[0].state == ServiceState::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn down_removes_containers_by_force_that_could_not_be_stopped() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    world.engine.fail_next("stop", EngineError::TimedOut { action: "end it by SIGKILL".to_owned(), limit: Duration::from_secs(30) });
    let view = life.down(false).await;
    assert_eq!((view.status.phase, world.leftovers().await), (Phase::Absent, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_service_stays_stopped_in_the_next_daemons_life() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let names = vec!["api".parse().unwrap()];
    let revision = life.handle.services(names.clone(), ServiceAction::Stop).await.unwrap();
    within(life.handle.until_settled(revision, &names)).await.unwrap();
    life.kill().await;
    let life = world.start().await;
    life.until(|view| view.status.services[0].state == ServiceState::Ready).await;
    assert_eq!(life.state("api"), ServiceState::Stopped);
    let revision = life.handle.services(names.clone(), ServiceAction::Start).await.unwrap();
    within(life.handle.until_settled(revision, &names)).await.unwrap();
    assert_eq!(life.state("api"), ServiceState::Ready);
}

/// The daemon is killed after each of the engine's calls in turn, while it starts and while it stops services. Whatever it leaves,
/// the next one brings it up with one container for each service and the same volume, and takes it down completely.
#[tokio::test(start_paused = true)]
async fn after_a_kill_at_any_call_the_next_daemon_can_finish_or_undo() {
    for volumes in [false, true] {
        for moment in 0..60 {
            let world = World::new();
            world.engine.delay("create_container", Duration::from_millis(5));
            world.engine.delay("start", Duration::from_millis(5));
            world.engine.delay("stop", Duration::from_millis(5));
            world.engine.delay("remove_container", Duration::from_millis(5));
            let life = world.start().await;
            let handle = life.handle.clone();
            let spec = world.spec();
            let work = tokio::spawn(async move {
                let revision = handle.up(spec).await?;
                handle.until_up(revision, &[]).await?;
                let revision = handle.down(volumes).await?;
                handle.until_down(revision).await
            });
            let reached = async {
                while world.engine.calls().len() < moment && !work.is_finished() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            within(reached).await;
            life.kill().await;
            work.abort();

            let life = world.start().await;
            assert_eq!(life.up(&world).await.status.phase, Phase::Ready, "after call {moment}");
            assert_eq!(world.containers().await.len(), 2, "after call {moment}");
            let volume = life.handle.record().await.unwrap().volumes["db/data"].clone();
            assert!(world.engine.volumes(&World::owner()).await.unwrap().iter().any(|found| found.name == volume), "after call {moment}");
            life.down(true).await;
            assert_eq!(world.leftovers().await, 0, "after call {moment}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_does_not_become_ready_gives_way_to_the_one_that_is_kept() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let api: devenv_spec::ServiceName = "api".parse().unwrap();
    let reload = || async {
        let revision = life.handle.reload(api.clone(), crate::reconcile::Reload::Restart, 0).await.unwrap();
        within(life.handle.until_settled(revision, std::slice::from_ref(&api))).await.unwrap()
    };
    let shown = |view: &crate::reconcile::View| {
        let service = view.status.services.iter().find(|service| service.name == "api").unwrap().clone();
        (service.state, service.reason)
    };

    world.next_settling("api", Err(Evidence::of("it did not become ready")));
    let (state, reason) = shown(&reload().await);
    assert_eq!(state, ServiceState::Failed, "nothing is kept: {reason:?}");

    *world.runtime.kept.lock().unwrap() = Some(1);
    world.next_settling("api", Err(Evidence::of("it did not become ready")));
    let (state, reason) = shown(&reload().await);
    assert_eq!(state, ServiceState::Ready);
    assert!(reason.unwrap().ends_with("did not become ready: it did not become ready"), "what runs is not the present version");
    let (history, _) = life.handle.events.history_and_rest().unwrap();
    let reported: Vec<_> =
        history.iter().filter(|event| event.kind == "service.reload-failed").map(|event| event.message.clone()).collect();
    assert!(reported[0].ends_with("files are not kept, so devenv waits for the next change"), "{reported:?}");
    assert!(reported[1].ends_with("run 1 is started again"), "{reported:?}");

    world.next_settling("api", Err(Evidence::of("it did not become ready")));
    world.next_settling("api", Err(Evidence::of("nor did that one")));
    assert_eq!(shown(&reload().await), (ServiceState::Failed, Some("nor did that one".to_owned())), "it is tried once");
    let (state, reason) = shown(&reload().await);
    assert_eq!(state, ServiceState::Ready, "and the next change is");
    assert!(!reason.unwrap_or_default().contains("the previous version"), "the present version runs");
}
