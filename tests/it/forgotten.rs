//! An environment that is removed while clients watch it: they end, and the daemon keeps nothing of it.

use std::fs;

use crate::world::{TestDaemon, World, until};

/// The daemon's tasks, and its open files in directories of environments.
fn kept(world: &World, daemon: &TestDaemon) -> (usize, usize) {
    let directory = world.state().join("environments");
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|file| fs::read_link(file.path()).ok());
    (daemon.runtime.metrics().num_alive_tasks(), open.filter(|path| path.starts_with(&directory)).count())
}

/// Brings an environment up, lets clients watch it, and removes it. Returns when they have ended.
fn come_and_go(world: &World, daemon: &TestDaemon) {
    daemon.expect(0, "up shop");
    // The daemon has one thread: with the second answer it has seen that the command's connection is closed.
    for _ in 0..2 {
        daemon.status("default");
    }
    let (running, files) = kept(world, daemon);
    assert!(files > 0, "it has open files");
    let watching = ["logs --follow", "events --follow", "events --follow --json"].map(|line| daemon.spawn(line));
    until("they watch", || kept(world, daemon).0 >= running + watching.len());
    daemon.carry_out("down --volumes");
    daemon.expect(0, "gc --all");
    for client in watching {
        client.ended();
    }
}

#[test]
fn a_removed_environment_leaves_no_task_and_no_file_although_clients_watch_it() {
    let world = World::new();
    let daemon = world.start();
    // What stays for the daemon's lifetime is created by the first.
    come_and_go(&world, &daemon);
    until("no file of the first is open", || kept(&world, &daemon).1 == 0);
    let before = kept(&world, &daemon).0;
    for _ in 0..3 {
        come_and_go(&world, &daemon);
    }
    // A connection that the client keeps open has a task, too.
    until("nothing is left", || kept(&world, &daemon).0 <= before + 1 && kept(&world, &daemon).1 == 0);
}
