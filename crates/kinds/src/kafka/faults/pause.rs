//! A broker that is paused longer than its session timeout.

use devenv_faults::{Action, ExpectedEffect, FaultKind, Injection, Refusal, Suspended, Target, Undoing, Values};

use super::NAME;

pub(super) struct KafkaPause;

impl FaultKind for KafkaPause {
    fn name(&self) -> &'static str {
        "kafka-pause"
    }

    fn about(&self) -> &'static str {
        "Stop the broker for longer than its session timeout, so that it is fenced and comes back."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn describe(&self, _: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), NAME)?;
        target.container(self.name())?;
        Ok(Injection { action: Action::Suspend(Suspended::All), expected: ExpectedEffect::NoAnswer })
    }
}
