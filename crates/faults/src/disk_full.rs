//! No space left.

use super::{Action, Disk, ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};

pub(super) struct DiskFull;

impl FaultKind for DiskFull {
    fn name(&self) -> &'static str {
        "disk-full"
    }

    fn about(&self) -> &'static str {
        "Fill the service's disk, except for `leave`."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::new("leave", Form::Size, "The space to leave free.").or("0B")];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        super::faultable(self.name(), target)?;
        let leave = values.bytes("leave").unwrap_or(0);
        Ok(Injection { action: Action::Disk(Disk::Full { leave }), expected: ExpectedEffect::Effect })
    }
}
