//! `gc` while something is made, and `gc` after the clock was corrected.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;

use crate::{
    changes::{Change, for_changes},
    world::{Gate, World},
};

/// `gc` either runs beside the command or waits for it.
const BESIDE: Duration = Duration::from_millis(60);

for_changes! {
    survives_collection:
    SNAPSHOT_SAVE as gc_takes_nothing_of_a_snapshot_that_is_saved,
    SNAPSHOT_RESTORE as gc_takes_nothing_of_a_snapshot_that_is_restored,
    FORK as gc_takes_nothing_of_a_fork_that_is_made,
    RESET as gc_takes_nothing_of_data_that_is_reset,
    BACKUP as gc_takes_nothing_of_a_backup_that_is_made,
    BACKUP_RESTORE as gc_takes_nothing_of_a_backup_that_is_restored,
    IMPORT as gc_takes_nothing_of_an_import,
    UP as gc_takes_nothing_of_an_environment_that_comes_up,
}

/// Runs `gc --all` to its end at each engine call of the command.
fn survives_collection(change: &Change) {
    let world = World::new();
    let daemon = world.up();
    let mut calls = 0;
    for n in 1.. {
        (change.before)(&daemon);
        let gate = Gate::at_nth(&daemon.engine, n, |_| true);
        let mut command = daemon.spawn(change.command);
        let Some(call) = gate.wait_unless(|| command.is_over()) else { break };
        calls += 1;
        let when = format!("`{}` with gc {call}", change.command);
        let mut gc = daemon.spawn("gc --all");
        let began = Instant::now();
        while !gc.is_over() && began.elapsed() < BESIDE {
            std::thread::sleep(Duration::from_millis(1));
        }
        gate.open();
        let (made, collected) = (command.ended(), gc.ended());
        assert_eq!(collected.code, Some(0), "{when}: {}", collected.stderr);
        assert_eq!(made.code, Some(0), "{when}: {}", made.stderr);
        assert!((change.is_done)(&daemon), "{when}: the command has no effect");
        daemon.nothing_is_paused(&when);
        daemon.nothing_is_left(&when);
    }
    assert!(calls > 1, "`{}` has {calls} calls", change.command);
}

/// Resets an environment, pretends that its volumes were put into the trash `hours` ago, and collects garbage.
fn volumes_after_gc(hours: i64) -> usize {
    let world = World::new();
    let daemon = world.up();
    daemon.expect(0, "reset");
    daemon.stop();
    let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
    edit_record(&world, |record| record["trash"][0]["at"] = json!(at.to_string()));
    let daemon = world.start();
    daemon.expect(0, "gc");
    daemon.all_volumes().len()
}

fn edit_record(world: &World, edit: impl Fn(&mut serde_json::Value)) {
    for entry in fs::read_dir(world.state().join("environments")).unwrap().flatten() {
        let path = entry.path().join("environment.json");
        let mut record = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut record);
        fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
    }
}

#[test]
fn the_trash_is_emptied_after_a_day_and_not_by_a_clock_that_was_set_back() {
    assert_eq!(volumes_after_gc(23), 4, "not yet");
    assert_eq!(volumes_after_gc(25), 2);
    assert_eq!(volumes_after_gc(-48), 4, "the clock was two days ahead when they were put into the trash");
}

#[test]
fn a_warm_environment_is_removed_after_a_day_and_not_by_a_clock_that_was_set_back() {
    let left = |used: SystemTime| {
        let world = World::new();
        let daemon = world.start();
        daemon.expect(0, "test shop --warm -- true");
        daemon.stop();
        for entry in fs::read_dir(world.state().join("environments")).unwrap().flatten() {
            fs::File::options().append(true).open(entry.path().join("used")).unwrap().set_modified(used).unwrap();
        }
        let daemon = world.start();
        daemon.expect(0, "gc");
        daemon.quiet().len()
    };
    let (hour, now) = (Duration::from_hours(1), SystemTime::now());
    assert_eq!(left(now - 23 * hour), 1);
    assert_eq!(left(now - 25 * hour), 0);
    assert_eq!(left(now + 48 * hour), 1);
}

#[test]
fn checkouts_that_nothing_is_built_from_are_removed_after_two_weeks() {
    let world = World::new();
    let daemon = world.start();
    let checkout = |name: &str, days: u64| {
        let place = world.state().join("repositories").join(name);
        fs::create_dir_all(place.join("commit")).unwrap();
        fs::write(place.join("last"), "commit").unwrap();
        let used = SystemTime::now() - Duration::from_hours(24 * days);
        fs::File::options().append(true).open(place.join("last")).unwrap().set_modified(used).unwrap();
        place
    };
    let (old, used) = (checkout("old", 15), checkout("used", 13));
    let planned = daemon.expect(0, "gc --dry-run");
    assert!(planned.stdout.contains("repositories/old") && !planned.stdout.contains("repositories/used"), "{}", planned.stdout);
    assert!(old.is_dir());
    daemon.expect(0, "gc");
    assert!(!old.exists() && used.is_dir());
    daemon.expect(0, "gc --all");
    assert!(!used.exists());
}
