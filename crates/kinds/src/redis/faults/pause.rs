//! A server that makes clients wait.

use std::time::Duration;

use devenv_faults::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};
use redis::AsyncCommands;
use tokio::time::timeout;

use super::{Action, NAME, Server};
use crate::capability::Effect;

/// A paused server is silent for longer than this.
const SILENCE: Duration = Duration::from_millis(500);

pub(super) struct RedisPause;

impl FaultKind for RedisPause {
    fn name(&self) -> &'static str {
        "redis-pause"
    }

    fn about(&self) -> &'static str {
        "Make clients wait (`CLIENT PAUSE`), while the server itself keeps running."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Itself
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::new("writes-only", Form::Boolean, "Answer reads.").or("false")];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), NAME)?;
        let writes_only = values.flag("writes-only");
        Ok(Injection { action: Action::Pause { writes_only }.of_kind(), expected: ExpectedEffect::Effect })
    }
}

pub(super) async fn pause(server: &Server, time: Duration, writes_only: bool) -> Result<Effect, String> {
    server
        .session(|mut connection| async move {
            let mut pause = redis::cmd("CLIENT");
            pause.arg("PAUSE").arg(time.as_millis() as u64).arg(if writes_only { "WRITE" } else { "ALL" });
            pause.query_async::<()>(&mut connection).await?;
            // Deleting a missing key is a write that changes nothing.
            let asked = connection.del::<_, i64>("devenv:no-such-key");
            Ok(match timeout(SILENCE, asked).await {
                Err(_) => Effect::yes(format!("a write was not answered within {} ms", SILENCE.as_millis())),
                Ok(_) => Effect::no("writes still succeed"),
            })
        })
        .await
}

/// If the server pauses all clients, this waits too, until the pause is over.
pub(super) async fn unpause(server: &Server) -> Result<(), String> {
    server.session(|mut connection| async move { redis::cmd("CLIENT").arg("UNPAUSE").query_async::<()>(&mut connection).await }).await
}
