//! Too little memory.

use super::{Action, ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};

pub(super) struct Memory;

impl FaultKind for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn about(&self) -> &'static str {
        "Limit the memory of the service. Beyond the limit the kernel kills it."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Lease
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::new("limit", Form::Size, "The memory limit.").or("64MiB")];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        Ok(Injection { action: Action::Limits { cpus: None, memory: values.bytes("limit") }, expected: ExpectedEffect::Effect })
    }
}
