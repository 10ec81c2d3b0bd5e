//! The daemon is killed before and after every engine call of each command that changes something. The next daemon
//! finishes the command or undoes it: nothing stays paused, no data is lost, no object is left over, and the command works.

use crate::world::{CrashPoint, CrashRecorder, TestDaemon, World};

/// A command during which the daemon is killed, and what may be the case afterwards.
struct Case {
    command: &'static str,
    /// What the volumes of the default instance may hold after recovery.
    data: &'static [&'static str],
    /// Data that must not be lost.
    kept: &'static [&'static str],
    /// Whether the command may fail afterwards because it is done already.
    may_be_done: bool,
    /// Checks the state after the command has run again.
    then: fn(&TestDaemon, &str),
}

impl Case {
    const NONE: Self = Self { command: "", data: &["yes"], kept: &["yes"], may_be_done: false, then: |_, _| {} };

    #[track_caller]
    fn holds(self, prepare: impl FnOnce(&TestDaemon)) {
        let world = World::new();
        let daemon = world.up();
        prepare(&daemon);
        let recorder = CrashRecorder::start(&daemon);
        daemon.expect(0, self.command);
        let points = recorder.finish();
        daemon.stop();
        assert!(points.len() > 1, "`{}` has {} crash points", self.command, points.len());
        for point in points {
            self.survives(&point);
        }
    }

    fn survives(&self, point: &CrashPoint) {
        let when = format!("`{}` killed {}", self.command, point.call);
        let daemon = point.start();
        daemon.quiet();
        daemon.nothing_is_paused(&when);
        let data = daemon.data("default");
        let is_whole = data.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(is_whole && data.iter().all(|data| self.data.contains(&data.as_str())), "{when}: the volumes hold {data:?}");
        daemon.nothing_is_lost(self.kept, &when);
        daemon.nothing_is_left(&when);
        daemon.nothing_is_lost(self.kept, &when);

        let again = daemon.run(self.command);
        let done = self.may_be_done && again.code == Some(1);
        assert!(again.code == Some(0) || done, "{when}: again, it exits {:?}: {}", again.code, again.stderr);
        (self.then)(&daemon, &when);
        daemon.nothing_is_paused(&when);
        daemon.expect(0, "up shop");
        daemon.nothing_is_left(&when);
        daemon.can_be_emptied(&when);
    }
}

#[test]
fn a_snapshot_that_is_cut_off_is_whole_or_nothing() {
    Case {
        command: "snapshot save one",
        may_be_done: true,
        then: |daemon, when| {
            daemon.write_data("default", "changed");
            daemon.expect(0, "snapshot restore one");
            assert_eq!(daemon.data("default"), ["yes", "yes"], "{when}");
        },
        ..Case::NONE
    }
    .holds(|_| {});
}

#[test]
fn a_restore_that_is_cut_off_has_moved_every_service_or_none() {
    Case {
        command: "snapshot restore one",
        data: &["yes", "changed"],
        kept: &["yes", "changed"],
        then: |daemon, when| assert_eq!(daemon.data("default"), ["yes", "yes"], "{when}"),
        ..Case::NONE
    }
    .holds(|daemon| {
        daemon.expect(0, "snapshot save one");
        daemon.write_data("default", "changed");
    });
}

#[test]
fn a_snapshot_whose_removal_is_cut_off_can_be_removed_or_is_gone() {
    Case {
        command: "snapshot remove one",
        may_be_done: true,
        then: |daemon, when| assert_eq!(daemon.json("snapshot list")["snapshots"].as_array().map(Vec::len), Some(0), "{when}"),
        ..Case::NONE
    }
    .holds(|daemon| drop(daemon.expect(0, "snapshot save one")));
}

#[test]
fn a_reset_that_is_cut_off_has_reset_every_service_or_none() {
    Case {
        command: "reset",
        data: &["yes", "none"],
        then: |daemon, when| assert_eq!(daemon.data("default"), ["none", "none"], "{when}"),
        ..Case::NONE
    }
    .holds(|_| {});
}

#[test]
fn an_undo_that_is_cut_off_has_brought_everything_back_or_nothing() {
    Case { command: "undo", data: &["yes", "none"], ..Case::NONE }.holds(|daemon| drop(daemon.expect(0, "reset")));
}

#[test]
fn volumes_of_a_down_that_is_cut_off_come_back() {
    Case {
        command: "down --volumes",
        then: |daemon, when| {
            daemon.expect(0, "undo");
            assert_eq!(daemon.data("default"), ["yes", "yes"], "{when}");
        },
        ..Case::NONE
    }
    .holds(|_| {});
}

#[test]
fn an_environment_whose_up_is_cut_off_comes_up() {
    Case { command: "up shop", ..Case::NONE }.holds(|daemon| drop(daemon.expect(0, "down")));
}

#[test]
fn a_restart_that_is_cut_off_leaves_every_service_running() {
    Case { command: "restart", ..Case::NONE }.holds(|_| {});
}

#[test]
fn a_test_that_is_cut_off_leaves_nothing() {
    Case { command: "test shop -- true", then: |daemon, when| assert_eq!(daemon.quiet().len(), 1, "{when}"), ..Case::NONE }.holds(|_| {});
}
