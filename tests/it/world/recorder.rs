//! Crash points: what a daemon leaves behind if it is killed at an engine call.
//!
//! The command runs once without disturbance. Before and after each engine call the state directory and the engine are copied,
//! while the daemon's only thread waits in that call. Such a copy is what SIGKILL leaves: no task has ended and no value
//! was dropped. Points with the same state count once.

use std::{
    collections::HashSet,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use devenv_engine::fake::{CallAction, FakeEngine};

use super::{TestDaemon, files};

/// Records from [`CrashRecorder::start`] to [`CrashRecorder::finish`].
pub(crate) struct CrashRecorder {
    engine: FakeEngine,
    recorded: Arc<Mutex<Recorded>>,
}

#[derive(Default)]
struct Recorded {
    states: HashSet<String>,
    points: Vec<CrashPoint>,
}

pub(crate) struct CrashPoint {
    /// The engine call, for messages.
    pub(crate) call: String,
    engine: FakeEngine,
    root: PathBuf,
    project: PathBuf,
}

impl CrashRecorder {
    pub(crate) fn start(daemon: &TestDaemon) -> Self {
        let recorded: Arc<Mutex<Recorded>> = Arc::default();
        let (engine, root, project, shared) = (daemon.engine.clone(), daemon.root.clone(), daemon.project.clone(), recorded.clone());
        daemon.engine.intercept_calls(move |call| {
            let mut recorded = shared.lock().unwrap();
            if recorded.states.insert(describe(&engine, &root)) {
                let place = root.join("crashes").join(recorded.points.len().to_string());
                fs::create_dir_all(place.join("run")).unwrap();
                copy(&root.join("state"), &place.join("state"));
                move_paths(&root, &place);
                let engine = engine.snapshot_into(&place.join("volumes")).unwrap();
                recorded.points.push(CrashPoint { call: call.to_string(), engine, root: place, project: project.clone() });
            }
            CallAction::Continue
        });
        Self { engine: daemon.engine.clone(), recorded }
    }

    pub(crate) fn finish(self) -> Vec<CrashPoint> {
        self.engine.stop_intercepting();
        std::mem::take(&mut self.recorded.lock().unwrap().points)
    }
}

impl CrashPoint {
    /// Stops all running containers, as a restart of the machine does.
    pub(crate) fn stop_containers(&self) {
        let described = self.engine.describe();
        let running = described.lines().filter_map(|line| line.strip_prefix("container ")).filter(|line| line.contains(" running "));
        for name in running.filter_map(|line| line.split(' ').next()) {
            self.engine.exit(name, 137);
        }
    }

    /// Starts the next daemon.
    pub(crate) fn start(&self) -> TestDaemon {
        TestDaemon::start(self.engine.clone(), &self.root, &self.project)
    }
}

impl Drop for CrashPoint {
    fn drop(&mut self) {
        // It fails only if files are gone already. There are many points, and they may be in memory.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The engine's objects and the state directory, without logs, which grow all the time.
fn describe(engine: &FakeEngine, root: &Path) -> String {
    let mut text = engine.describe();
    for (path, content) in files(&root.join("state")) {
        if !path.ends_with("events.ndjson") && !path.components().any(|part| part.as_os_str() == "logs") {
            write!(text, "\n{} {}", path.display(), String::from_utf8_lossy(&content)).unwrap();
        }
    }
    text
}

/// Makes the paths that operations have on record point into the copy.
fn move_paths(root: &Path, place: &Path) {
    let in_state = |root: &Path| root.join("state").display().to_string();
    for entry in fs::read_dir(place.join("state/operations")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap();
        fs::write(entry.path(), text.replace(&in_state(root), &in_state(place))).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    // A blocking thread may remove a directory at this moment.
    let Ok(entries) = fs::read_dir(from) else { return };
    fs::create_dir_all(to).unwrap();
    for entry in entries.flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            // A file that a blocking thread renames at this moment is copied under its new name.
            let _ = fs::copy(entry.path(), target);
        }
    }
}
