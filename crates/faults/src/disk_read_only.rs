//! A read-only disk.

use super::{Action, Disk, ExpectedEffect, FaultKind, Injection, Refusal, Target, Undoing, Values};

pub(super) struct DiskReadOnly;

impl FaultKind for DiskReadOnly {
    fn name(&self) -> &'static str {
        "disk-read-only"
    }

    fn about(&self) -> &'static str {
        "Make the service's disk read-only. At the end the service is restarted on a working disk."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Lease
    }

    fn describe(&self, _: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        super::faultable(self.name(), target)?;
        Ok(Injection { action: Action::Disk(Disk::ReadOnly), expected: ExpectedEffect::Effect })
    }
}
