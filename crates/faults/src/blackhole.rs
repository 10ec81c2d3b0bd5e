//! A server that accepts connections and does not answer.

use super::{ExpectedEffect, FaultKind, Injection, Parameter, Refusal, Target, Toxic, Undoing, Values, traffic};

pub(super) struct Blackhole;

impl FaultKind for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn about(&self) -> &'static str {
        "Accept connections, but forward nothing."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::DIRECTION, Parameter::CONNECTIONS, Parameter::PROBABILITY, Parameter::PERSIST];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        let (up, down) = traffic::ways(values);
        let toxic = Toxic { hole_up: up, hole_down: down, ..Toxic::default() };
        let expected = if traffic::certain(values) { ExpectedEffect::NoAnswer } else { ExpectedEffect::Effect };
        Ok(Injection { action: traffic::through_proxy(values, target, toxic), expected })
    }
}
