//! A connection with little bandwidth.

use super::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Toxic, Undoing, Values, traffic};

pub(super) struct Bandwidth;

impl FaultKind for Bandwidth {
    fn name(&self) -> &'static str {
        "bandwidth"
    }

    fn about(&self) -> &'static str {
        "Limit the throughput of each connection to `rate`."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("rate", Form::Rate, "Bytes per second.").or("64KiB/s"),
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
        let rate = values.bytes("rate").unwrap_or(0).max(1);
        let toxic = Toxic { rate_up: if up { rate } else { 0 }, rate_down: if down { rate } else { 0 }, ..Toxic::default() };
        // The length of a request can be chosen, that of an answer cannot.
        let expected = if up && traffic::certain(values) { ExpectedEffect::Thin(rate) } else { ExpectedEffect::Effect };
        Ok(Injection { action: traffic::through_proxy(values, target, toxic), expected })
    }
}
