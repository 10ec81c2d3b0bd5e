//! The client is killed, or gets Ctrl-C, while its command is at each engine call in turn.
//!
//! A lost connection stops nothing: the command runs to its end. Ctrl-C may stop it, in a state in which nothing is
//! paused or left over and the command works again.

use std::time::Duration;

use devenv_api::Phase;
use rustix::process::Signal;

use crate::{
    changes::{Change, for_changes},
    world::{Gate, TestDaemon, World, until},
};

/// How long the daemon may take to notice that a connection is closed.
const NOTICE: Duration = Duration::from_millis(5);

for_changes! {
    runs_on_without_its_client:
    SNAPSHOT_SAVE as a_snapshot_is_saved_though_its_client_is_killed,
    SNAPSHOT_RESTORE as a_snapshot_is_restored_though_its_client_is_killed,
    SNAPSHOT_REMOVE as a_snapshot_is_removed_though_its_client_is_killed,
    FORK as a_fork_is_made_though_its_client_is_killed,
    RESET as data_is_reset_though_the_client_is_killed,
    UNDO as volumes_come_back_though_the_client_is_killed,
    DOWN_WITH_VOLUMES as an_environment_is_taken_down_though_the_client_is_killed,
    UP as an_environment_comes_up_though_the_client_is_killed,
    RESTART as services_restart_though_the_client_is_killed,
    STOP as services_stop_though_the_client_is_killed,
    START as services_start_though_the_client_is_killed,
    SLEEP as services_fall_asleep_though_the_client_is_killed,
    THAW as services_thaw_though_the_client_is_killed,
    GC as garbage_is_collected_though_the_client_is_killed,
    BACKUP as a_backup_is_made_though_its_client_is_killed,
    BACKUP_RESTORE as a_backup_is_restored_though_its_client_is_killed,
    IMPORT as data_is_imported_though_the_client_is_killed,
    EXPORT as data_is_exported_though_the_client_is_killed,
}

for_changes! {
    can_be_interrupted:
    SNAPSHOT_SAVE as saving_a_snapshot_can_be_interrupted,
    SNAPSHOT_RESTORE as restoring_a_snapshot_can_be_interrupted,
    SNAPSHOT_REMOVE as removing_a_snapshot_can_be_interrupted,
    FORK as a_fork_can_be_interrupted,
    RESET as a_reset_can_be_interrupted,
    UNDO as an_undo_can_be_interrupted,
    DOWN_WITH_VOLUMES as a_down_can_be_interrupted,
    UP as an_up_can_be_interrupted,
    RESTART as a_restart_can_be_interrupted,
    STOP as a_stop_can_be_interrupted,
    START as a_start_can_be_interrupted,
    SLEEP as a_sleep_can_be_interrupted,
    WAKE as a_wake_can_be_interrupted,
    GC as garbage_collection_can_be_interrupted,
    BACKUP as a_backup_can_be_interrupted,
    BACKUP_RESTORE as restoring_a_backup_can_be_interrupted,
    IMPORT as an_import_can_be_interrupted,
    EXPORT as an_export_can_be_interrupted,
}

fn runs_on_without_its_client(change: &Change) {
    at_each_call(change, Signal::KILL, |daemon, when| until(when, || (change.is_done)(daemon)));
}

fn can_be_interrupted(change: &Change) {
    at_each_call(change, Signal::INT, |_, _| {});
}

/// Sends the signal to the client while the daemon is at each engine call in turn.
fn at_each_call(change: &Change, signal: Signal, check: impl Fn(&TestDaemon, &str)) {
    let world = World::new();
    let daemon = world.up();
    let mut calls = 0;
    for n in 1.. {
        (change.before)(&daemon);
        daemon.quiet();
        let gate = Gate::at_nth(&daemon.engine, n, |_| true);
        let mut command = daemon.spawn(change.command);
        let Some(call) = gate.wait_unless(|| command.is_over()) else { break };
        calls += 1;
        let when = format!("`{}` gets {signal:?} {call}", change.command);
        command.signal(signal);
        // An interrupted client may wait until the operation has stopped; a killed one is gone at once.
        if signal == Signal::KILL {
            command.wait();
        }
        std::thread::sleep(NOTICE);
        gate.open();
        let code = command.ended().code;
        assert!(matches!(code, None | Some(0 | 130)), "{when}: exit {code:?}");
        check(&daemon, &when);
        until(&when, || daemon.operations_in_progress() == 0);
        daemon.quiet();
        daemon.nothing_is_paused(&when);
        daemon.nothing_is_left(&when);
    }
    assert!(calls > 1, "`{}` has {calls} calls", change.command);
    daemon.expect(0, "up shop");
    daemon.can_be_emptied(change.command);
}

#[test]
fn a_fork_is_brought_up_though_its_client_is_killed() {
    let world = World::new();
    let daemon = world.up();
    let gate = Gate::at(&daemon.engine, |call| call.operation == "create_volume");
    let mut fork = daemon.spawn("fork copy");
    gate.wait();
    fork.signal(Signal::KILL);
    fork.wait();
    std::thread::sleep(NOTICE);
    gate.open();
    until("the copy is ready", || daemon.status("copy").phase == Phase::Ready);
    assert_eq!(daemon.data("copy"), ["yes", "yes"]);
}

#[test]
fn a_cancelled_operation_reports_that_its_steps_are_undone() {
    let world = World::new();
    let daemon = world.up();
    // The first volume has been made by then.
    let gate = Gate::at_nth(&daemon.engine, 2, |call| call.operation == "create_volume");
    let mut save = daemon.spawn("snapshot save one");
    gate.wait();
    save.signal(Signal::INT);
    save.until_it_says("cancelling the operation");
    // The daemon may not have got that yet, so it is asked once more, which changes nothing.
    daemon.cancel_operations();
    gate.open();
    let ended = save.ended();
    assert_eq!(ended.code, Some(130));
    assert!(ended.stderr.contains("what was done so far is undone"), "{}", ended.stderr);
    daemon.nothing_is_left("after the cancellation");
}
