//! A slow network.

use super::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Toxic, Undoing, Values, traffic};

pub(super) struct Latency;

impl FaultKind for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn about(&self) -> &'static str {
        "Add `delay` to each round trip."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("delay", Form::Duration, "The added round-trip time. With `direction=both`, half of it is added each way.")
                .or("100ms"),
            Parameter::new("jitter", Form::Duration, "Random variation of the delay, up to this much more or less.").or("0ms"),
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
        let parts = u64::from(up) + u64::from(down);
        let share = |name| values.duration(name).unwrap_or_default().as_micros() as u64 / parts.max(1);
        let (delay, jitter) = (share("delay"), share("jitter"));
        let either = |on: bool, value: u64| if on { value } else { 0 };
        let toxic = Toxic {
            delay_up: either(up, delay),
            delay_down: either(down, delay),
            jitter_up: either(up, jitter),
            jitter_down: either(down, jitter),
            ..Toxic::default()
        };
        let least = values.duration("delay").unwrap_or_default().saturating_sub(values.duration("jitter").unwrap_or_default());
        let expected = if traffic::certain(values) { ExpectedEffect::Slower(least) } else { ExpectedEffect::Effect };
        Ok(Injection { action: traffic::through_proxy(values, target, toxic), expected })
    }
}
