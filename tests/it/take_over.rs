//! `move --from-compose`: the data of a Compose project, which stays as it is, becomes the environment's.

use std::fs;

use devenv_api::Phase;
use devenv_engine::{ComposeMount, ComposeProject, ComposeVolume};

use crate::{
    changes::TAKE_OVER,
    world::{CrashRecorder, TestDaemon, World},
};

const COMPOSE: &str = r"
name: shop
services:
  Db: { image: 'data:1', volumes: ['rows:/rows'] }
  cache: { image: 'data:1', volumes: ['/keys'] }
volumes: { rows: , other: }
";

fn volume(name: &str, key: Option<&str>, mounts: Vec<ComposeMount>) -> ComposeVolume {
    ComposeVolume { name: name.to_owned(), key: key.map(str::to_owned), mountpoint: std::path::PathBuf::new(), mounts }
}

/// What Docker Compose has after `docker compose stop`.
fn stopped() -> ComposeProject {
    let keys = ComposeMount { service: "cache".to_owned(), copy: 1, target: "/keys".to_owned() };
    let volumes = vec![
        volume("shop_rows", Some("rows"), Vec::new()),
        volume("0a1b", None, vec![keys]),
        volume("shop_other", Some("other"), Vec::new()),
    ];
    ComposeProject { volumes, running: Vec::new() }
}

fn with_compose(world: &World, project: ComposeProject) -> TestDaemon {
    world.write("compose.yaml", COMPOSE);
    let names: Vec<String> = project.volumes.iter().map(|volume| volume.name.clone()).collect();
    world.engine.set_compose_project("shop", project);
    for name in names {
        fs::write(world.engine.files_of(&name).join("data"), format!("of {name}")).unwrap();
    }
    world.start()
}

#[test]
fn an_environment_starts_on_the_data_that_docker_compose_made() {
    let world = World::new();
    let daemon = with_compose(&world, stopped());
    let moved = daemon.expect(0, "move --from-compose -f compose.yaml");
    assert!(moved.stdout.contains("rows is a copy of shop_rows"), "{}", moved.stdout);
    assert!(moved.stderr.contains("shop_other was not copied") && moved.stderr.contains("devenv up"), "{}", moved.stderr);
    assert_eq!(daemon.data("default"), ["of 0a1b", "of shop_rows"]);
    assert_eq!(daemon.phase(), Phase::Absent.to_string());
    daemon.expect(0, "up -f compose.yaml");
    daemon.write_data("default", "changed");
    assert_eq!(daemon.data_in("shop_rows"), "of shop_rows", "Docker Compose's volume stays as it is");
    // Once more, while it is up: the data that it had is in the trash.
    let again = daemon.json("move --from-compose=shop -f compose.yaml");
    assert_eq!(again["running"], true);
    assert_eq!((daemon.data("default")[1].as_str(), daemon.phase().as_str()), ("of shop_rows", "ready"));
    daemon.expect(0, "undo");
    assert_eq!(daemon.data("default"), ["changed", "changed"]);
}

#[test]
fn nothing_is_taken_over_while_containers_of_docker_compose_run() {
    let world = World::new();
    let daemon = with_compose(&world, ComposeProject { running: vec!["shop-db-1".to_owned()], ..stopped() });
    let refused = daemon.expect(1, "move --from-compose -f compose.yaml");
    assert!(refused.stderr.contains("shop-db-1") && refused.stderr.contains("docker compose -p shop stop"), "{}", refused.stderr);
    let unknown = daemon.expect(1, "move --from-compose=nothing -f compose.yaml");
    assert!(unknown.stderr.contains("the Compose project `nothing` has no volume"), "{}", unknown.stderr);
    assert!(daemon.all_volumes().is_empty() && daemon.quiet().is_empty());
}

#[test]
fn data_is_taken_over_on_an_engine_whose_volumes_are_elsewhere() {
    let world = World::elsewhere();
    let daemon = with_compose(&world, stopped());
    daemon.expect(0, "move --from-compose -f compose.yaml");
    assert_eq!(daemon.data("default"), ["of 0a1b", "of shop_rows"]);
}

/// The environment is there once its record names the copies; nothing is left of a takeover that was killed before.
#[test]
fn a_first_takeover_that_is_killed_leaves_nothing_and_can_be_repeated() {
    let world = World::new();
    let daemon = with_compose(&world, stopped());
    let recorder = CrashRecorder::start(&daemon);
    daemon.expect(0, TAKE_OVER.command);
    let points = recorder.finish();
    daemon.stop();
    assert!(points.len() > 4, "{}", points.len());
    for point in points {
        let daemon = point.start();
        daemon.quiet();
        daemon.nothing_is_left(&point.call);
        assert_eq!(daemon.data("default"), [""; 0], "{}", point.call);
        daemon.expect(0, TAKE_OVER.command);
        assert_eq!(daemon.data("default"), ["of 0a1b", "of shop_rows"], "{}", point.call);
        assert_eq!(daemon.data_in("shop_rows"), "of shop_rows");
    }
}
