//! An engine whose volumes are on another machine: everything that copies, reads and replaces data uses only the engine.

use crate::{
    changes::{Change, for_changes},
    world::World,
};

for_changes! {
    works_through_the_engine:
    SNAPSHOT_SAVE as a_snapshot_is_saved_through_the_engine,
    SNAPSHOT_RESTORE as a_snapshot_is_restored_through_the_engine,
    FORK as a_fork_is_made_through_the_engine,
    RESET as data_is_reset_through_the_engine,
    BACKUP as a_backup_is_made_through_the_engine,
    BACKUP_RESTORE as a_backup_is_restored_through_the_engine,
    IMPORT as data_is_imported_through_the_engine,
    EXPORT as data_is_exported_through_the_engine,
}

fn works_through_the_engine(change: &Change) {
    let world = World::elsewhere();
    let daemon = world.up();
    (change.before)(&daemon);
    daemon.expect(0, change.command);
    assert!((change.is_done)(&daemon), "`{}` has no effect", change.command);
    daemon.nothing_is_paused(change.command);
    daemon.nothing_is_left(change.command);
    daemon.can_be_emptied(change.command);
}

#[test]
fn a_backup_of_files_is_one_archive_that_is_compared_when_it_is_restored() {
    let world = World::elsewhere();
    let daemon = world.up();
    let made = daemon.json("backup");
    let files = made["services"].as_array().unwrap().iter().flat_map(|part| part["files"].as_array().unwrap());
    let names: Vec<&str> = files.map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["db.dump", "cache.tar"]);
    daemon.write_data("default", "changed");
    let restored = daemon.json("backup restore latest");
    assert_eq!(restored["verified"], true, "{restored}");
    assert_eq!(daemon.data("default"), ["yes", "yes"]);
}

/// A daemon that ran as root has copied the files into a directory.
#[test]
fn a_backup_in_a_directory_is_restored_through_the_engine() {
    let here = World::new();
    let daemon = here.up();
    daemon.expect(0, "backup");
    let backups =
        |world: &World| std::fs::read_dir(world.state().join("environments")).unwrap().flatten().next().unwrap().path().join("backups");
    let elsewhere = World::elsewhere();
    let other = elsewhere.up();
    copy(&backups(&here), &backups(&elsewhere));
    other.write_data("default", "changed");
    let restored = other.json("backup restore latest");
    assert_eq!(restored["verified"], true, "{restored}");
    assert_eq!(other.data("default"), ["yes", "yes"]);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
