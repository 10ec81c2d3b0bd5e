//! An orderly restart.

use super::{Action, ExpectedEffect, FaultKind, Injection, Refusal, Target, Undoing, Values};

pub(super) struct Restart;

impl FaultKind for Restart {
    fn name(&self) -> &'static str {
        "restart"
    }

    fn about(&self) -> &'static str {
        "Restart the service, as `devenv restart` does."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Nothing
    }

    fn describe(&self, _: &Values, _: &Target<'_>) -> Result<Injection, Refusal> {
        Ok(Injection { action: Action::Restart, expected: ExpectedEffect::Ended })
    }
}
