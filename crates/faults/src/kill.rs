//! A crash.

use super::{Action, FaultKind, Form, Injection, Parameter, Refusal, Restart, Sign, Target, Undoing, Values};

pub(super) struct Kill;

impl FaultKind for Kill {
    fn name(&self) -> &'static str {
        "kill"
    }

    fn about(&self) -> &'static str {
        "Sends the main process a signal, SIGKILL unless said otherwise; the supervisor brings the service back."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Nothing
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("signal", Form::Text, "The signal.").or("SIGKILL"),
            Parameter::new("restart-after", Form::Duration, "Start it again after this time, whatever its restart policy says."),
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        let restart = values.duration("restart-after").map_or(Restart::Policy, Restart::After);
        if restart == Restart::Policy && target.spec.restart.policy == devenv_spec::RestartWhen::Never {
            return Err(Refusal::new(format!("{} has the restart policy `never`, so nobody would start it again", target.spec.name))
                .hint("say when: `--set restart-after=1s`"));
        }
        let signal = values.text("signal").unwrap_or("SIGKILL").to_owned();
        Ok(Injection { action: Action::Signal { signal, restart }, sign: Sign::Ended })
    }
}
