//! Connections that break after some data.

use super::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Toxic, Undoing, Values, traffic};

pub(super) struct LimitData;

impl FaultKind for LimitData {
    fn name(&self) -> &'static str {
        "limit-data"
    }

    fn about(&self) -> &'static str {
        "Close each connection after `bytes` bytes."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("bytes", Form::Size, "The number of bytes to let through.").or("64KiB"),
            Parameter::DIRECTION,
            Parameter::CONNECTIONS,
            Parameter::PROBABILITY,
            Parameter::PERSIST,
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        let (up, down) = traffic::ways(values);
        let bytes = values.bytes("bytes").unwrap_or(0).max(1);
        let toxic = Toxic { limit_up: if up { bytes } else { 0 }, limit_down: if down { bytes } else { 0 }, ..Toxic::default() };
        Ok(Injection { action: traffic::through_proxy(values, target, toxic), expected: ExpectedEffect::Effect })
    }
}
