//! Faults and the operations that they would block.

use devenv_engine::Engine;

use crate::world::{TestDaemon, World, patient_shop, until};

/// A world in which a service that is held still does not stop, however long a test waits.
fn patient(world: World) -> World {
    world.write("profiles/shop.yaml", &patient_shop());
    world
}

fn is_paused(daemon: &TestDaemon) -> bool {
    daemon.engine.describe().contains(" paused with ")
}

fn faults(daemon: &TestDaemon) -> usize {
    daemon.json("chaos status")["faults"].as_array().unwrap().len()
}

#[test]
fn a_persistent_pause_is_undone_for_a_restart_and_injected_again_after_it() {
    let world = patient(World::without_agents());
    let daemon = world.up();
    let injected = daemon.expect(0, "chaos inject pause db --set persist=true --for 1h");
    assert!(is_paused(&daemon), "{}{}\n{}", injected.stdout, injected.stderr, daemon.engine.describe());
    for line in ["restart db", "stop db"] {
        daemon.engine.take_calls();
        daemon.expect(0, line);
        let calls = daemon.engine.take_calls();
        let first =
            |name: &str| calls.iter().position(|call| call.split(' ').next() == Some(name)).unwrap_or_else(|| panic!("{name}: {calls:?}"));
        assert!(first("unpause") < first("stop"), "{line}: {calls:?}");
        assert_eq!(faults(&daemon), 1, "`{line}` does not end it");
        if line == "restart db" {
            until("it is paused again", || is_paused(&daemon));
        }
    }
    daemon.expect(0, "start db");
    until("it is paused again", || is_paused(&daemon));
    daemon.expect(0, "chaos heal");
    assert!(!is_paused(&daemon) && faults(&daemon) == 0);
}

#[test]
fn a_pause_that_does_not_persist_ends_with_a_restart() {
    let world = patient(World::without_agents());
    let daemon = world.up();
    daemon.expect(0, "chaos inject pause db --for 1h");
    assert!(is_paused(&daemon));
    daemon.expect(0, "restart db");
    assert!(!is_paused(&daemon) && faults(&daemon) == 0);
}

/// Restoring data is an operation, and would wait for the one that takes the environment down.
#[test]
fn a_fault_that_puts_data_back_does_not_hold_up_down() {
    let world = patient(World::without_agents());
    let daemon = world.up();
    daemon.expect(0, "chaos inject remove db --set volumes=true --set restore=true --for 1h");
    daemon.expect(0, "down");
    daemon.expect(0, "up shop");
    daemon.expect(0, "chaos heal");
    assert_eq!(faults(&daemon), 0);
}

/// The limits of the container that `db` has now, as text.
fn limits(daemon: &TestDaemon) -> String {
    let services = daemon.status("default").services;
    let container = services.into_iter().find(|service| service.name == "db").and_then(|service| service.container).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    format!("{:?}", runtime.block_on(daemon.engine.limits(&container)).unwrap())
}

#[test]
fn a_container_that_is_replaced_while_a_limit_lasts_is_limited_too_and_heals_to_what_it_was() {
    let world = World::new();
    let daemon = world.up();
    let before = limits(&daemon);
    daemon.expect(0, "chaos inject cpu db --set cpus=0.25 --for 1h");
    assert!(limits(&daemon).contains("0.25"), "{}", limits(&daemon));
    daemon.expect(0, "up shop --force-recreate");
    until("the new container is limited", || limits(&daemon).contains("0.25"));
    assert_eq!(faults(&daemon), 1);
    let told = daemon.expect(0, "events").stdout;
    assert!(told.contains("injected again into the new run of db"), "{told}");
    daemon.expect(0, "chaos heal");
    assert_eq!((limits(&daemon), faults(&daemon)), (before, 0));
}
