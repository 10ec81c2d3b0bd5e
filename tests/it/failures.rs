//! What a failure shows.

use devenv_api::ServiceState;
use devenv_engine::EngineError;
use serde_json::Value;

use crate::world::{SHOP, World, until};

#[test]
fn edits_of_a_service_that_waits_for_a_failed_dependency_are_no_feedback_loop() {
    let world = World::new();
    let profile = "services:\n  db: { container: { image: \"data:1\" }, restart: { policy: never } }\n\
                   \x20 api: { container: { image: \"api:1\" }, depends_on: { db: ready }, watch: [{ paths: [src], on_change: restart }] }\n";
    world.write("profiles/two.yaml", profile);
    world.write("src/main", "");
    let daemon = world.start();
    daemon.expect(0, "up two");
    daemon.engine.exit(daemon.status("default").services[0].container.as_ref().unwrap(), 1);
    until("it has failed", || daemon.status("default").services[0].state == ServiceState::Failed);
    daemon.expect(1, "restart api");
    let count = |kind: &str| {
        let events = daemon.expect(0, "events --json").stdout;
        events.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok_and(|event| event["kind"] == kind)).count()
    };
    for edit in 1..=4 {
        world.write("src/main", &format!("edit {edit}"));
        until("the edit is seen", || count("service.changed") == edit || count("service.feedback-loop") > 0);
        assert_eq!(count("service.feedback-loop"), 0, "edit {edit}");
    }
}

#[test]
fn a_service_that_had_failed_before_does_not_fail_what_replaces_the_data_of_others() {
    let world = World::new();
    let mut profile = SHOP.to_owned();
    profile.push_str("  bad:\n    container: { image: \"api:1\" }\n    restart: { policy: never }\n");
    profile.push_str("  waits:\n    container: { image: \"api:1\" }\n    depends_on: { bad: ready }\n");
    world.write("profiles/five.yaml", &profile);
    let daemon = world.start();
    daemon.expect(0, "up five");
    daemon.expect(0, "snapshot save one");
    daemon.write_data("default", "yes");
    daemon.expect(0, "backup");
    let service = |name: &str| daemon.status("default").services.into_iter().find(|service| service.name == name).unwrap();
    daemon.engine.exit(service("bad").container.as_ref().unwrap(), 1);
    until("it has failed", || service("bad").state == ServiceState::Failed);
    for line in ["reset db", "undo", "snapshot restore one", "backup restore latest"] {
        daemon.expect(0, line);
        assert!(["db", "cache", "api"].iter().all(|name| service(name).state == ServiceState::Ready), "{line}");
        assert_eq!(service("bad").state, ServiceState::Failed, "{line}");
    }
    // A service that it touches, or that fails in consequence, counts.
    daemon.engine.fail_next("start", EngineError::Refused { action: "start".into(), status: 500, message: "no".into() });
    daemon.expect(1, "reset db");
}

/// The engine notes the time of a start only when it has succeeded, so lines of a second before it are shown too.
#[test]
fn a_failure_shows_no_line_of_the_start_before_however_short_the_time_between() {
    let world = World::new();
    world.write("profiles/one.yaml", "services: { api: { container: { image: \"api:1\" }, restart: { policy: never } } }\n");
    let daemon = world.start();
    daemon.expect(0, "up one");
    let container = daemon.status("default").services[0].container.clone().unwrap();
    let fails = |words: &str| {
        daemon.engine.log(&container, false, words);
        until("the line is stored", || daemon.run("logs api").stdout.contains(words));
        daemon.engine.exit(&container, 1);
        until("it has failed", || daemon.status("default").services[0].state == ServiceState::Failed);
        daemon.expect(1, "wait api --timeout 20s").stderr
    };
    let shown = fails("the first words");
    assert!(shown.contains("the first words"), "{shown}");
    daemon.expect(0, "restart api");
    assert_eq!(daemon.status("default").services[0].container.as_ref(), Some(&container), "it is the same container");
    let shown = fails("the second words");
    assert!(shown.contains("the second words") && !shown.contains("the first words"), "{shown}");
}
