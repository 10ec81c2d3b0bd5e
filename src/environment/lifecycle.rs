//! The life of one environment's tasks: begun together, watched for bugs, and ended before anything of theirs is removed.
//!
//! # Theory of operation
//!
//! Everything that runs for an environment runs in its [`Tasks`]: its own task, the watcher of files, forwarded ports,
//! metrics. They end with the environment's token, which is a child of the daemon's. A forgotten environment is ended and
//! awaited before its directory is removed, so nothing of it is written again, and no file of it stays open.
//!
//! A task that ends by a bug is reported here. The environment is then ended as a whole and taken up again, from its record
//! and from what the engine shows; one that fails again and again stays failed, and says why.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use devenv_api::{ApiError, ErrorCode};
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Environment, Environments, adopt};
use crate::{error::internal, event::NewEvent, faults, spec::EnvironmentId};

/// An environment is taken up again this many times within [`SPAN`], and then left failed.
const ATTEMPTS: usize = 3;
const SPAN: Duration = Duration::from_mins(1);

/// All that runs for one environment. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Tasks {
    environment: EnvironmentId,
    running: TaskTracker,
    /// Cancelled to end them all.
    pub(crate) end: CancellationToken,
    /// Unbounded: a report ends the task that makes it.
    failures: mpsc::UnboundedSender<Failed>,
}

/// A task that has ended by a bug.
pub(crate) struct Failed {
    environment: EnvironmentId,
    task: &'static str,
    message: String,
}

impl Tasks {
    pub(crate) fn new(environment: EnvironmentId, daemon: &CancellationToken, failures: mpsc::UnboundedSender<Failed>) -> Self {
        Self { environment, running: TaskTracker::new(), end: daemon.child_token(), failures }
    }

    /// Runs it with the others; `task` says what it is.
    pub(crate) fn spawn(&self, task: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let (environment, failures) = (self.environment.clone(), self.failures.clone());
        self.running.spawn(async move {
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                let message = said(panic.as_ref());
                tracing::error!(%environment, task, message, "A task of an environment ended by a bug.");
                // Nobody hears of it in a daemon that is ending.
                let _ = failures.send(Failed { environment, task, message });
            }
        });
    }

    /// Ends them all, and returns when they have ended.
    pub(crate) async fn stop(&self) {
        self.end.cancel();
        self.wait().await;
    }

    /// Returns when they have ended; the daemon's token is cancelled, or [`Self::end`].
    pub(crate) async fn wait(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

/// What a panic says.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

impl Environments {
    /// Takes up again the environments of which a task has ended by a bug, until the daemon stops.
    pub(crate) async fn restart_failed(self, stop: CancellationToken) {
        let Some(mut failures) = self.shared.failed.lock().expect("no code panics while it holds this lock").take() else { return };
        let mut restarts: Vec<(EnvironmentId, Instant)> = Vec::new();
        loop {
            // Cancel-safe: a token, and receiving.
            let failed = tokio::select! {
                () = stop.cancelled() => return,
                failed = failures.recv() => failed,
            };
            let Some(Failed { environment: id, task, message }) = failed else { return };
            restarts.retain(|(_, at)| at.elapsed() < SPAN);
            let before = restarts.iter().filter(|(restarted, _)| *restarted == id).count();
            let Some(environment) = self.get(&id) else { continue };
            let what = format!("the {task} of this environment ended by a bug in devenv: {message}");
            if before >= ATTEMPTS {
                environment
                    .handle
                    .events
                    .emit(NewEvent::new("environment.failed", format!("{what}; it failed {before} times and is not restarted")));
                continue;
            }
            restarts.push((id.clone(), Instant::now()));
            match self.take_up_again(&environment).await {
                Ok(again) => {
                    again.handle.events.emit(NewEvent::new("environment.restarted", format!("{what}; what runs was adopted again")));
                }
                Err(error) => {
                    tracing::error!(%error, environment = %id, "Cannot take up an environment again.");
                    environment.handle.events.emit(NewEvent::new("environment.failed", format!("{what}; it cannot be restarted: {error}")));
                }
            }
        }
    }

    /// Ends all that runs for it in this process, and begins again with its record and with what the engine has of it.
    async fn take_up_again(&self, environment: &Environment) -> Result<Environment, ApiError> {
        environment.end().await;
        let record = self.shared.store.record(&environment.id).map_err(internal)?;
        let record = record.ok_or_else(|| ApiError::new(ErrorCode::Internal, "its record is not there any more"))?;
        let mut observed = adopt::observe(self).await?.remove(&environment.id).unwrap_or_default();
        // Faults are kept by tasks of their own, which have not ended.
        observed.containers.retain(|container| container.labels.role.as_deref() != Some(faults::ROLE));
        adopt::adopt_one(self, record, observed).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use devenv_api::EnvironmentTarget;

    use super::*;
    use crate::{
        engine::{OwnerId, Reach, fake::FakeEngine},
        store::Store,
    };

    fn environments(directory: &std::path::Path, stop: &CancellationToken) -> (Environments, Store) {
        let store = Store::open(directory).unwrap();
        let engine = Arc::new(FakeEngine::new());
        (Environments::new(store.clone(), engine, Reach::Here, OwnerId("owner".to_owned()), stop.clone()), store)
    }

    fn target(instance: &str) -> EnvironmentTarget {
        EnvironmentTarget { project: "/p/shop".to_owned(), instance: instance.to_owned() }
    }

    #[tokio::test]
    async fn a_forgotten_environment_ends_with_its_tasks_and_writes_nothing_again() {
        let directory = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (environments, store) = environments(directory.path(), &stop);
        let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        environments.forget(&environments.ensure(&target("first")).unwrap().id).await.unwrap();
        let before = open_files();
        // One that somebody still has in hand.
        let kept = environments.ensure(&target("kept")).unwrap();
        environments.forget(&kept.id).await.unwrap();
        for number in 0..20 {
            let environment = environments.ensure(&target(&format!("test-{number}"))).unwrap();
            environments.forget(&environment.id).await.unwrap();
        }
        assert!(kept.handle.record().await.is_err(), "its task has ended");
        assert!(open_files() <= before + 4, "{before} files were open, {} are", open_files());
        assert!(environments.all().is_empty());
        stop.cancel();
        environments.finish().await;
        assert!(store.records().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(directory.path().join("environments")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn an_environment_of_which_a_task_panics_is_taken_up_again_from_its_record() {
        let directory = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (environments, _) = environments(directory.path(), &stop);
        let environment = environments.ensure(&target("one")).unwrap();
        let before = environment.handle.record().await.unwrap();
        let restarts = tokio::spawn(environments.clone().restart_failed(stop.clone()));
        environment.tasks.spawn("metrics", async { panic!("no such figure") });
        let again = tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                let now = environments.get(&environment.id).unwrap();
                if environment.handle.record().await.is_err() && now.handle.record().await.is_ok() {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let again = again.await.unwrap();
        assert_eq!(again.handle.record().await.unwrap(), before);
        stop.cancel();
        restarts.await.unwrap();
        environments.finish().await;
    }
}
