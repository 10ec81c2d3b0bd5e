//! The tasks of one environment: started together, watched for bugs, and ended before any of their files is removed.
//!
//! Everything that runs for an environment runs in its [`Tasks`]: its own task, hot reload, forwarded ports, metrics, faults.
//! They end with the environment's token, which is a child of the daemon's. One that a bug ends is reported to the registry
//! (`environment::lifecycle`), which restarts the environment.

use std::{any::Any, panic::AssertUnwindSafe};

use devenv_spec::EnvironmentId;
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Cheap to clone; clones share everything. It does not keep the environment in memory.
#[derive(Clone)]
pub(crate) struct Tasks {
    environment: EnvironmentId,
    running: TaskTracker,
    /// Cancelled to end them all.
    pub(crate) end: CancellationToken,
    /// Unbounded: a report ends the task that makes it.
    failures: mpsc::UnboundedSender<Failed>,
}

/// A task that a bug has ended.
pub(crate) struct Failed {
    pub(crate) environment: EnvironmentId,
    pub(crate) task: &'static str,
    pub(crate) message: String,
}

impl Tasks {
    pub(crate) fn new(environment: EnvironmentId, daemon: &CancellationToken, failures: mpsc::UnboundedSender<Failed>) -> Self {
        Self { environment, running: TaskTracker::new(), end: daemon.child_token(), failures }
    }

    /// Runs it with the others; `task` is its name in messages.
    pub(crate) fn spawn(&self, task: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let (environment, failures) = (self.environment.clone(), self.failures.clone());
        self.running.spawn(async move {
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                let message = said(panic.as_ref());
                tracing::error!(%environment, task, message, "A task of an environment ended by a bug.");
                // There is no receiver in a daemon that is ending.
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

/// The message of a panic.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}
