//! A thin line.

use super::{FaultKind, Form, Injection, Parameter, Refusal, Sign, Target, Toxic, Undoing, Values};

pub(super) struct Bandwidth;

impl FaultKind for Bandwidth {
    fn name(&self) -> &'static str {
        "bandwidth"
    }

    fn about(&self) -> &'static str {
        "Lets no more than `rate` through, on each connection."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("rate", Form::Rate, "Bytes a second.").or("64KiB/s"),
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
        let rate = values.bytes("rate").unwrap_or(0).max(1);
        let toxic = Toxic { rate_up: if up { rate } else { 0 }, rate_down: if down { rate } else { 0 }, ..Toxic::default() };
        Ok(Injection { action: super::through_proxy(values, target, toxic), sign: Sign::Effect })
    }
}
