//! A power cut: data that was not synced is lost.

use super::{Action, Disk, ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};

pub(super) struct PowerCut;

impl FaultKind for PowerCut {
    fn name(&self) -> &'static str {
        "power-cut"
    }

    fn about(&self) -> &'static str {
        "Kill the service and discard everything that its disk has not synced, as a power failure does."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Nothing
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::new("restart-after", Form::Duration, "How long the power is off.").or("0ms")];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        super::faultable(self.name(), target)?;
        let restart_after = values.duration("restart-after").unwrap_or_default();
        Ok(Injection { action: Action::Disk(Disk::PowerCut { restart_after }), expected: ExpectedEffect::Ended })
    }
}
