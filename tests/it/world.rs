//! Test fixtures: a daemon in this process, on an engine in memory, with a project of its own.
//!
//! [`World`] outlives daemons: it holds the project's files, the state directory and the engine. [`TestDaemon`] is one
//! daemon; it serves the real command line on its socket. [`CrashRecorder`] copies the state directory and the engine at
//! every engine call of a command, so that a test can start the next daemon from each of these points.

mod checks;
mod command;
mod daemon;
mod gate;
pub(crate) mod keeper;
mod recorder;
mod store;

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use devenv_engine::{
    EngineError,
    fake::{CallAction, CallPhase, FakeEngine},
};
use tempfile::TempDir;

pub(crate) use checks::until;
pub(crate) use daemon::TestDaemon;
pub(crate) use gate::Gate;
pub(crate) use recorder::{CrashPoint, CrashRecorder};

/// Two services with data, and one without data that depends on them.
pub(crate) const SHOP: &str = r#"
services:
  db:
    container: { image: "data:1", volumes: [{ source: rows, target: /rows }] }
  cache:
    container: { image: "data:1", volumes: [{ source: keys, target: /keys }] }
  api:
    container: { image: "api:1" }
    depends_on: { db: ready, cache: ready }
"#;

/// As [`SHOP`], with data services that have an hour to stop: what waits for the stop of a paused one does not go on.
pub(crate) fn patient_shop() -> String {
    let data = "    container: { image: \"data:1\"";
    SHOP.replace(data, &format!("    stop: {{ grace: 1h }}\n{data}"))
}

/// Makes an executable file. Another process writes it: a program that another test starts at this moment has this process's open
/// files for an instant, and what is open for writing cannot be executed.
pub(crate) fn write_program(path: &Path, text: &str) {
    let mut write = Command::new("sh")
        .args(["-c", "cat >\"$0.new\" && chmod 755 \"$0.new\" && mv \"$0.new\" \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    write.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(write.wait().unwrap().success());
}

pub(crate) struct World {
    /// In memory where possible, because the daemon syncs every state file.
    directory: TempDir,
    pub(crate) engine: FakeEngine,
}

impl World {
    /// A project with the profile `shop`.
    pub(crate) fn new() -> Self {
        Self::with(FakeEngine::with_volumes_in)
    }

    /// As [`Self::new`], with an engine on another machine: nothing of its volumes can be reached through files.
    pub(crate) fn elsewhere() -> Self {
        Self::with(FakeEngine::with_volumes_elsewhere)
    }

    /// As [`Self::new`], with an engine that runs no fault agents, so that the daemon pauses services with the engine.
    pub(crate) fn without_agents() -> Self {
        let world = Self::new();
        world.engine.intercept_calls(|call| {
            if call.operation == "create_sidecar" && call.phase == CallPhase::Before {
                return CallAction::Fail(EngineError::NotFound { what: "program", name: "agent".to_owned() });
            }
            CallAction::Continue
        });
        world
    }

    fn with(volumes: fn(FakeEngine, &Path) -> FakeEngine) -> Self {
        devenv_kinds::substitute(&store::Store);
        devenv_kinds::substitute(&keeper::Keeper);
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        for name in ["project/profiles", "volumes", "state", "run", "config"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let images = ["data:1", "api:1", keeper::IMAGE];
        let engine = images.into_iter().fold(FakeEngine::new(), FakeEngine::with_image);
        let engine = volumes(engine, &directory.path().join("volumes"));
        let world = Self { directory, engine };
        world.write("profiles/shop.yaml", SHOP);
        world
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.project().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.root().join("project")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root().join("state")
    }

    /// Starts a daemon. Returns when it serves.
    pub(crate) fn start(&self) -> TestDaemon {
        TestDaemon::start(self.engine.clone(), self.root(), &self.project())
    }

    /// Starts a daemon with which a service without a probe must run for this long until it is ready.
    pub(crate) fn start_steady(&self, steady: Duration) -> TestDaemon {
        TestDaemon::start_steady(self.engine.clone(), self.root(), &self.project(), steady)
    }

    /// Starts a daemon, brings `shop` up and writes `yes` into each of its volumes.
    pub(crate) fn up(&self) -> TestDaemon {
        let daemon = self.start();
        daemon.expect(0, "up shop");
        daemon.write_data("default", "yes");
        daemon
    }
}

/// All files below a directory with their content; directories have none.
pub(crate) fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            let relative = path.strip_prefix(directory).unwrap().to_owned();
            if path.is_dir() {
                found.insert(relative, Vec::new());
                pending.push(path);
            } else {
                found.insert(relative, fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}
