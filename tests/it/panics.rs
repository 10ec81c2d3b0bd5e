//! A panic in an operation or in a task of an environment: it is reported, nothing hangs, and the environment keeps working.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use devenv_engine::fake::{CallAction, CallPhase};

use crate::{
    changes::{Change, for_changes},
    world::{World, until},
};

for_changes! {
    survives_panics:
    SNAPSHOT_SAVE as a_panic_while_a_snapshot_is_saved_fails_that_alone,
    SNAPSHOT_RESTORE as a_panic_while_a_snapshot_is_restored_fails_that_alone,
    FORK as a_panic_in_a_fork_fails_it_alone,
    RESET as a_panic_in_a_reset_fails_it_alone,
    UP as a_panic_in_an_up_fails_it_alone,
    DOWN_WITH_VOLUMES as a_panic_in_a_down_fails_it_alone,
    RESTART as a_panic_in_a_restart_fails_it_alone,
    BACKUP as a_panic_in_a_backup_fails_it_alone,
    BACKUP_RESTORE as a_panic_while_a_backup_is_restored_fails_that_alone,
    IMPORT as a_panic_in_an_import_fails_it_alone,
    EXPORT as a_panic_in_an_export_fails_it_alone,
    SLEEP as a_panic_in_a_sleep_fails_it_alone,
    GC as a_panic_in_garbage_collection_fails_it_alone,
}

/// Makes each engine call of the command panic in turn.
fn survives_panics(change: &Change) {
    let world = World::new();
    let mut daemon = world.up();
    let mut calls = 0;
    for n in 1.. {
        (change.before)(&daemon);
        let (count, planted) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
        let reached = planted.clone();
        daemon.engine.intercept_calls(move |call| {
            if call.phase != CallPhase::Before || count.fetch_add(1, Ordering::SeqCst) + 1 != n {
                return CallAction::Continue;
            }
            reached.store(true, Ordering::SeqCst);
            CallAction::Panic
        });
        let ended = daemon.run(change.command);
        daemon.engine.stop_intercepting();
        if !planted.load(Ordering::SeqCst) {
            break;
        }
        calls += 1;
        let when = format!("`{}` whose call {n} panics", change.command);
        assert!(matches!(ended.code, Some(0 | 1)), "{when}: exit {:?}: {}", ended.code, ended.stderr);
        assert!(ended.code == Some(0) || ended.stderr.contains("error"), "{when}: {}", ended.stderr);
        if daemon.has_ended() {
            // In one of the daemon's own tasks: the daemon ends, and the next command starts another one.
            drop(daemon);
            daemon = world.start();
        }
        until(&when, || daemon.operations_in_progress() == 0);
        daemon.quiet();
        daemon.nothing_is_paused(&when);
        daemon.expect(0, "up shop");
        daemon.nothing_is_left(&when);
    }
    assert!(calls > 1, "`{}` has {calls} calls", change.command);
    daemon.can_be_emptied(change.command);
}
