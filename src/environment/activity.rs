//! Which clients use an environment now, and when it was last used.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;

/// Of one environment; clones share it.
#[derive(Clone)]
pub(crate) struct Activity {
    users: Arc<AtomicUsize>,
    /// When the last of them left.
    left: Arc<Mutex<Option<Instant>>>,
    /// Its modification time is the time of the last use.
    noted: PathBuf,
}

/// Marks the environment as in use until it is dropped.
pub(crate) struct ActivityGuard(Activity);

impl Activity {
    pub(crate) fn noted_in(noted: PathBuf) -> Self {
        Self { users: Arc::default(), left: Arc::default(), noted }
    }

    /// Hold it while the environment is used.
    pub(crate) fn begin(&self) -> ActivityGuard {
        self.users.fetch_add(1, Ordering::AcqRel);
        self.note();
        ActivityGuard(self.clone())
    }

    /// How long no command has used it: a lease, or a command in a service. To ask for its variables is no use of its services.
    pub(super) fn without_users_for(&self) -> Duration {
        if self.users.load(Ordering::Acquire) > 0 {
            return Duration::ZERO;
        }
        self.left.lock().expect("no code panics while it holds this lock").map_or(Duration::MAX, |left| left.elapsed())
    }

    /// How long the environment has been unused.
    pub(crate) fn idle(&self) -> Duration {
        if self.users.load(Ordering::Acquire) > 0 {
            return Duration::ZERO;
        }
        let used = fs::metadata(&self.noted).and_then(|metadata| metadata.modified());
        used.ok().and_then(|used| used.elapsed().ok()).unwrap_or_default()
    }

    /// Records that the environment was used just now.
    pub(crate) fn note(&self) {
        // If this fails, the environment only seems to have been unused for longer.
        if let Err(error) = fs::write(&self.noted, Timestamp::now().to_string()) {
            tracing::debug!(%error, path = %self.noted.display(), "Cannot record the last use of an environment.");
        }
    }
}

impl Drop for ActivityGuard {
    fn drop(&mut self) {
        self.0.note();
        *self.0.left.lock().expect("no code panics while it holds this lock") = Some(Instant::now());
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}
