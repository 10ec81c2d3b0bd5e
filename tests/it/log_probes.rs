//! Readiness by a line of the log, and what is stored at that moment.

use std::{
    fs,
    time::{Duration, Instant},
};

use devenv_api::ServiceState;
use serde_json::Value;

use crate::world::{TestDaemon, World, until};

/// So the program has to run for much longer after the line than these tests take.
const STEADY: Duration = Duration::from_hours(4);

fn container(daemon: &TestDaemon) -> Option<String> {
    daemon.status("default").services.first().and_then(|service| service.container.clone())
}

fn messages(daemon: &TestDaemon, kind: &str) -> Vec<String> {
    // Before the environment exists it is an error.
    let events = daemon.run("events --json").stdout;
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|event| event["kind"] == kind);
    events.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_program_whose_last_words_quote_the_line_of_its_log_probe_is_never_ready() {
    let world = World::new();
    let profile = "services: { api: { container: { image: \"api:1\" }, probe: { log: serving }, restart: { policy: never } } }\n";
    world.write("profiles/one.yaml", profile);
    let daemon = world.start_steady(STEADY);
    let up = daemon.spawn("up one");
    until("it runs", || !messages(&daemon, "service.started").is_empty());
    let id = container(&daemon).unwrap();
    daemon.engine.log(&id, true, "  File \"main.py\", line 7: print('serving')");
    until("the line is stored", || daemon.run("logs api").stdout.contains("serving"));
    // As long as a line that counts at once may take.
    let late = Instant::now() + Duration::from_secs(2);
    while Instant::now() < late && daemon.status("default").services[0].state != ServiceState::Ready {
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.engine.exit(&id, 1);
    let ended = up.ended();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(messages(&daemon, "service.ready").is_empty());
}

#[test]
fn a_version_whose_line_was_seen_is_started_again_although_the_next_save_came_before_it_was_ready() {
    let world = World::new();
    let profile = "services:\n  api:\n    container: { image: \"api:1\" }\n    probe: { log: serving }\n    \
                   watch: [{ paths: [app], on_change: restart }]\n";
    world.write("profiles/one.yaml", profile);
    world.write("app/main", "as it was");
    let daemon = world.start_steady(STEADY);
    let up = daemon.spawn("up one");
    let kept = |run: usize, name: &str| {
        let environments = fs::read_dir(world.state().join("environments")).unwrap().flatten();
        let manifests = environments.map(|environment| environment.path().join("versions/api").join(name).join("version.json"));
        manifests.filter_map(|file| fs::read(file).ok()).any(|text| serde_json::from_slice::<Value>(&text).unwrap()["run"] == run)
    };
    for run in 1..=2 {
        until("it runs", || messages(&daemon, "service.started").len() == run);
        daemon.engine.log(&container(&daemon).unwrap(), false, "serving");
        until("its version is stored", || kept(run, "proposed"));
        // Another file each time, and in one step: a save of a file that has changed during a start before may count for a product of it.
        world.write("next", "more");
        fs::rename(world.project().join("next"), world.project().join(format!("app/part-{run}"))).unwrap();
    }
    until("the third runs", || messages(&daemon, "service.started").len() == 3);
    daemon.engine.exit(&container(&daemon).unwrap(), 1);
    until("it is given up", || !messages(&daemon, "service.reload-failed").is_empty());
    let reported = messages(&daemon, "service.reload-failed").remove(0);
    assert!(reported.ends_with("run 2 is started again"), "{reported}");
    daemon.expect(0, "down");
    assert_eq!(up.ended().code, Some(1));
}
