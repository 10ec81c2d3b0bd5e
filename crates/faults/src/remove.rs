//! A removed container.

use super::{Action, ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};

pub(super) struct Remove;

impl FaultKind for Remove {
    fn name(&self) -> &'static str {
        "remove"
    }

    fn about(&self) -> &'static str {
        "Remove the container, optionally with its volumes, and create it again."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Nothing
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("volumes", Form::Boolean, "Remove the data too.").or("false"),
            Parameter::new(
                "restore",
                Form::Boolean,
                "Create a backup first and restore it afterwards. The fault is undone only if no \
                data is missing.",
            )
            .or("false"),
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        Ok(Injection {
            action: Action::Remove { volumes: values.flag("volumes"), restore: values.flag("restore") },
            expected: ExpectedEffect::Ended,
        })
    }
}
