//! Stops all processes, as on a frozen machine.

use super::{Action, ExpectedEffect, FaultKind, Injection, Parameter, Refusal, Suspended, Target, Undoing, Values};

pub(super) struct Pause;

impl FaultKind for Pause {
    fn name(&self) -> &'static str {
        "pause"
    }

    fn about(&self) -> &'static str {
        "Stop every process of the container. Connections stay open, but nothing answers."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[Parameter::PERSIST]
    }

    fn describe(&self, _: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        Ok(Injection { action: Action::Suspend(Suspended::All), expected: ExpectedEffect::NoAnswer })
    }
}
