//! A server that lets clients wait.

use super::{Action, FaultKind, Form, Injection, Parameter, Redis, Refusal, Sign, Target, Undoing, Values};

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
        target.of_kind(self.name(), &["redis"])?;
        let writes_only = values.flag("writes-only");
        Ok(Injection { action: Action::Redis(Redis::Pause { writes_only }), sign: Sign::Effect })
    }
}
