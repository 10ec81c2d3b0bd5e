//! Deleted data.

use devenv_faults::{ExpectedEffect, FaultKind, Injection, Refusal, Target, Undoing, Values};

use super::{Action, NAME, Server};
use crate::capability::Effect;

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
        target.of_kind(self.name(), NAME)?;
        Ok(Injection { action: Action::Flush.of_kind(), expected: ExpectedEffect::Effect })
    }
}

pub(super) async fn flush(server: &Server) -> Result<Effect, String> {
    server
        .session(|mut connection| async move {
            let keys = |info: &str| -> u64 {
                info.lines().filter_map(|line| line.split_once("keys=")?.1.split(',').next()?.parse::<u64>().ok()).sum()
            };
            let before: String = redis::cmd("INFO").arg("keyspace").query_async(&mut connection).await?;
            redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await?;
            Ok(Effect::yes(format!("{} keys were removed", keys(&before))))
        })
        .await
}
