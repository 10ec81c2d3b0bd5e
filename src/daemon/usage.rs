//! Who uses an environment at this moment, and when somebody last did.

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
pub(crate) struct Usage {
    users: Arc<AtomicUsize>,
    /// Its time of change is that of the last use.
    noted: PathBuf,
}

/// Somebody uses an environment for as long as this is there.
pub(crate) struct Use(Usage);

impl Usage {
    pub(super) fn noted_in(noted: PathBuf) -> Self {
        Self { users: Arc::default(), noted }
    }

    /// To be held while it is used.
    pub(crate) fn begin(&self) -> Use {
        self.users.fetch_add(1, Ordering::AcqRel);
        self.note();
        Use(self.clone())
    }

    /// How long nobody has used it.
    pub(super) fn idle(&self) -> Duration {
        if self.users.load(Ordering::Acquire) > 0 {
            return Duration::ZERO;
        }
        let used = fs::metadata(&self.noted).and_then(|metadata| metadata.modified());
        used.ok().and_then(|used| used.elapsed().ok()).unwrap_or_default()
    }

    /// Somebody has just used it.
    pub(crate) fn note(&self) {
        // Without it, it only looks as if it had not been used for longer than it has.
        if let Err(error) = fs::write(&self.noted, Timestamp::now().to_string()) {
            tracing::debug!(%error, path = %self.noted.display(), "The last use of an environment could not be noted.");
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.note();
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}
