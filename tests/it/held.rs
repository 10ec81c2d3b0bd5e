//! Commands against a service that is held still: each ends the pause or is refused at once, and none waits until its limit.

use devenv_engine::Engine;

use crate::world::{TestDaemon, World, patient_shop};

/// Who holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Fault,
    PersistentFault,
    /// As `docker pause` does.
    Engine,
}

use Holder::{Engine as ByEngine, Fault, PersistentFault};

impl Holder {
    fn hold(self, daemon: &TestDaemon) {
        match self {
            Fault => drop(daemon.expect(0, "chaos inject pause db --for 1h")),
            PersistentFault => drop(daemon.expect(0, "chaos inject pause db --set persist=true --for 1h")),
            ByEngine => {
                let (engine, container) = (daemon.engine.clone(), container(daemon));
                daemon.ask(async |_| {
                    engine.pause(&container).await.unwrap();
                    Ok(())
                });
            }
        }
        assert!(is_paused(daemon), "{self:?}");
    }

    fn end(self, daemon: &TestDaemon) {
        match self {
            Fault | PersistentFault => drop(daemon.expect(0, "chaos heal")),
            ByEngine => {
                let (engine, container) = (daemon.engine.clone(), container(daemon));
                daemon.ask(async |_| {
                    engine.unpause(&container).await.unwrap();
                    Ok(())
                });
            }
        }
        assert!(!is_paused(daemon), "{self:?}");
    }
}

fn container(daemon: &TestDaemon) -> String {
    let services = daemon.status("default").services;
    services.into_iter().find(|service| service.name == "db").and_then(|service| service.container).unwrap()
}

fn is_paused(daemon: &TestDaemon) -> bool {
    daemon.engine.describe().contains(" paused with ")
}

/// A command that waited for the service would not end within the limit of all commands.
fn at_once(daemon: &TestDaemon, code: i32, line: &str, when: &str) -> String {
    let ended = daemon.run(line);
    assert_eq!(ended.code, Some(code), "{when}: {}{}", ended.stdout, ended.stderr);
    ended.stderr
}

/// Has a world in which every one of these commands works, with `db` held still.
fn held(holder: Holder) -> (World, TestDaemon) {
    let world = World::without_agents();
    world.write("profiles/shop.yaml", &patient_shop());
    let daemon = world.up();
    daemon.carry_out("snapshot save one");
    daemon.carry_out("backup");
    world.write("dump", "imported");
    holder.hold(&daemon);
    (world, daemon)
}

/// What has to reach the service is refused, names the pause and a way to end it, and works afterwards.
fn is_refused(lines: &[&str], code: i32) {
    for holder in [Fault, PersistentFault, ByEngine] {
        let (_world, daemon) = held(holder);
        for line in lines {
            let when = format!("`{line}` with {holder:?}");
            let said = at_once(&daemon, code, line, &when);
            let way = if holder == ByEngine { "docker unpause" } else { "devenv chaos heal" };
            assert!(said.contains("paused") && said.contains(way), "{when}: {said}");
            assert!(is_paused(&daemon), "{when}: the pause is over");
        }
        holder.end(&daemon);
        for line in lines {
            at_once(&daemon, 0, line, &format!("`{line}` after {holder:?}"));
        }
    }
}

/// What replaces the service's process ends the pause. A fault that persists comes back.
fn ends_the_pause(line: &str) {
    for holder in [Fault, PersistentFault, ByEngine] {
        let (_world, daemon) = held(holder);
        let when = format!("`{line}` with {holder:?}");
        at_once(&daemon, 0, line, &when);
        if holder == PersistentFault {
            crate::world::until(&when, || is_paused(&daemon));
            daemon.expect(0, "chaos heal");
        }
        assert!(!is_paused(&daemon), "{when}");
        let faults = daemon.json("chaos status")["faults"].as_array().unwrap().len();
        assert_eq!(faults, 0, "{when}");
    }
}

/// What needs the files alone goes on, and the pause stays whose it is.
fn leaves_the_pause(line: &str) {
    for holder in [Fault, PersistentFault, ByEngine] {
        let (_world, daemon) = held(holder);
        let when = format!("`{line}` with {holder:?}");
        at_once(&daemon, 0, line, &when);
        assert!(is_paused(&daemon), "{when}: the pause is over");
        holder.end(&daemon);
    }
}

#[test]
fn backup_of_a_paused_service_is_refused_at_once() {
    is_refused(&["backup db", "backup"], 1);
}

#[test]
fn a_backup_is_not_restored_into_a_paused_service() {
    is_refused(&["backup restore latest"], 1);
}

#[test]
fn import_into_a_paused_service_is_refused_at_once() {
    is_refused(&["import db dump"], 1);
}

#[test]
fn export_of_a_paused_service_is_refused_at_once() {
    is_refused(&["export db out"], 1);
}

#[test]
fn exec_in_a_paused_service_is_refused_at_once() {
    is_refused(&["exec db -- true"], 125);
}

#[test]
fn a_paused_service_is_restarted_at_once() {
    ends_the_pause("restart db");
}

#[test]
fn a_paused_service_is_reset_at_once() {
    ends_the_pause("reset db");
}

#[test]
fn a_snapshot_is_restored_to_a_paused_service_at_once() {
    ends_the_pause("snapshot restore one");
}

#[test]
fn a_snapshot_of_a_paused_service_is_saved_at_once() {
    leaves_the_pause("snapshot save two");
}

#[test]
fn a_fork_of_a_paused_service_is_made_at_once() {
    leaves_the_pause("fork copy");
}
