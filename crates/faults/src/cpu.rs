//! Too little processor time.

use super::{Action, ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};

pub(super) struct Cpu;

impl FaultKind for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn about(&self) -> &'static str {
        "Limit the CPU time of the service."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Lease
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::new("cpus", Form::Number, "Processors.").or("0.1")];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        Ok(Injection { action: Action::Limits { cpus: values.number("cpus"), memory: None }, expected: ExpectedEffect::Effect })
    }
}
