//! Many test runs: afterwards the daemon's open files, tasks and memory are as before.
//!
//! The resource usage of a whole process is meaningful only if nothing else runs in it, so this test runs itself again, alone.

use std::{fs, process::Command};

use crate::world::{World, until};

/// Distinguishes the second run of this test from the first.
const ALONE: &str = "DEVENV_ENDURANCE_TEST_RUNS_ALONE";
const RUNS: usize = 200;
const AT_ONCE: usize = 4;
/// The runtime keeps threads for blocking work for some seconds.
const THREADS: usize = 8;
/// The allocator does not return all memory.
const MEMORY: u64 = 4 << 20;

#[derive(Debug, Clone, Copy)]
struct Usage {
    files: usize,
    threads: usize,
    tasks: usize,
    memory: u64,
}

#[test]
fn two_hundred_test_runs_leave_the_daemon_as_it_was() {
    if std::env::var_os(ALONE).is_none() {
        let name = "endurance::two_hundred_test_runs_leave_the_daemon_as_it_was";
        let output =
            Command::new(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let world = World::new();
    let daemon = world.start();
    let runs = |count: usize| {
        for _ in 0..count / AT_ONCE {
            let running: Vec<_> = (0..AT_ONCE).map(|_| daemon.spawn("test shop -- true")).collect();
            for command in running {
                let ended = command.ended();
                assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            }
        }
    };
    let usage = || {
        let list = |path: &str| fs::read_dir(path).unwrap().count();
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        let tasks = daemon.runtime.metrics().num_alive_tasks();
        Usage { files: list("/proc/self/fd"), threads: list("/proc/self/task"), tasks, memory: pages * 4096 }
    };
    // Threads, buffers and caches that stay are created by the first runs.
    runs(RUNS / 10);
    world.engine.take_calls();
    let before = usage();
    runs(RUNS);
    world.engine.take_calls();
    until("files and tasks as before", || usage().files <= before.files && usage().tasks <= before.tasks);
    let after = usage();
    assert!(after.threads <= before.threads + THREADS && after.memory <= before.memory + MEMORY, "before {before:?}, after {after:?}");
    assert_eq!(daemon.engine.describe(), "");
}
