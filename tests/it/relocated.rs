//! A project that was moved or renamed: `list` names its environments, and `move` gives them the new directory, whatever is killed.

use std::{fs, path::PathBuf};

use devenv_api::{ArchiveRequest, AskedBy, MoveRequest, OperationRequest, ServiceState, Submission, TransferRequest};
use devenv_engine::EngineError;

use crate::world::{CrashRecorder, Gate, TestDaemon, World, until};

/// Renames the project, and goes on in the new directory. Returns the former one.
fn renamed(daemon: &mut TestDaemon) -> PathBuf {
    let former = daemon.project.clone();
    let new = former.with_file_name("renamed");
    fs::rename(&former, &new).unwrap();
    daemon.project = new;
    former
}

#[test]
fn a_renamed_project_keeps_its_data_its_snapshots_and_its_environments() {
    let world = World::new();
    let mut daemon = world.up();
    daemon.expect(0, "snapshot save one");
    daemon.expect(0, "backup");
    daemon.expect(0, "fork copy");
    let (id, volumes) = (daemon.status("default").environment, daemon.volumes("default"));
    let former = renamed(&mut daemon);

    let listed = daemon.expect(0, "list");
    assert!(listed.stderr.contains(&format!("devenv move {}", former.display())), "{}", listed.stderr);
    assert_eq!(daemon.json("list")[0]["project_gone"], true);
    assert_eq!(daemon.phase(), "absent", "the new directory has none yet");

    let moved = daemon.expect(0, "move ../project");
    assert!(moved.stdout.contains("renamed") && moved.stdout.contains("copy"), "{}", moved.stdout);
    assert_eq!((daemon.status("default").environment, daemon.volumes("default")), (id, volumes));
    assert_eq!(daemon.json("list")[0].get("project_gone"), None);
    daemon.expect(0, "up shop");
    assert_eq!((daemon.data("default"), daemon.data("copy")), (vec!["yes".to_owned(); 2], vec!["yes".to_owned(); 2]));
    daemon.write_data("default", "changed");
    daemon.expect(0, "snapshot restore one");
    assert_eq!(daemon.data("default"), ["yes", "yes"]);
    assert_eq!(daemon.backups().len(), 1);
    daemon.nothing_is_left("after the move");
    assert_eq!(daemon.last_operation("move").as_deref(), Some("succeeded"));
    // It is another project that is in the former directory from now on.
    let new = std::mem::replace(&mut daemon.project, former.clone());
    fs::create_dir(&former).unwrap();
    fs::create_dir(former.join("profiles")).unwrap();
    fs::copy(new.join("profiles/shop.yaml"), former.join("profiles/shop.yaml")).unwrap();
    daemon.expect(0, "up shop");
    assert_eq!(daemon.json("list").as_array().unwrap().len(), 3);
    assert_eq!(daemon.json("status")["project"], former.display().to_string());
    daemon.expect(0, "down --all --volumes");
}

/// The engine's labels cannot be changed: the record says whose volumes they are, and in which directory.
#[test]
fn a_project_that_moves_twice_is_listed_collected_and_removed_by_its_last_directory() {
    let world = World::new();
    let mut daemon = world.up();
    daemon.expect(0, "snapshot save one");
    let kept = daemon.all_volumes();
    let mut former = daemon.project.clone();
    for name in ["second", "third"] {
        let new = former.with_file_name(name);
        fs::rename(&former, &new).unwrap();
        daemon.project = new.canonicalize().unwrap();
        daemon.expect(0, &format!("move {}", former.display()));
        former = daemon.project.clone();
        daemon.expect(0, "gc --all");
        assert_eq!(daemon.all_volumes(), kept, "{name}: the data and the snapshot are still of this project");
        let listed = daemon.json("list");
        assert_eq!((listed.as_array().unwrap().len(), listed[0]["project"].as_str()), (1, daemon.project.to_str()), "{name}");
        assert_eq!(daemon.json("env")["DEVENV_PROJECT"].as_str(), daemon.project.to_str(), "{name}");
    }
    daemon.expect(0, "up shop");
    daemon.write_data("default", "changed");
    daemon.expect(0, "snapshot restore one");
    assert_eq!(daemon.data("default"), ["yes", "yes"]);
    daemon.expect(0, "snapshot remove one");
    daemon.expect(0, "down --volumes");
    daemon.expect(0, "gc --all");
    assert!(daemon.all_volumes().is_empty(), "{}", daemon.engine.describe());
}

#[test]
fn a_service_that_has_failed_is_started_again_in_the_new_directory() {
    let world = World::new();
    let profile = "services:\n  api: { container: { image: \"api:1\", volumes: [{ source: ./src, target: /src }] } }\n\
                   \x20 web: { container: { image: \"api:1\", volumes: [{ source: ./src, target: /src }] } }\n";
    world.write("profiles/shop.yaml", profile);
    world.write("src/main", "");
    let mut daemon = world.start();
    daemon.expect(0, "up shop");
    let container = |daemon: &TestDaemon, place: usize| daemon.status("default").services[place].container.clone().unwrap();
    let (api, web) = (container(&daemon, 0), container(&daemon, 1));
    let refusal = EngineError::Refused { action: "start".into(), status: 500, message: "no such directory".into() };
    daemon.engine.fail_next("start", refusal);
    daemon.engine.exit(&api, 1);
    until("it has failed", || daemon.status("default").services[0].state == ServiceState::Failed);
    renamed(&mut daemon);
    daemon.expect(0, "move ../project");
    until("it is started again", || daemon.status("default").services[0].state == ServiceState::Ready);
    let source = |name: &str| format!("{:?}", daemon.engine.created(name).unwrap().0.mounts);
    assert!(source(&container(&daemon, 0)).contains("renamed/src"), "{}", source(&container(&daemon, 0)));
    assert_eq!(container(&daemon, 1), web, "what runs keeps running");
    assert!(source(&web).contains("project/src"));
}

