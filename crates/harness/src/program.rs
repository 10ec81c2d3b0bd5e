//! The `devenv` program: finds it, runs it, and reports its failures.

use std::{ffi::OsString, io, path::PathBuf};

use devenv_api::{ApiError, ClientError, DaemonStatus, ErrorDocument, Status};
use serde_json::from_slice;
use tokio::process::Command;

const BINARY: &str = "DEVENV_BIN";
/// The exit code by which devenv says that no engine answers.
const NO_ENGINE: i32 = 3;

/// Why there is no environment, or no private part of one.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    #[error("devenv not found: set DEVENV_BIN to the binary, or add it to PATH (tried `{}`)", program.display())]
    NoBinary { program: PathBuf },
    #[error("cannot run devenv")]
    NotRun(#[source] io::Error),
    #[error("these tests need a container engine, but none answers: {message}{}", hinted(hint.as_ref()))]
    NoEngine { message: String, hint: Option<String> },
    #[error("the environment is not running: {message}{}", hinted(hint.as_ref()))]
    NotUp { message: String, hint: Option<String> },
    #[error("cannot parse devenv's output: {detail}")]
    Unexpected { detail: String },
    #[error("the environment has no {0} service")]
    NoService(&'static str),
    #[error("cannot create a private database: {message}{}", hinted(hint.as_ref()))]
    NotGranted { message: String, hint: Option<String> },
    #[error("cannot stop the environment: {message}{}", hinted(hint.as_ref()))]
    NotClosed { message: String, hint: Option<String> },
    #[error("cannot connect to the daemon")]
    Client(#[source] ClientError),
}

impl From<ClientError> for HarnessError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Answered(ApiError { message, hint, .. }) => Self::NotGranted { message, hint },
            error => Self::Client(error),
        }
    }
}

fn hinted(hint: Option<&String>) -> String {
    hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
}

/// Starts the environment if it is not running. Concurrent callers share one start.
pub(crate) async fn up(arguments: &[OsString]) -> Result<Status, HarnessError> {
    let output = run(arguments).await?;
    if output.status.success() {
        return from_slice(&output.stdout).map_err(|error| HarnessError::Unexpected { detail: error.to_string() });
    }
    let (message, hint) = match from_slice::<ErrorDocument>(&output.stdout) {
        Ok(document) => (document.error.message, document.error.hint),
        Err(_) => (String::from_utf8_lossy(&output.stderr).trim().to_owned(), None),
    };
    Err(if output.status.code() == Some(NO_ENGINE) {
        HarnessError::NoEngine { message, hint }
    } else {
        HarnessError::NotUp { message, hint }
    })
}

/// Where the daemon listens.
pub(crate) async fn socket() -> Result<PathBuf, HarnessError> {
    let output = run(&["daemon".into(), "status".into(), "--json".into()]).await?;
    let status: DaemonStatus = from_slice(&output.stdout).map_err(|error| HarnessError::Unexpected { detail: error.to_string() })?;
    Ok(status.socket.into())
}

async fn run(arguments: &[OsString]) -> Result<std::process::Output, HarnessError> {
    let program = std::env::var_os(BINARY).map_or_else(|| PathBuf::from("devenv"), PathBuf::from);
    Command::new(&program).args(arguments).output().await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => HarnessError::NoBinary { program },
        _ => HarnessError::NotRun(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_an_engine_is_reported_in_one_line() {
        let error = HarnessError::NoEngine { message: "nothing answers at /x".to_owned(), hint: Some("start one".to_owned()) };
        assert_eq!(error.to_string(), "these tests need a container engine, but none answers: nothing answers at /x (start one)");
    }
}
