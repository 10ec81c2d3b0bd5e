//! The daemon is killed before and after every engine call of each command that changes something. The next daemon
//! finishes the command or undoes it: nothing stays paused, no data is lost, no object is left over, and the command works.

use std::collections::BTreeSet;

use devenv_api::Phase;
use devenv_engine::Engine;

use crate::{
    changes::{BACKUP_RESTORE, Change, FORK, IMPORT, RESET, for_changes},
    world::{CrashPoint, CrashRecorder, Gate, World},
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
    SLEEP as services_fall_asleep,
    WAKE as services_wake,
    FREEZE as services_freeze,
    THAW as services_thaw,
    GC as garbage_collection_removes_only_what_is_unused,
    BACKUP as a_backup_is_made_completely_or_not_at_all,
    BACKUP_RESTORE as a_backup_is_restored_in_all_services_or_none,
    TAKE_OVER as data_of_docker_compose_takes_its_place_completely_or_not_at_all,
    IMPORT as an_import_takes_its_place_completely_or_not_at_all,
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
    let freezes = ["sleep", "wake"].contains(&change.kind);
    daemon.quiet();
    if !freezes {
        daemon.nothing_is_paused(&when);
    }
    let data = daemon.data("default");
    assert!(data == *old || data == *new, "{when}: the volumes hold {data:?}, and held {old:?}; the command leads to {new:?}");
    let values: BTreeSet<&str> = old.iter().chain(new).map(String::as_str).filter(|value| *value != "none").collect();
    // The database that a restore replaces is removed, as is the one that an import replaces, which is backed up.
    let replaces = ["backup-restore", "import"].contains(&change.kind);
    let mut kept: Vec<&str> = if replaces { Vec::new() } else { values.into_iter().collect() };
    // The data that a move copies stays with Docker Compose.
    kept.retain(|value| change.kind != "move" || old.iter().any(|old| old == value));
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
    daemon.expect(0, "up shop");
    daemon.nothing_is_paused(&when);
    daemon.nothing_is_left(&when);
}

/// `fork` is followed by the `up` of the copy, which is an operation of its own.
#[test]
fn a_fork_that_is_killed_comes_up_or_is_gone() {
    let world = World::new();
    let daemon = world.up();
    let recorder = CrashRecorder::start(&daemon);
    daemon.expect(0, FORK.command);
    let points = recorder.finish();
    daemon.stop();
    let mut ready = 0;
    for point in points {
        let when = format!("`{}` killed {}", FORK.command, point.call);
        let daemon = point.start();
        let copy = daemon.quiet().into_iter().find(|status| status.instance == "copy");
        if let Some(copy) = copy {
            assert_eq!((copy.phase, daemon.data("copy")), (Phase::Ready, vec!["yes".to_owned(); 2]), "{when}");
            ready += 1;
        }
        assert_eq!(daemon.data("default"), ["yes", "yes"], "{when}");
        daemon.nothing_is_left(&when);
    }
    assert!(ready > 0, "some daemons are killed after the copy is made");
}

#[test]
fn an_export_that_is_killed_leaves_the_former_file_alone() {
    let world = World::new();
    let daemon = world.up();
    world.write("out", "former");
    let gate = Gate::at(&daemon.engine, |call| call.operation == "exec" && call.subject.contains("test -e"));
    let mut client = daemon.spawn("export db out");
    gate.wait();
    let parts = || {
        std::fs::read_dir(world.project()).unwrap().flatten().filter(|entry| entry.file_name().to_string_lossy().ends_with(".part")).count()
    };
    assert_eq!(parts(), 1, "the dump is written beside its place");
    drop(daemon);
    drop(gate);
    client.wait();
    let daemon = world.start();
    daemon.nothing_is_left("the next daemon");
    assert_eq!((parts(), std::fs::read_to_string(world.project().join("out")).unwrap()), (0, "former".to_owned()));
    daemon.expect(0, "export db out");
    assert_eq!(std::fs::read_to_string(world.project().join("out")).unwrap(), "yes");
}

