//! What a failure shows.

use devenv_api::ServiceState;

use crate::world::{World, until};

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
