//! Too little memory for data.

use devenv_faults::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};
use redis::AsyncCommands;

use super::{Action, NAME, Server};
use crate::capability::Effect;

pub(super) struct RedisMemory;

impl FaultKind for RedisMemory {
    fn name(&self) -> &'static str {
        "redis-memory"
    }

    fn about(&self) -> &'static str {
        "Set `maxmemory` so low that writes are refused or keys evicted, depending on the policy."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Lease
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::new("limit", Form::Size, "The value of `maxmemory`.").or("1KiB")];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), NAME)?;
        let limit = values.bytes("limit").unwrap_or(1);
        Ok(Injection { action: Action::Memory { limit }.of_kind(), expected: ExpectedEffect::Effect })
    }
}

pub(super) async fn squeeze(server: &Server, limit: u64) -> Result<Effect, String> {
    server
        .session(|mut connection| async move {
            redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(limit).query_async::<()>(&mut connection).await?;
            let key = "devenv:witness";
            Ok(match connection.set_ex::<_, _, ()>(key, "x", 1).await {
                Err(error) if error.code() == Some("OOM") => Effect::yes("a write was refused: out of memory"),
                Err(error) => return Err(error),
                Ok(()) => {
                    let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
                    let number = |name: &str| {
                        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok()).unwrap_or(0)
                    };
                    let (used, evicted) = (number("used_memory"), number("evicted_keys"));
                    let _ = connection.del::<_, i64>(key).await;
                    if used > limit || evicted > 0 {
                        Effect::yes(format!("{used} bytes are in use, the limit is {limit}, {evicted} keys were evicted"))
                    } else {
                        Effect::no(format!("only {used} of {limit} bytes are in use"))
                    }
                }
            })
        })
        .await
}
