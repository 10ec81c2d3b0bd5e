//! Databases that are replaced at once: one of them fails, or the operation is cancelled.

use std::sync::atomic::{AtomicU32, Ordering};

use devenv_engine::{
    EngineError,
    fake::{CallAction, CallPhase},
};
use rustix::process::Signal;

use crate::world::{World, until, write_program};

const PAIR: &str = r#"
services:
  db:
    container: { image: "data:1", volumes: [{ source: rows, target: /rows }] }
  other-db:
    container: { image: "data:1", volumes: [{ source: others, target: /rows }] }
"#;

#[test]
fn if_the_second_of_two_databases_cannot_take_its_place_the_first_is_put_back() {
    let world = World::new();
    world.write("profiles/pair.yaml", PAIR);
    let daemon = world.start();
    daemon.expect(0, "up pair");
    daemon.write_data("default", "yes");
    daemon.carry_out("backup");
    daemon.write_data("default", "changed");

    let swaps = AtomicU32::new(0);
    daemon.engine.intercept_calls(move |call| {
        let is_swap = call.phase == CallPhase::Before && call.operation == "exec" && call.subject.contains("mv staged data");
        if is_swap && swaps.fetch_add(1, Ordering::SeqCst) == 1 {
            return CallAction::Fail(EngineError::NotFound { what: "shell", name: "sh".to_owned() });
        }
        CallAction::Continue
    });
    let failed = daemon.expect(1, "backup restore latest");
    daemon.engine.stop_intercepting();
    assert!(failed.stderr.contains("nothing was changed"), "{}", failed.stderr);
    assert_eq!(daemon.data("default"), ["changed", "changed"]);
    daemon.nothing_is_left("a restore that failed");

    daemon.expect(0, "backup restore latest");
    assert_eq!(daemon.data("default"), ["yes", "yes"]);
}

/// An engine goes on with a command whose caller is gone.
#[test]
fn a_cancelled_restore_is_undone_after_its_command_has_ended() {
    let world = World::new();
    let daemon = world.up();
    daemon.write_data("default", "yes");
    daemon.carry_out("backup");
    daemon.write_data("default", "changed");
    let (begun, ended) = (daemon.root.join("begun"), daemon.root.join("ended"));
    let slow = format!("#!/bin/sh\n[ \"$1\" = staged ] || exit 0\n: > '{}'\nsleep 0.5\n: > '{}'\n", begun.display(), ended.display());
    write_program(&daemon.engine.program("sync"), &slow);

    let restore = daemon.spawn("backup restore latest");
    until("the command runs", || begun.exists());
    restore.signal(Signal::INT);
    assert_eq!(restore.ended().code, Some(130));
    until("the operation is over", || daemon.operations_in_progress() == 0);
    assert!(ended.exists(), "the command still runs");
    daemon.nothing_is_left("a cancelled restore");
    assert_eq!(daemon.data("default"), ["changed", "changed"]);
}
