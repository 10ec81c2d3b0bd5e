//! One run of a scenario: its parts and its clock. The entries, the runner and the outcome share it.

use std::{
    path::Path,
    time::{Duration, Instant as Clock},
};

use devenv_api::{ChaosPlan, Impairments};
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::{daemon_api::DaemonApi, journal::Journal, progress::ProgressBoard, scenario::Scenario, workers::WorkerPool};

pub(crate) struct Run<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) plan: &'a ChaosPlan,
    pub(super) daemon_api: &'a dyn DaemonApi,
    pub(super) directory: &'a Path,
    pub(super) journal: Journal<'a>,
    pub(super) board: ProgressBoard,
    pub(super) pool: WorkerPool,
    pub(super) name: &'a str,
    /// The state of the affected services before the first fault; `None` if it cannot be read.
    pub(super) before: Vec<Impairments>,
    pub(super) began: Clock,
    /// The time of day when the run's clock was zero.
    pub(super) began_at: Timestamp,
    pub(super) working_since: Clock,
    /// When the timeline began.
    pub(super) zero: Clock,
}

/// The id of an entry's fault, unique among all runs.
pub(super) fn fault_id(id: &str, run: &str) -> String {
    format!("{id}-{run}")
}

impl Run<'_> {
    /// The id that the daemon knows: of this run alone.
    pub(super) fn fault_id(&self, id: &str) -> String {
        fault_id(id, self.name)
    }

    pub(super) fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub(super) fn zero_us(&self) -> u64 {
        (self.zero - self.began).as_micros() as u64
    }

    pub(super) fn working_for(&self) -> Duration {
        self.working_since.elapsed()
    }

    /// The time until the deadline.
    pub(super) fn left(&self) -> Duration {
        self.scenario.deadline.saturating_sub(self.working_for())
    }

    /// Milliseconds of the timeline.
    pub(super) fn at_ms(&self) -> i64 {
        self.ms_of(self.now_us())
    }

    pub(super) fn ms_of(&self, at_us: u64) -> i64 {
        (at_us as i64 - self.zero_us() as i64) / 1000
    }

    pub(super) async fn sleep_until(&self, at_us: u64) {
        sleep_until(Instant::from_std(self.began) + Duration::from_micros(at_us)).await;
    }

    /// Converts a time of day to the run's clock.
    pub(super) fn us_of(&self, time: &str) -> Option<u64> {
        let time: Timestamp = time.parse().ok()?;
        u64::try_from(time.duration_since(self.began_at).as_micros()).ok()
    }

    pub(super) fn time_of(&self, at_us: u64) -> String {
        let time = self.began_at.checked_add(Duration::from_micros(at_us)).unwrap_or(self.began_at);
        format!("{time:.6}")
    }
}
