//! Which clients use an environment now, and when it was last used.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

/// Of one environment; shared by clones.
#[derive(Clone)]
pub(crate) struct Activity {
    users: Arc<AtomicUsize>,
    /// Its time of change is that of the last use.
    noted: PathBuf,
}

/// Marks the environment as in use until it is dropped.
pub(crate) struct ActivityGuard(Activity);

impl Activity {
    pub(crate) fn noted_in(noted: PathBuf) -> Self {
        Self { users: Arc::default(), noted }
    }

    /// To be held while it is used.
    pub(crate) fn begin(&self) -> ActivityGuard {
        self.users.fetch_add(1, Ordering::AcqRel);
        self.note();
        ActivityGuard(self.clone())
    }

    /// How long nobody has used it.
    pub(crate) fn idle(&self) -> Duration {
        if self.users.load(Ordering::Acquire) > 0 {
            return Duration::ZERO;
        }
        let used = fs::metadata(&self.noted).and_then(|metadata| metadata.modified());
        used.ok().and_then(|used| used.elapsed().ok()).unwrap_or_default()
    }

    /// Records that the environment was used just now.
    pub(crate) fn note(&self) {
        // Without it, it only looks as if it had not been used for longer than it has.
        if let Err(error) = fs::write(&self.noted, Timestamp::now().to_string()) {
            tracing::debug!(%error, path = %self.noted.display(), "Cannot record the last use of an environment.");
        }
    }
}

impl Drop for ActivityGuard {
    fn drop(&mut self) {
        self.0.note();
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}
