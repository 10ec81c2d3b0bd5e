//! `gc` while something is made, and `gc` under a clock that was corrected.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use crate::world::{Gate, TestDaemon, World};

/// `gc` either runs beside the command or waits for it.
const BESIDE: Duration = Duration::from_millis(60);

/// Runs `gc --all` to its end at each engine call of the command.
fn with_gc_at_each_call(command: &str, before: impl Fn(&TestDaemon), check: impl Fn(&TestDaemon, &str)) {
    let world = World::new();
    let daemon = world.up();
    let mut calls = 0;
    for n in 1.. {
        before(&daemon);
        let gate = Gate::at_nth(&daemon.engine, n, |_| true);
        let mut making = daemon.spawn(command);
        let Some(call) = gate.wait_unless(|| making.is_over()) else { break };
        calls += 1;
        let when = format!("`{command}` with gc {call}");
        let mut gc = daemon.spawn("gc --all");
        let began = Instant::now();
        while !gc.is_over() && began.elapsed() < BESIDE {
            std::thread::sleep(Duration::from_millis(1));
        }
        gate.open();
        let (made, collected) = (making.ended(), gc.ended());
        assert_eq!(collected.code, Some(0), "{when}: {}", collected.stderr);
        assert_eq!(made.code, Some(0), "{when}: {}", made.stderr);
        check(&daemon, &when);
        daemon.nothing_is_paused(&when);
        daemon.nothing_is_left(&when);
    }
    assert!(calls > 1, "`{command}` has {calls} calls");
}

#[test]
fn gc_takes_nothing_of_a_reset() {
    with_gc_at_each_call("reset", |_| {}, |daemon, when| assert_eq!(daemon.data("default"), ["none", "none"], "{when}"));
}

#[test]
fn gc_takes_nothing_of_an_environment_that_comes_up() {
    with_gc_at_each_call(
        "up shop",
        |daemon| drop(daemon.expect(0, "down")),
        |daemon, when| {
            assert_eq!(daemon.data("default"), ["yes", "yes"], "{when}");
        },
    );
}

#[test]
fn a_warm_environment_is_removed_after_a_day_and_not_by_a_clock_that_was_set_back() {
    let left = |used: SystemTime| {
        let world = World::new();
        let daemon = world.start();
        // The command does not run, because nothing in this environment can be leased. The environment stays.
        daemon.expect(125, "test shop --warm -- true");
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
