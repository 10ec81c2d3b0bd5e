//! Errors as clients read them: the code, the text with its causes, and a hint. Used by every module of the daemon.

use devenv_api::{ApiError, ErrorCode};
use devenv_engine::EngineError;

pub(crate) fn no_engine(error: &EngineError) -> ApiError {
    ApiError::new(ErrorCode::NoEngine, error.to_string()).hint("run `devenv doctor` to check the engine")
}

pub(crate) fn internal(error: impl std::error::Error) -> ApiError {
    ApiError::new(ErrorCode::Internal, describe(&error))
}

/// An error with its causes, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
