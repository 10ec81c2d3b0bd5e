//! A network that reorders packets.

use super::{FaultKind, Form, Injection, PacketFault, Parameter, Refusal, Target, Undoing, Values, traffic};

pub(super) struct Reorder;

impl FaultKind for Reorder {
    fn name(&self) -> &'static str {
        "reorder"
    }

    fn about(&self) -> &'static str {
        "Delay packets that the service sends, so that later ones overtake them."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("probability", Form::Percent, "The fraction of the service's packets to delay.").or("10%"),
            Parameter::new("delay", Form::Duration, "How long to delay them.").or("10ms"),
            Parameter::PERSIST,
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        let delay = values.duration("delay").unwrap_or_default();
        Ok(traffic::faulty_packets(values, target, PacketFault::Reorder(delay)))
    }
}
