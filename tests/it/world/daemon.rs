//! One daemon on its own thread. Its runtime has a single thread: while a test looks at an engine call, no other task
//! of the daemon runs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use devenv_api::{Announcement, ApiError, Client, ClientError, EnvironmentTarget, Operation, Status};
use devenv_engine::fake::FakeEngine;
use serde_json::Value;
use tokio::{runtime, sync::oneshot};

/// Dropping it ends the daemon without a shutdown.
pub(crate) struct TestDaemon {
    pub(crate) engine: FakeEngine,
    pub(crate) root: PathBuf,
    pub(crate) project: PathBuf,
    /// For metrics of the daemon's tasks.
    pub(crate) runtime: runtime::Handle,
    client: Client,
    /// Of this test, for the client.
    own_runtime: runtime::Runtime,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestDaemon {
    /// Uses the directories `state` and `run` below `root`. Returns when the daemon serves.
    pub(crate) fn start(engine: FakeEngine, root: &Path, project: &Path) -> Self {
        Self::start_steady(engine, root, project, Duration::ZERO)
    }

    /// As [`Self::start`], with the time that a service without a probe must run until it is ready.
    pub(crate) fn start_steady(engine: FakeEngine, root: &Path, project: &Path, steady: Duration) -> Self {
        let late = Instant::now() + Duration::from_mins(5);
        loop {
            // A command that another test starts at this moment holds copies of all open files, including locks, until it
            // executes another program. So the lock of the former daemon may be released a little late.
            match Self::try_start(engine.clone(), root, project, steady) {
                Ok(daemon) => return daemon,
                Err(Announcement::Running) if Instant::now() < late => std::thread::sleep(Duration::from_millis(5)),
                Err(other) => panic!("the daemon does not serve: {other:?}"),
            }
        }
    }

    fn try_start(engine: FakeEngine, root: &Path, project: &Path, steady: Duration) -> Result<Self, Announcement> {
        let (kill, killed) = oneshot::channel();
        let (announced, announcement) = mpsc::channel();
        let (state, run, driven) = (root.join("state"), root.join("run"), engine.clone());
        let thread = std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let announce = move |announcement| announced.send((announcement, runtime::Handle::current())).unwrap();
            runtime.block_on(async {
                tokio::select! {
                    ended = devenv::hosted::run(Arc::new(driven), (&state, &run), steady, announce) => drop(ended),
                    _ = killed => {}
                }
            });
            runtime.shutdown_background();
        });
        let (announcement, runtime) = announcement.recv().expect("a daemon announces whether it serves");
        if !matches!(announcement, Announcement::Ready) {
            return Err(announcement);
        }
        Ok(Self {
            engine,
            root: root.to_owned(),
            project: project.canonicalize().unwrap(),
            runtime,
            client: Client::new(root.join("run/devenv.sock")).unwrap(),
            own_runtime: runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            kill: Some(kill),
            thread: Some(thread),
        })
    }

    /// Calls the daemon without a process of the command line.
    pub(crate) fn ask<T>(&self, ask: impl AsyncFnOnce(&Client) -> Result<T, ClientError>) -> T {
        self.own_runtime.block_on(ask(&self.client)).unwrap()
    }

    /// As [`Self::ask`], for what the daemon refuses.
    #[track_caller]
    pub(crate) fn refused<T>(&self, ask: impl AsyncFnOnce(&Client) -> Result<T, ClientError>) -> ApiError {
        match self.own_runtime.block_on(ask(&self.client)) {
            Err(ClientError::Answered(error)) => error,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was not refused"),
        }
    }

    pub(crate) fn target(&self, instance: &str) -> EnvironmentTarget {
        EnvironmentTarget { project: self.project.display().to_string(), instance: instance.to_owned() }
    }

    /// For the default instance.
    pub(crate) fn phase(&self) -> String {
        self.status("default").phase.to_string()
    }

    pub(crate) fn status(&self, instance: &str) -> Status {
        let target = self.target(instance);
        self.ask(async |client| client.status(&target).await)
    }

    pub(crate) fn operations_in_progress(&self) -> usize {
        self.operations().iter().filter(|operation| !operation.state.has_ended()).count()
    }

    /// The state of the last operation of this kind.
    pub(crate) fn last_operation(&self, kind: &str) -> Option<String> {
        let last = self.operations().into_iter().rfind(|operation| operation.kind.to_string() == kind)?;
        Some(last.state.to_string())
    }

    /// Asks every operation in progress to stop. They have been asked when this returns.
    pub(crate) fn cancel_operations(&self) {
        for operation in self.operations().into_iter().filter(|operation| !operation.state.has_ended()) {
            self.ask(async |client| client.cancel_operation(&operation.id).await);
        }
    }

    fn operations(&self) -> Vec<Operation> {
        self.ask(async |client| client.operations().await).operations
    }

    /// Whether the daemon has ended, or is about to end, by itself. In the latter case it waits for that.
    pub(crate) fn has_ended(&self) -> bool {
        // It removes its socket before it stops the operations in progress, and their clients end before it does.
        if self.root.join("run/devenv.sock").exists() {
            return false;
        }
        super::until("a daemon without a socket ends", || self.thread.as_ref().is_none_or(JoinHandle::is_finished));
        true
    }

    /// Stops the daemon as `devenv daemon stop` does.
    pub(crate) fn stop(mut self) {
        self.ask(async |client| client.stop_daemon().await);
        self.thread.take().unwrap().join().unwrap();
    }

    /// The record of an environment as it is on disk.
    pub(crate) fn record(&self, instance: &str) -> Option<Value> {
        let directory = fs::read_dir(self.root.join("state/environments")).ok()?;
        let records = directory.flatten().filter_map(|entry| fs::read(entry.path().join("environment.json")).ok());
        records.filter_map(|text| serde_json::from_slice::<Value>(&text).ok()).find(|record| record["instance"] == instance)
    }

    /// The engine's names of an environment's volumes, by `SERVICE/VOLUME`.
    pub(crate) fn volumes(&self, instance: &str) -> BTreeMap<String, String> {
        let record = self.record(instance).unwrap_or_default();
        serde_json::from_value(record["volumes"].clone()).unwrap_or_default()
    }

    /// The content of the file `data` in each volume of an environment, in the order of services. `none`: there is no such file.
    pub(crate) fn data(&self, instance: &str) -> Vec<String> {
        self.volumes(instance).values().map(|volume| self.data_in(volume)).collect()
    }

    pub(crate) fn write_data(&self, instance: &str, text: &str) {
        for volume in self.volumes(instance).values() {
            fs::write(self.engine.files_of(volume).join("data"), text).unwrap();
        }
    }

    pub(crate) fn data_in(&self, volume: &str) -> String {
        fs::read_to_string(self.engine.files_of(volume).join("data")).unwrap_or_else(|_| "none".to_owned())
    }
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        if let (Some(kill), Some(thread)) = (self.kill.take(), self.thread.take()) {
            // Fails if the daemon has ended already.
            let _ = kill.send(());
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the daemon panicked");
        }
    }
}
