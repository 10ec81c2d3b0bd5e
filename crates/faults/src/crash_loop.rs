//! A service that crashes again and again.

use super::{Action, ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};

pub(super) struct CrashLoop;

impl FaultKind for CrashLoop {
    fn name(&self) -> &'static str {
        "crash-loop"
    }

    fn about(&self) -> &'static str {
        "Kill the service each time it has started."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Lease
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::new("every", Form::Duration, "How long it may run each time.").or("500ms")];
        PARAMETERS
    }

    fn describe(&self, values: &Values, _: &Target<'_>) -> Result<Injection, Refusal> {
        let every = values.duration("every").unwrap_or_default();
        Ok(Injection { action: Action::CrashLoop { every }, expected: ExpectedEffect::Ended })
    }
}
