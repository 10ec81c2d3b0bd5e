//! What only the kernel's network emulator can do.

use super::{FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};

pub(super) struct Corrupt;

impl FaultKind for Corrupt {
    fn name(&self) -> &'static str {
        "corrupt"
    }

    fn about(&self) -> &'static str {
        "Changes bits of packets. Needs a kernel with netem."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::new("probability", Form::Percent, "Of packets, how many.").or("10%")];
        PARAMETERS
    }

    fn describe(&self, _: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        Err(super::no_netem(self.name()))
    }
}
