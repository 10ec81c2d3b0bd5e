//! A crash.

use super::{Action, ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Restart, Target, Undoing, Values};

pub(super) struct Kill;

impl FaultKind for Kill {
    fn name(&self) -> &'static str {
        "kill"
    }

    fn about(&self) -> &'static str {
        "Send a signal to the main process, SIGKILL by default. The supervisor restarts the service."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Nothing
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("signal", Form::Text, "The signal to send.").or("SIGKILL"),
            Parameter::new("restart-after", Form::Duration, "Restart it after this time, whatever its restart policy."),
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        let restart = values.duration("restart-after").map_or(Restart::Policy, Restart::After);
        if restart == Restart::Policy && target.spec.restart.policy == devenv_spec::RestartWhen::Never {
            return Err(Refusal::new(format!("{} has the restart policy `never`, so it would not be restarted", target.spec.name))
                .hint("set a time: `--set restart-after=1s`"));
        }
        let signal = values.text("signal").unwrap_or("SIGKILL").to_owned();
        Ok(Injection { action: Action::Signal { signal, restart }, expected: ExpectedEffect::Ended })
    }
}
