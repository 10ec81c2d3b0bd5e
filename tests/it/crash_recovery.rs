//! The daemon is killed before and after every engine call of each command that changes something. The next daemon
//! finishes the command or undoes it: nothing stays paused, no data is lost, no object is left over, and the command works.

use std::collections::BTreeSet;

use crate::{
    changes::{Change, for_changes},
    world::{CrashPoint, CrashRecorder, World},
};

for_changes! {
    recovers:
    SNAPSHOT_SAVE as a_snapshot_is_saved_completely_or_not_at_all,
    SNAPSHOT_RESTORE as a_restore_moves_all_services_or_none,
    SNAPSHOT_REMOVE as a_snapshot_is_removed_completely_or_not_at_all,
    FORK as a_fork_is_made_completely_or_not_at_all,
    RESET as a_reset_moves_all_services_or_none,
    UNDO as an_undo_moves_all_services_or_none,
    DOWN_WITH_VOLUMES as an_environment_is_taken_down,
    UP as an_environment_comes_up,
    RESTART as services_restart,
    STOP as services_stop,
    START as services_start,
    GC as garbage_collection_removes_only_what_is_unused,
}

/// Data of the default instance.
type Data = Vec<String>;

fn recovers(change: &Change) {
    let world = World::new();
    let daemon = world.up();
    (change.before)(&daemon);
    let old = daemon.data("default");
    let recorder = CrashRecorder::start(&daemon);
    daemon.expect(0, change.command);
    let points = recorder.finish();
    let new = daemon.data("default");
    daemon.stop();
    assert!(points.len() > 1, "`{}` has {} crash points", change.command, points.len());
    for point in points {
        recovers_at(&point, change, &old, &new);
    }
}

fn recovers_at(point: &CrashPoint, change: &Change, old: &Data, new: &Data) {
    let when = format!("`{}` killed {}", change.command, point.call);
    let daemon = point.start();
    daemon.quiet();
    daemon.nothing_is_paused(&when);
    let data = daemon.data("default");
    assert!(data == *old || data == *new, "{when}: the volumes hold {data:?}, and held {old:?}; the command leads to {new:?}");
    let values: BTreeSet<&str> = old.iter().chain(new).map(String::as_str).filter(|value| *value != "none").collect();
    let kept: Vec<&str> = values.into_iter().collect();
    daemon.nothing_is_lost(&kept, &when);
    let is_done = (change.is_done)(&daemon);
    if let Some(state) = daemon.last_operation(change.kind) {
        assert!(state != "undone" || !is_done, "{when}: the operation is listed as {state}, and its effect is there");
        assert!(state != "succeeded" || is_done, "{when}: the operation is listed as {state}, and its effect is not there");
    }
    daemon.nothing_is_left(&when);
    daemon.nothing_is_lost(&kept, &when);

    if !is_done || change.command != "undo" {
        let again = daemon.run(change.command);
        let is_refused = is_done && again.code == Some(1);
        assert!(again.code == Some(0) || is_refused, "{when}: the command then exits {:?}: {}", again.code, again.stderr);
        assert!((change.is_done)(&daemon), "{when}: the command then has no effect");
    }
    daemon.nothing_is_paused(&when);
    daemon.expect(0, "up shop");
    daemon.nothing_is_left(&when);
}

#[test]
fn nothing_is_left_of_a_test_run() {
    let world = World::new();
    let daemon = world.up();
    let recorder = CrashRecorder::start(&daemon);
    daemon.expect(0, "test shop -- true");
    let points = recorder.finish();
    daemon.stop();
    for point in points {
        let when = format!("`test` killed {}", point.call);
        let daemon = point.start();
        crate::world::until(&when, || daemon.quiet().len() == 1);
        daemon.nothing_is_paused(&when);
        daemon.nothing_is_left(&when);
        daemon.expect(0, "test shop -- true");
        assert_eq!(daemon.data("default"), ["yes", "yes"], "{when}");
        daemon.nothing_is_left(&when);
    }
}
