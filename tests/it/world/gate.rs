//! A gate at one engine call: the call waits there until the test opens it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use devenv_engine::fake::{Call, CallAction, CallPhase, FakeEngine};
use futures_util::FutureExt;
use tokio::sync::Notify;

/// How long a test waits for a call that it expects.
const DEADLINE: Duration = Duration::from_mins(5);

/// Dropping it opens it.
pub(crate) struct Gate {
    engine: FakeEngine,
    reached: mpsc::Receiver<String>,
    open: Arc<Notify>,
}

impl Gate {
    /// Holds the first call for which `is_meant` is true; later calls pass.
    pub(crate) fn at(engine: &FakeEngine, is_meant: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        Self::at_nth(engine, 1, is_meant)
    }

    /// Holds every call.
    pub(crate) fn all(engine: &FakeEngine) -> Self {
        let (arrived, reached) = mpsc::channel();
        let open = Arc::new(Notify::new());
        engine.intercept_calls(move |call| {
            if call.phase != CallPhase::Before {
                return CallAction::Continue;
            }
            // Fails if the test does not wait any more.
            let _ = arrived.send(call.to_string());
            CallAction::Wait(std::future::pending().boxed())
        });
        Self { engine: engine.clone(), reached, open }
    }

    /// Holds the `n`-th of these calls, counted from 1.
    pub(crate) fn at_nth(engine: &FakeEngine, n: u64, is_meant: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        let (arrived, reached) = mpsc::channel();
        let open = Arc::new(Notify::new());
        let (count, opened) = (AtomicU64::new(0), open.clone());
        engine.intercept_calls(move |call| {
            if call.phase != CallPhase::Before || !is_meant(call) || count.fetch_add(1, Ordering::SeqCst) + 1 != n {
                return CallAction::Continue;
            }
            // Fails if the test does not wait any more.
            let _ = arrived.send(call.to_string());
            let opened = opened.clone();
            CallAction::Wait(async move { opened.notified().await }.boxed())
        });
        Self { engine: engine.clone(), reached, open }
    }

    /// Waits until the call is there. Returns the call.
    #[track_caller]
    pub(crate) fn wait(&self) -> String {
        self.reached.recv_timeout(DEADLINE).expect("the call that the gate is for does not come")
    }

    /// As [`Self::wait`], for a call that may not come: `None` as soon as `is_over`.
    pub(crate) fn wait_unless(&self, mut is_over: impl FnMut() -> bool) -> Option<String> {
        loop {
            match self.reached.recv_timeout(Duration::from_millis(2)) {
                Ok(call) => return Some(call),
                Err(mpsc::RecvTimeoutError::Timeout) if !is_over() => {}
                Err(_) => return self.reached.try_recv().ok(),
            }
        }
    }

    pub(crate) fn open(self) {
        drop(self);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.engine.stop_intercepting();
        self.open.notify_one();
    }
}
