//! The files that commands leave in the state directory: none, if they change nothing.

use std::{collections::BTreeMap, path::PathBuf};

use crate::world::{TestDaemon, World, files};

/// Without the daemon's log and lock, and without the list of operations that have ended.
fn state(world: &World) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut state = files(&world.state());
    state.retain(|path, _| path.extension().is_none_or(|extension| extension != "log") && !path.ends_with("lock"));
    state.retain(|path, _| !path.starts_with("operations"));
    state
}

#[track_caller]
fn changes_nothing(world: &World, daemon: &TestDaemon, code: i32, line: &str) {
    let before = state(world);
    daemon.expect(code, line);
    let after = state(world);
    let changed: Vec<_> = after.keys().filter(|path| before.get(*path) != after.get(*path)).collect();
    let gone: Vec<_> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    assert!(changed.is_empty() && gone.is_empty(), "`{line}` changed {changed:?} and removed {gone:?}");
}

#[test]
fn read_only_commands_change_nothing() {
    let world = World::new();
    let daemon = world.start();
    for line in ["list", "status", "plan shop", "gc --dry-run", "daemon status"] {
        changes_nothing(&world, &daemon, 0, line);
    }
    assert_eq!(daemon.json("list").as_array().map(Vec::len), Some(0), "and makes no environment");
    daemon.expect(0, "up shop");
    for line in ["list", "status", "plan shop", "logs", "events", "why db", "snapshot list", "gc --dry-run", "ledger"] {
        changes_nothing(&world, &daemon, 0, line);
    }
}

#[test]
fn an_up_that_is_refused_changes_nothing() {
    let world = World::new();
    world.write("profiles/invalid.yaml", "services:\n  db:\n    container: { imagee: x }\n");
    world.write("profiles/ports.yaml", "services:\n  db:\n    container: { image: \"data:1\", expose: [80] }\n    ports: { 80: 1 }\n");
    let daemon = world.start();
    changes_nothing(&world, &daemon, 2, "up invalid");
    changes_nothing(&world, &daemon, 2, "up nowhere");
    changes_nothing(&world, &daemon, 2, "up ./nowhere.yaml");
    for line in ["stop", "start", "reset", "snapshot save one", "fork copy", "undo"] {
        changes_nothing(&world, &daemon, 1, line);
    }
    changes_nothing(&world, &daemon, 0, "down");
    assert_eq!(daemon.json("list").as_array().map(Vec::len), Some(0));
}

#[test]
fn a_test_leaves_nothing() {
    let world = World::new();
    let daemon = world.start();
    daemon.expect(0, "list");
    changes_nothing(&world, &daemon, 0, "test shop -- true");
    changes_nothing(&world, &daemon, 1, "test shop -- false");
    assert_eq!(daemon.engine.describe(), "");
}

#[test]
fn an_environment_that_was_removed_does_not_come_back() {
    let world = World::new();
    let daemon = world.start();
    for _ in 0..3 {
        daemon.expect(0, "test shop -- true");
    }
    daemon.stop();
    let daemon = world.start();
    assert_eq!(daemon.json("list").as_array().map(Vec::len), Some(0));
}

#[test]
fn snapshots_outlive_a_test_of_the_same_instance() {
    let world = World::new();
    let daemon = world.start();
    daemon.expect(0, "up shop --instance keep");
    daemon.write_data("keep", "yes");
    daemon.expect(0, "snapshot save one --instance keep");
    daemon.expect(0, "down --volumes --instance keep");
    daemon.expect(0, "gc --all");
    daemon.run("test shop --instance keep -- true");
    daemon.expect(0, "gc");
    daemon.expect(0, "up shop --instance keep");
    daemon.expect(0, "snapshot restore one --instance keep");
    assert_eq!(daemon.data("keep"), ["yes", "yes"]);
}
