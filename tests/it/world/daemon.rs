//! One daemon on a thread of its own. Its runtime has a single thread: while a test looks at an engine call, no other task
//! of the daemon runs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use devenv_api::{Announcement, Client};
use devenv_engine::fake::FakeEngine;
use serde_json::Value;
use tokio::{runtime, sync::oneshot};

/// Dropping it ends the daemon without a shutdown.
pub(crate) struct TestDaemon {
    pub(crate) engine: FakeEngine,
    pub(super) root: PathBuf,
    pub(super) project: PathBuf,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestDaemon {
    /// Uses the directories `state` and `run` below `root`. Returns when the daemon serves.
    pub(crate) fn start(engine: FakeEngine, root: &Path, project: &Path) -> Self {
        let (kill, killed) = oneshot::channel();
        let (announced, announcement) = mpsc::channel();
        let (state, run, driven) = (root.join("state"), root.join("run"), engine.clone());
        let thread = std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let announce = move |announcement| announced.send(announcement).unwrap();
            runtime.block_on(async {
                tokio::select! {
                    ended = devenv::hosted::run(Arc::new(driven), &state, &run, announce) => ended.unwrap(),
                    _ = killed => {}
                }
            });
            runtime.shutdown_background();
        });
        let announcement = announcement.recv().expect("a daemon announces whether it serves");
        assert!(matches!(announcement, Announcement::Ready), "{announcement:?}");
        Self { engine, root: root.to_owned(), project: project.to_owned(), kill: Some(kill), thread: Some(thread) }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.socket()).unwrap()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join("run/devenv.sock")
    }

    /// Stops the daemon as `devenv daemon stop` does.
    pub(crate) fn stop(mut self) {
        block_on(self.client().stop_daemon()).unwrap();
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

/// Runs a client's call to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
