//! A server that is silent.

use super::{FaultKind, Form, Injection, Parameter, Refusal, Sign, Target, Toxic, Undoing, Values};

pub(super) struct Blackhole;

impl FaultKind for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn about(&self) -> &'static str {
        "Takes connections, lets nothing through and says nothing."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
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
        let toxic = Toxic { hole_up: up, hole_down: down, ..Toxic::default() };
        let sign = if super::certain(values) { Sign::NoAnswer } else { Sign::Effect };
        Ok(Injection { action: super::through_proxy(values, target, toxic), sign })
    }
}
