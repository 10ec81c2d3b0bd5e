//! Why a command failed, and the signals that end one.

use std::io;

use devenv_api::{ApiError, ClientError, ErrorCode};
use tokio::signal::unix::{SignalKind, signal};

use crate::paths::{PathsError, user_name};

#[derive(Debug)]
pub(crate) enum Failure {
    /// Reported to the user, as text and with `--json` as a document.
    Told(ApiError),
    /// An invalid profile, with its problems rendered for the terminal.
    Invalid { error: ApiError, shown: String },
    /// This process was asked to end.
    Signal(Signal),
    /// This process was asked to end, and its operation has ended: the state that it left.
    Cancelled { signal: Signal, error: ApiError },
    /// The reader of the output is gone.
    OutputClosed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

/// The signals that ask this process to end, one by one. The only place where signals are read.
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Cancel-safe: a signal that is not read stays pending.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

pub(crate) fn usage(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Usage, message)
}

/// A bug of devenv, or a failure of the machine.
pub(crate) fn internal(doing: &str, error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("{doing}: {error}"))
}

pub(crate) fn api_error(error: ClientError) -> ApiError {
    let words = error.to_string();
    match error {
        ClientError::Answered(error) => error,
        ClientError::NotRunning { .. } => ApiError::new(ErrorCode::Failed, words).hint("run `devenv daemon start` to start it"),
        ClientError::Foreign { .. } => ApiError::new(ErrorCode::Failed, words).hint(
            "another user may be waiting there for what this command sends; ask who made it, remove it, or set DEVENV_RUNTIME_DIR to a \
                directory of your own",
        ),
        ClientError::Lost(_) => ApiError::new(ErrorCode::Failed, words).hint(
            "run the command again to start a new daemon, which takes over the running services; the log of the old one is `daemon.log` \
                in the state directory",
        ),
        ClientError::Unexpected { .. } => ApiError::new(ErrorCode::Internal, words)
            .hint("if the daemon is of another version, run `devenv daemon stop`; the next command starts the new one"),
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Told(error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Told(api_error(error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::OutputClosed } else { Self::Told(internal("cannot write the output", error)) }
    }
}

impl From<PathsError> for Failure {
    fn from(error: PathsError) -> Self {
        Self::Told(misplaced(error))
    }
}

/// The user must fix directories that cannot be used.
pub(crate) fn misplaced(error: PathsError) -> ApiError {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let message = format!("{error}{cause}");
    match error {
        PathsError::Create { .. } => ApiError::new(ErrorCode::Failed, message).hint("run `devenv doctor` to check the directories"),
        PathsError::SocketTooLong { .. } => usage(message).hint("set DEVENV_RUNTIME_DIR to a shorter path"),
        PathsError::Foreign { owner, .. } if rustix::process::getuid().is_root() => {
            ApiError::new(ErrorCode::Failed, message).hint(format!(
                "run the command as {}, without sudo: files of root's in that directory would keep its owner from using it",
                user_name(owner)
            ))
        }
        PathsError::Foreign { .. } => {
            ApiError::new(ErrorCode::Failed, message).hint("set DEVENV_RUNTIME_DIR or DEVENV_STATE_DIR to a directory that you own")
        }
        PathsError::ForeignFile { directory, .. } => {
            let user = rustix::process::getuid().as_raw();
            let hint = format!("devenv ran with sudo once? run `sudo chown -R {user} {}`, and devenv without sudo", directory.display());
            ApiError::new(ErrorCode::Failed, message).hint(hint)
        }
        PathsError::NoHome { .. } | PathsError::Relative { .. } => usage(message),
    }
}