#[test]
fn a_relative_path_in_a_request_to_the_daemon_is_refused() {
    let world = World::new();
    let daemon = world.up();
    let target = daemon.target("default");
    let transfer = |place: &str| TransferRequest { target: target.clone(), service: "db".into(), place: place.into(), database: None };
    let moves = |from: &str, to: &str| MoveRequest { from: from.into(), to: to.into(), instance: None };
    for request in [
        OperationRequest::Export(transfer("dump.sql")),
        OperationRequest::Import(transfer("./dump.sql")),
        OperationRequest::Move(moves("shop", "/srv/shop")),
        OperationRequest::Move(moves("/srv/shop", "../shop")),
    ] {
        let named = format!("{request:?}");
        let submission = Submission { request, asked_by: AskedBy::default() };
        let error = daemon.refused(async |client| client.carry_out::<serde_json::Value>(&submission).await);
        assert!(error.message.contains("must be an absolute path") && error.hint.is_some(), "{named}: {error:?}");
    }
    let archive = ArchiveRequest { file: "images.tar".into(), images: vec!["api:1".into()] };
    for saves in [true, false] {
        let error =
            daemon.refused(async |client| if saves { client.save_images(&archive).await } else { client.load_images(&archive).await });
        assert!(error.message.contains("`images.tar`"), "{error:?}");
    }
}

#[test]
fn a_move_is_refused_where_it_would_hide_data_or_has_nothing_to_move() {
    let world = World::new();
    let mut daemon = world.up();
    let here = daemon.project.display().to_string();
    assert!(daemon.expect(2, &format!("move {here}")).stderr.contains("is this project"));
    let former = renamed(&mut daemon);
    let nothing = daemon.expect(1, "move ../nowhere");
    assert!(nothing.stderr.contains(&former.display().to_string()), "{}", nothing.stderr);

    // The user brought the project up in the new place first, and is told where the data is.
    let up = daemon.expect(0, "up shop");
    assert!(up.stderr.contains(&format!("devenv move {}", former.display())), "{}", up.stderr);
    let refused = daemon.expect(1, "move ../project");
    assert!(refused.stderr.contains("devenv down --volumes --instance default"), "{}", refused.stderr);
    daemon.expect(0, "down --volumes --instance default");
    daemon.expect(0, "move ../project");
    daemon.expect(0, "up shop");
    assert_eq!(daemon.data("default"), ["yes", "yes"]);

    // Nobody needs the environment of a directory that is gone.
    let former = daemon.project.clone();
    fs::rename(&former, former.with_file_name("elsewhere")).unwrap();
    daemon.project = daemon.root.clone();
    daemon.expect(0, &format!("down --volumes --project {}", former.display()));
    assert!(daemon.volumes("default").is_empty());
    daemon.nothing_is_left("after it was taken down");
}

#[test]
fn a_move_that_is_killed_is_finished_or_did_not_begin() {
    let world = World::new();
    let mut daemon = world.up();
    daemon.expect(0, "fork copy");
    let former = renamed(&mut daemon);
    let recorder = CrashRecorder::start(&daemon);
    daemon.expect(0, "move ../project");
    let points = recorder.finish();
    let new = daemon.project.clone();
    daemon.stop();
    assert!(points.len() > 1, "{} crash points", points.len());
    let mut finished = 0;
    for point in points {
        let when = format!("`move` killed {}", point.call);
        let daemon = point.start();
        daemon.quiet();
        let listed = daemon.json("list");
        let mut projects: Vec<&str> = listed.as_array().unwrap().iter().map(|status| status["project"].as_str().unwrap()).collect();
        projects.dedup();
        assert_eq!(projects.len(), 1, "{when}: all of them move or none: {listed}");
        if projects[0] == former.display().to_string() {
            daemon.expect(0, "move ../project");
        } else {
            assert_eq!(projects[0], new.display().to_string(), "{when}");
            finished += 1;
        }
        assert_eq!((daemon.data("default"), daemon.data("copy")), (vec!["yes".to_owned(); 2], vec!["yes".to_owned(); 2]), "{when}");
        daemon.nothing_is_left(&when);
        daemon.expect(0, "up shop");
        assert_eq!(daemon.json("list").as_array().unwrap().len(), 2, "{when}");
        daemon.nothing_is_left(&when);
    }
    assert!(finished > 0, "some daemons are killed after it has begun");
}

/// Nothing in these needs the engine.
#[test]
fn commands_that_read_what_is_on_record_end_while_the_engine_never_answers() {
    let world = World::new();
    let daemon = world.up();
    let gate = Gate::all(&daemon.engine);
    for line in
        ["logs", "logs --tail 3", "logs db --since 1h", "list", "events", "why db", "env", "operations", "snapshot list", "backup list"]
    {
        daemon.expect(0, line);
    }
    let follows = daemon.spawn("logs --follow");
    std::thread::sleep(std::time::Duration::from_millis(300));
    follows.signal(rustix::process::Signal::INT);
    // The signal may come before the client handles signals.
    assert!(matches!(follows.ended().code, None | Some(130)));
    drop(gate);
}
