//! Snapshots that fail.

use std::time::Duration;

use devenv_faults::{ExpectedEffect, FaultKind, Injection, Refusal, Target, Undoing, Values};

use super::{Action, NAME, Server};

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
        target.of_kind(self.name(), NAME)?;
        Ok(Injection { action: Action::SaveFailure.of_kind(), expected: ExpectedEffect::Effect })
    }
}

/// Asks for a snapshot and waits for its result. Returns whether it was made.
pub(super) async fn save(server: &Server) -> Result<bool, String> {
    server
        .session(|mut connection| async move {
            // A BGSAVE that is already running is sufficient.
            let _ = redis::cmd("BGSAVE").query_async::<String>(&mut connection).await;
            loop {
                let info: String = redis::cmd("INFO").arg("persistence").query_async(&mut connection).await?;
                let field = |name: &str| {
                    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim().to_owned())
                };
                if field("rdb_bgsave_in_progress").as_deref() == Some("0") {
                    return Ok(field("rdb_last_bgsave_status").as_deref() == Some("ok"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
}
