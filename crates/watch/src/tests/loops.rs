//! Feedback loops: builds and programs that write files which are watched.

use std::fs;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_writes_watched_files_is_reported_and_its_loop_broken() {
    let mut project = Project::new().await;
    fs::write(project.path("app/server.py"), "edited").unwrap();
    assert_eq!(project.one_change("the save").await, ["app/server.py"]);
    for run in 1..=3 {
        project.watcher.work_begins("api", None);
        fs::write(project.path("app/made.py"), format!("made in run {run}")).unwrap();
        // Until the kernel's event has been read, even on a busy machine.
        sleep(200);
        project.watcher.work_ends("api");
        match run {
            1 => assert_eq!(project.one_change("it may be a save").await, ["app/made.py"]),
            2 => {
                let feedback_loop = FeedbackLoop {
                    service: "api".to_owned(),
                    rule: 0,
                    paths: vec![project.path("app/made.py")],
                    writer: None,
                    while_running: false,
                };
                assert_eq!(project.next().await, Observation::FeedbackLoop(feedback_loop));
            }
            _ => project.nothing("reported once").await,
        }
    }
    fs::write(project.path("app/server.py"), "edited again").unwrap();
    assert_eq!(project.one_change("a save afterwards").await, ["app/server.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn saves_count_while_the_service_waits_for_another_one() {
    let mut project = Project::new().await;
    for save in 0..6 {
        project.watcher.work_begins("api", None);
        project.watcher.waits("api");
        fs::write(project.path("app/server.py"), format!("save {save}")).unwrap();
        assert_eq!(project.one_change("a save").await, ["app/server.py"]);
    }
}

/// A program that writes its data in a watched directory, a little after each start, while a person edits files beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_writes_watched_files_while_it_runs_is_reported_and_its_loop_broken() {
    let mut project = Project::new().await;
    let mut restarts = 0;
    let found = loop {
        project.watcher.work_begins("api", None);
        sleep(20);
        project.watcher.work_ends("api");
        sleep(300);
        fs::write(project.path("app/dev.db"), format!("start {restarts}")).unwrap();
        match project.next().await {
            Observation::Changed(change) => assert_eq!(change.paths, [project.path("app/dev.db")]),
            other => break other,
        }
        restarts += 1;
        assert!(restarts <= 3, "it goes on for ever");
    };
    let paths = vec![project.path("app/dev.db")];
    let expected = FeedbackLoop { service: "api".to_owned(), rule: 0, paths, writer: None, while_running: true };
    assert_eq!(found, Observation::FeedbackLoop(expected));
    for round in 0..3 {
        sleep(200);
        fs::write(project.path("app/dev.db"), format!("later {round}")).unwrap();
        project.nothing("the program writes on").await;
    }
    fs::write(project.path("app/server.py"), "edited").unwrap();
    fs::write(project.path("app/dev.db"), "at the same time").unwrap();
    assert_eq!(project.one_change("a save beside it").await, ["app/server.py"]);
}

/// A person, or a script, may save as regularly as a program writes: what tells them apart is whether the service wrote anything.
#[tokio::test(flavor = "multi_thread")]
async fn regular_saves_count_while_the_service_writes_nothing() {
    let mut project = Project::new().await;
    for save in 0..6 {
        let marker = format!("watch-test/{}/{save}", std::process::id());
        let mut service = Command::new("sleep").arg("1000").env(devenv_processes::MARKER, &marker).spawn().unwrap();
        project.watcher.work_begins("api", Some(&marker));
        sleep(20);
        project.watcher.work_ends("api");
        sleep(300);
        fs::write(project.path("app/server.py"), format!("save {save}")).unwrap();
        assert_eq!(project.one_change("a save").await, ["app/server.py"]);
        service.kill().unwrap();
        service.wait().unwrap();
    }
}
