//! Data that is gone.

use super::{Action, FaultKind, Injection, Redis, Refusal, Sign, Target, Undoing, Values};

pub(super) struct RedisFlush;

impl FaultKind for RedisFlush {
    fn name(&self) -> &'static str {
        "redis-flush"
    }

    fn about(&self) -> &'static str {
        "Remove every key of every database."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Nothing
    }

    fn describe(&self, _: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), &["redis"])?;
        Ok(Injection { action: Action::Redis(Redis::Flush), sign: Sign::Effect })
    }
}
