//! An orderly stop, for a while.

use super::{Action, ExpectedEffect, FaultKind, Injection, Refusal, Target, Undoing, Values};

pub(super) struct Stop;

impl FaultKind for Stop {
    fn name(&self) -> &'static str {
        "stop"
    }

    fn about(&self) -> &'static str {
        "Stop the service, as `devenv stop` does, and start it at the end."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Lease
    }

    fn describe(&self, _: &Values, _: &Target<'_>) -> Result<Injection, Refusal> {
        Ok(Injection { action: Action::Stop, expected: ExpectedEffect::Ended })
    }
}
