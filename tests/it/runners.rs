//! `test` and `run` whose program loses its children, or that are killed themselves: no process and no environment is left.

use std::{fs, path::Path};

use rustix::process::Signal;

use crate::world::{TestDaemon, World, until};

/// Starts children in the group, in a session of their own and without a parent, and then ends, dies or waits.
const RUNNER: &str = r#"
sleep 98765 & echo $! >>pids
setsid sleep 98765 & echo $! >>pids
(setsid sh -c 'echo $$ >>pids; exec sleep 98765' &)
while [ "$(wc -l <pids)" -lt 3 ]; do sleep 0.01; done
echo $$ >>pids
case $1 in
    die) kill -KILL $$ ;;
    end) exit 3 ;;
    wait) : >up; wait ;;
esac
"#;

fn pids(daemon: &TestDaemon) -> Vec<String> {
    let pids = fs::read_to_string(daemon.project.join("pids")).unwrap_or_default();
    pids.lines().filter(|pid| runs(pid)).map(str::to_owned).collect()
}

fn runs(pid: &str) -> bool {
    // One that nobody has waited for yet does not run.
    let status = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[track_caller]
fn nothing_is_left(daemon: &TestDaemon, when: &str) {
    until(when, || pids(daemon).is_empty());
    until(when, || daemon.quiet().is_empty());
    daemon.nothing_is_left(when);
    for file in ["pids", "up"] {
        // There may be none.
        let _ = fs::remove_file(daemon.project.join(file));
    }
}

#[test]
fn nothing_is_left_of_a_test_run_whose_program_ends_or_dies_before_its_children() {
    let world = World::new();
    world.write("runner.sh", RUNNER);
    let daemon = world.start();
    for (how, code) in [("end", 3), ("die", 137)] {
        let line = format!("test shop -- sh runner.sh {how}");
        daemon.expect(code, &line);
        nothing_is_left(&daemon, &line);
    }
}

#[test]
fn nothing_is_left_of_a_test_run_that_is_killed_or_stopped() {
    let world = World::new();
    world.write("runner.sh", RUNNER);
    let daemon = world.start();
    for signal in [Signal::KILL, Signal::TERM, Signal::INT] {
        let when = format!("`test` gets {signal:?}");
        let mut running = daemon.spawn("test shop -- sh runner.sh wait");
        until("its program runs", || daemon.project.join("up").exists());
        assert!(pids(&daemon).len() >= 4, "{when}: {:?}", pids(&daemon));
        running.signal(signal);
        running.wait();
        nothing_is_left(&daemon, &when);
    }
}

#[test]
fn a_command_of_run_ends_with_it() {
    let world = World::new();
    world.write("wait.sh", "echo $$ >pids; : >up; exec sleep 98765");
    let daemon = world.up();
    let mut running = daemon.spawn("run -- sh wait.sh");
    until("its program runs", || daemon.project.join("up").exists());
    running.signal(Signal::KILL);
    running.wait();
    until("it has ended", || pids(&daemon).is_empty());
}
