//! A main process that hangs.

use super::{Action, ExpectedEffect, FaultKind, Injection, Parameter, Refusal, Suspended, Target, Undoing, Values};

pub(super) struct Freeze;

impl FaultKind for Freeze {
    fn name(&self) -> &'static str {
        "freeze"
    }

    fn about(&self) -> &'static str {
        "Stop the main process, but no other process of the service."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[Parameter::PERSIST]
    }

    fn describe(&self, _: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        // A server with a process per connection still answers on existing ones, so the effect is observed at the process.
        Ok(Injection { action: Action::Suspend(Suspended::Main), expected: ExpectedEffect::Effect })
    }
}
