//! A network that is far away.

use super::{FaultKind, Form, Injection, Parameter, Refusal, Sign, Target, Toxic, Undoing, Values};

pub(super) struct Latency;

impl FaultKind for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn about(&self) -> &'static str {
        "Makes a round trip take longer by `delay`."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("delay", Form::Duration, "What a round trip takes longer; with `direction=both`, half of it each way.")
                .or("100ms"),
            Parameter::new("jitter", Form::Duration, "Up to this much more or less, by chance.").or("0ms"),
            Parameter::new("direction", Form::Choice(&["both", "up", "down"]), "Which way: `up` is towards the service.").or("both"),
            Parameter::new(
                "connections",
                Form::Choice(&["new", "all"]),
                "`new` leaves connections that exist alone; `all` resets them, so that they come again.",
            )
            .or("new"),
            Parameter::new("probability", Form::Percent, "Of connections, how many; decided from the seed and the connection's number.")
                .or("100%"),
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        let (up, down) = super::ways(values);
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
        let sign = if super::certain(values) { Sign::Slower(least) } else { Sign::Effect };
        Ok(Injection { action: super::through_proxy(values, target, toxic), sign })
    }
}
