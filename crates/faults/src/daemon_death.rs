//! A crash of the supervisor.

use super::{Action, ExpectedEffect, FaultKind, Injection, Refusal, Target, Undoing, Values};

pub(super) struct DaemonDeath;

impl FaultKind for DaemonDeath {
    fn name(&self) -> &'static str {
        "daemon-death"
    }

    fn about(&self) -> &'static str {
        "Kill the devenv daemon. The service keeps running, and the next daemon adopts it."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Nothing
    }

    fn describe(&self, _: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        Ok(Injection { action: Action::DaemonDeath, expected: ExpectedEffect::Effect })
    }
}
