//! Snapshots that fail.

use super::{Action, FaultKind, Injection, Redis, Refusal, Sign, Target, Undoing, Values};

pub(super) struct RedisSaveFailure;

impl FaultKind for RedisSaveFailure {
    fn name(&self) -> &'static str {
        "redis-save-failure"
    }

    fn about(&self) -> &'static str {
        "Make snapshots to disk fail. The server then refuses writes, if it is configured to."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Lease
    }

    fn describe(&self, _: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), &["redis"])?;
        Ok(Injection { action: Action::Redis(Redis::SaveFailure), sign: Sign::Effect })
    }
}
