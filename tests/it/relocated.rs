//! A project that was moved or renamed: `list` names its environments, and `move` gives them the new directory, whatever is killed.

use std::{fs, path::PathBuf};

use crate::world::{CrashRecorder, Gate, TestDaemon, World};

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
