//! A container that is lost.

use super::{Action, FaultKind, Form, Injection, Parameter, Refusal, Sign, Target, Undoing, Values};

pub(super) struct Remove;

impl FaultKind for Remove {
    fn name(&self) -> &'static str {
        "remove"
    }

    fn about(&self) -> &'static str {
        "Removes the container, with its volumes if asked, and has it made anew."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Nothing
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("volumes", Form::Boolean, "With the data.").or("false"),
            Parameter::new("restore", Form::Boolean, "Make a backup first, and put it back in; nothing of it may be missing.").or("false"),
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        Ok(Injection { action: Action::Remove { volumes: values.flag("volumes"), restore: values.flag("restore") }, sign: Sign::Ended })
    }
}
