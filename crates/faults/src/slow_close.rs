//! Connections that close late.

use super::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Toxic, Undoing, Values, traffic};

pub(super) struct SlowClose;

impl FaultKind for SlowClose {
    fn name(&self) -> &'static str {
        "slow-close"
    }

    fn about(&self) -> &'static str {
        "Forward the end of a connection to the other side only after `delay`."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("delay", Form::Duration, "How long to wait.").or("5s"),
            Parameter::CONNECTIONS,
            Parameter::PROBABILITY,
            Parameter::PERSIST,
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        let close_delay = values.duration("delay").unwrap_or_default().as_micros() as u64;
        let toxic = Toxic { close_delay, ..Toxic::default() };
        Ok(Injection { action: traffic::through_proxy(values, target, toxic), expected: ExpectedEffect::Effect })
    }
}
