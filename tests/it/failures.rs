//! What a failure shows.

use devenv_api::ServiceState;
use serde_json::Value;

use crate::world::{World, until};

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
