//! No memory for data.

use super::{Action, FaultKind, Form, Injection, Parameter, Redis, Refusal, Sign, Target, Undoing, Values};

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
        target.of_kind(self.name(), &["redis"])?;
        let limit = values.bytes("limit").unwrap_or(1);
        Ok(Injection { action: Action::Redis(Redis::Memory { limit }), sign: Sign::Effect })
    }
}
