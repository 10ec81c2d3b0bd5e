//! Exit codes: constants that scripts rely on, and the one place that maps a failure to one of them.

use std::process::ExitCode;

use devenv_api::ErrorCode;

use super::failure::{Failure, Signal};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExitStatus(u8);

impl ExitStatus {
    pub(crate) const SUCCESS: Self = Self(0);
    pub(crate) const FAILED: Self = Self(1);
    pub(crate) const USAGE: Self = Self(2);
    pub(crate) const NO_ENGINE: Self = Self(3);
    pub(crate) const TIMED_OUT: Self = Self(4);
    /// `chaos run`: the three verdicts that are not a success.
    pub(crate) const VERDICT_FAIL: Self = Self(10);
    pub(crate) const VERDICT_UNKNOWN: Self = Self(11);
    pub(crate) const NOT_HEALED: Self = Self(12);
    pub(crate) const DEVENV_FAILED: Self = Self(125);
    pub(crate) const CANNOT_RUN: Self = Self(126);
    pub(crate) const NOT_FOUND: Self = Self(127);
    pub(crate) const INTERRUPTED: Self = Self(130);
    /// The code of a program that writes to a closed pipe: 128 + SIGPIPE.
    pub(crate) const OUTPUT_CLOSED: Self = Self(141);
    pub(crate) const TERMINATED: Self = Self(143);

    /// A command's own code, passed through.
    pub(crate) fn of_command(code: i32) -> Self {
        Self(u8::try_from(code & 0xff).expect("eight bits fit"))
    }

    pub(crate) fn code(self) -> u8 {
        self.0
    }
}

/// All exit codes and their meaning, as in the reference.
pub(crate) const MEANINGS: &[(&str, &str)] = &[
    ("0", "Success."),
    (
        "1",
        "Failure: a service is not ready, a script failed, a named thing does not exist, the daemon stopped, or a script changed with \
            `--fail-on-drift`.",
    ),
    ("2", "Usage error, or an invalid profile or scenario."),
    (
        "3",
        "No container engine answers, its version is not supported, or the running daemon uses another engine than the one you selected.",
    ),
    ("4", "The time limit of `--timeout` expired."),
    ("10", "`chaos run`: the verdict is `fail`: a check failed. `load`: a budget does not hold."),
    ("11", "`chaos run`, `load`: the verdict is `unknown`: the run proves nothing."),
    ("12", "`chaos run`: a fault could not be undone. 12 takes precedence over 11, and 11 over 10."),
    ("125", "`run`, `exec`, `test`, `lease`: devenv failed. This includes usage errors and invalid profiles."),
    ("126", "`run`, `exec`, `test`, `lease`: the command cannot be run."),
    ("127", "`run`, `exec`, `test`, `lease`: the command was not found. Any other code is the command's own, 128+n for signal n."),
    ("130", "Interrupted by Ctrl-C."),
    ("141", "The reader of the output closed the pipe, as `head` does."),
    ("143", "Terminated by SIGTERM."),
];

impl From<ErrorCode> for ExitStatus {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Usage | ErrorCode::InvalidProfile => Self::USAGE,
            ErrorCode::NoEngine | ErrorCode::EngineMismatch => Self::NO_ENGINE,
            ErrorCode::TimedOut => Self::TIMED_OUT,
            // `Interrupted` from the daemon means that another command interfered; a signal to this process is a `Failure::Signal`.
            ErrorCode::Failed
            | ErrorCode::NotFound
            | ErrorCode::Conflict
            | ErrorCode::Interrupted
            | ErrorCode::Drift
            | ErrorCode::Internal => Self::FAILED,
        }
    }
}

impl From<&Failure> for ExitStatus {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Told(error) | Failure::Invalid { error, .. } => error.code.into(),
            Failure::Signal(Signal::Interrupt) | Failure::Cancelled { signal: Signal::Interrupt, .. } => Self::INTERRUPTED,
            Failure::Signal(Signal::Terminate) | Failure::Cancelled { signal: Signal::Terminate, .. } => Self::TERMINATED,
            Failure::OutputClosed => Self::OUTPUT_CLOSED,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use devenv_api::ApiError;

    use super::*;

    #[test]
    fn each_sort_of_failure_has_its_documented_code() {
        let expected = [
            (ErrorCode::Usage, 2),
            (ErrorCode::InvalidProfile, 2),
            (ErrorCode::NoEngine, 3),
            (ErrorCode::EngineMismatch, 3),
            (ErrorCode::Failed, 1),
            (ErrorCode::TimedOut, 4),
            (ErrorCode::NotFound, 1),
            (ErrorCode::Conflict, 1),
            (ErrorCode::Interrupted, 1),
            (ErrorCode::Drift, 1),
            (ErrorCode::Internal, 1),
        ];
        for (code, exit) in expected {
            assert_eq!(ExitStatus::from(&Failure::Told(ApiError::new(code, ""))).code(), exit, "{code:?}");
        }
        assert_eq!(ExitStatus::from(&Failure::Signal(Signal::Interrupt)).code(), 130);
        assert_eq!(ExitStatus::from(&Failure::Signal(Signal::Terminate)).code(), 143);
    }

    #[test]
    fn every_constant_is_documented() {
        let all = [
            ExitStatus::SUCCESS,
            ExitStatus::FAILED,
            ExitStatus::USAGE,
            ExitStatus::NO_ENGINE,
            ExitStatus::TIMED_OUT,
            ExitStatus::VERDICT_FAIL,
            ExitStatus::VERDICT_UNKNOWN,
            ExitStatus::NOT_HEALED,
            ExitStatus::DEVENV_FAILED,
            ExitStatus::CANNOT_RUN,
            ExitStatus::NOT_FOUND,
            ExitStatus::INTERRUPTED,
            ExitStatus::OUTPUT_CLOSED,
            ExitStatus::TERMINATED,
        ];
        let codes: Vec<String> = all.iter().map(|status| status.code().to_string()).collect();
        assert_eq!(codes, MEANINGS.iter().map(|(code, _)| *code).collect::<Vec<_>>());
    }
}
