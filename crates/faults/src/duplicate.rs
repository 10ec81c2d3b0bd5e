//! A network that duplicates packets.

use super::{FaultKind, Form, Injection, PacketFault, Parameter, Refusal, Target, Undoing, Values, traffic};

pub(super) struct Duplicate;

impl FaultKind for Duplicate {
    fn name(&self) -> &'static str {
        "duplicate"
    }

    fn about(&self) -> &'static str {
        "Send packets of the service twice."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("probability", Form::Percent, "The fraction of the service's packets to duplicate.").or("10%"),
            Parameter::PERSIST,
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        Ok(traffic::faulty_packets(values, target, PacketFault::Duplicate))
    }
}
