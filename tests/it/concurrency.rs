//! Concurrent commands: those that conflict wait for one another, others do not.

use std::time::Duration;

use crate::world::{Gate, World};

/// Long enough for a command that does not wait to make its first engine call.
const WHILE: Duration = Duration::from_millis(100);

#[test]
fn commands_that_conflict_run_one_after_another() {
    for second in ["reset", "snapshot restore first", "snapshot save two", "down", "fork copy", "restart"] {
        let world = World::new();
        let daemon = world.up();
        daemon.expect(0, "snapshot save first");
        let gate = Gate::at(&daemon.engine, |call| call.operation == "pause");
        let saving = daemon.spawn("snapshot save one");
        gate.wait();
        let mut waiting = daemon.spawn(second);
        std::thread::sleep(WHILE);
        assert!(!waiting.is_over(), "`{second}` does not wait");
        let described = daemon.engine.describe();
        gate.open();
        assert_eq!(saving.ended().code, Some(0), "{second}");
        let ended = waiting.ended();
        assert_eq!(ended.code, Some(0), "{second}: {}", ended.stderr);
        assert!(!described.contains("snapshot-two") && !described.contains("exited"), "`{second}` began early:\n{described}");
        daemon.nothing_is_paused(second);
    }
}

#[test]
fn commands_that_do_not_conflict_run_at_the_same_time() {
    let world = World::new();
    let daemon = world.up();
    daemon.expect(0, "up shop --instance other");
    let gate = Gate::at(&daemon.engine, |call| call.operation == "pause");
    let mut saving = daemon.spawn("snapshot save one");
    gate.wait();
    for line in
        ["status", "snapshot list", "up shop --instance third", "reset --instance other", "down --instance other", "list", "logs", "env"]
    {
        daemon.expect(0, line);
    }
    assert!(!saving.is_over());
    gate.open();
    assert_eq!(saving.ended().code, Some(0));
}

#[test]
fn two_environments_are_copied_at_the_same_time() {
    let world = World::new();
    let daemon = world.up();
    daemon.expect(0, "up shop --instance other");
    let running: Vec<_> = ["default", "other"].map(|instance| daemon.spawn(&format!("snapshot save one --instance {instance}"))).into();
    for command in running {
        assert_eq!(command.ended().code, Some(0));
    }
    daemon.nothing_is_paused("two snapshots");
}
