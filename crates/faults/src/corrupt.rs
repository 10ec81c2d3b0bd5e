//! A network that corrupts packets.

use super::{FaultKind, Form, Injection, PacketFault, Parameter, Refusal, Target, Undoing, Values, traffic};

pub(super) struct Corrupt;

impl FaultKind for Corrupt {
    fn name(&self) -> &'static str {
        "corrupt"
    }

    fn about(&self) -> &'static str {
        "Flip a bit in packets that the service sends. The receiver drops them, and they are sent again."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("probability", Form::Percent, "The fraction of the service's packets to change.").or("10%"),
            Parameter::PERSIST,
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        Ok(traffic::faulty_packets(values, target, PacketFault::Corrupt))
    }
}