/// Both run at the same time or one after the other, depending on whether they conflict, and garbage is collected meanwhile.
fn two_recover(first: &Change, second: &Change, possible: &[[&str; 2]]) {
    let world = World::new();
    let daemon = world.up();
    for change in [first, second] {
        (change.before)(&daemon);
    }
    let recorder = CrashRecorder::start(&daemon);
    let running: Vec<_> = [first.command, second.command, "gc --all"].map(|line| daemon.spawn(line)).into();
    for command in running {
        assert_eq!(command.ended().code, Some(0));
    }
    let points = recorder.finish();
    daemon.stop();
    for point in points {
        let when = format!("`{}` and `{}` killed {}", first.command, second.command, point.call);
        let daemon = point.start();
        daemon.quiet();
        daemon.nothing_is_paused(&when);
        let data = daemon.data("default");
        assert!(possible.iter().any(|possible| data == *possible), "{when}: the volumes hold {data:?}");
        daemon.nothing_is_left(&when);
        daemon.expect(0, "backup restore latest");
        daemon.nothing_is_left(&when);
    }
}

#[test]
fn a_restore_and_a_reset_recover_from_a_kill_at_each_call() {
    two_recover(&BACKUP_RESTORE, &RESET, &[["yes", "yes"], ["none", "none"]]);
}

#[test]
fn a_restore_and_an_import_recover_from_a_kill_at_each_call() {
    two_recover(&BACKUP_RESTORE, &IMPORT, &[["yes", "yes"], ["yes", "imported"]]);
}

#[test]
fn a_restore_and_a_fork_recover_from_a_kill_at_each_call() {
    two_recover(&FORK, &BACKUP_RESTORE, &[["yes", "yes"], ["changed", "changed"]]);
}

/// What was staged and swapped in a server can be undone only by the server.
#[test]
fn a_restore_is_recovered_when_its_server_runs_again() {
    let world = World::new();
    let daemon = world.up();
    (BACKUP_RESTORE.before)(&daemon);
    let recorder = CrashRecorder::start(&daemon);
    daemon.expect(0, BACKUP_RESTORE.command);
    let points = recorder.finish();
    daemon.stop();
    for point in points {
        let when = format!("the machine restarted {}", point.call);
        point.stop_containers();
        let daemon = point.start();
        crate::world::until(&when, || daemon.operations_in_progress() == 0);
        daemon.quiet();
        let data = daemon.data("default");
        assert!(data == ["yes", "yes"] || data == ["changed", "changed"], "{when}: the volumes hold {data:?}");
        daemon.nothing_is_paused(&when);
        daemon.nothing_is_left(&when);
        daemon.expect(0, BACKUP_RESTORE.command);
        assert_eq!(daemon.data("default"), ["yes", "yes"], "{when}");
    }
}

#[test]
fn lists_of_paused_containers_of_former_versions_are_let_go_on() {
    let world = World::new();
    let daemon = world.up();
    let container = daemon.status("default").services.iter().find_map(|service| service.container.clone()).unwrap();
    let engine = daemon.engine.clone();
    daemon.runtime.spawn({
        let (engine, container) = (engine.clone(), container.clone());
        async move { engine.pause(&container).await.unwrap() }
    });
    crate::world::until("it is paused", || engine.describe().contains(" paused "));
    drop(daemon);
    let environment = std::fs::read_dir(world.state().join("environments")).unwrap().flatten().next().unwrap().path();
    for name in ["paused.json", "paused-db.json"] {
        std::fs::write(environment.join(name), serde_json::to_vec(&[&container]).unwrap()).unwrap();
    }
    let daemon = world.start();
    daemon.nothing_is_paused("the next daemon");
    assert!(["paused.json", "paused-db.json"].iter().all(|name| !environment.join(name).exists()));
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

#[test]
fn the_first_status_of_the_next_daemon_is_about_services_that_have_answered() {
    let world = World::new();
    let mut daemon = world.up();
    for _ in 0..10 {
        daemon.stop();
        daemon = world.start();
        assert_eq!(daemon.status("default").phase, Phase::Ready);
    }
}
