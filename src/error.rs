//! Errors as clients read them: the code, the text with its causes, and a hint. Used by every module of the daemon.

use std::{
    io,
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, ErrorCode};
use devenv_engine::EngineError;

pub(crate) fn no_engine(error: &EngineError) -> ApiError {
    if let Some(full) = full_engine_disk(&error.to_string()) {
        return full;
    }
    ApiError::new(ErrorCode::NoEngine, error.to_string()).hint("run `devenv doctor` to check the engine")
}

/// A path that a client gives. The daemon works in another directory than its clients, so only an absolute path means the same to both.
pub(crate) fn absolute(what: &str, path: &str) -> Result<PathBuf, ApiError> {
    if Path::new(path).is_absolute() {
        return Ok(path.into());
    }
    Err(ApiError::new(ErrorCode::Usage, format!("{what} must be an absolute path, but is `{path}`"))
        .hint("the daemon does not know the directory of its clients: resolve the path before the request, as the command line does"))
}

/// A bug, or a failure of the machine. For a full disk, the hint says what to do.
pub(crate) fn internal(error: impl std::error::Error) -> ApiError {
    failed(ErrorCode::Internal, &error)
}

/// An error with its causes. If one of them is a full disk, that comes first, whatever the code would be.
pub(crate) fn failed(code: ErrorCode, error: &dyn std::error::Error) -> ApiError {
    if is_full_disk(error) {
        return ApiError::new(ErrorCode::Failed, format!("the disk is full: {}", describe(error))).hint(
            "nothing was lost: free space on the disk of that file (`df -h` shows how full each one is), and run the command again; \
             `devenv gc --all` and `docker system prune` remove what is not needed",
        );
    }
    let text = describe(error);
    full_engine_disk(&text).unwrap_or_else(|| ApiError::new(code, text))
}

/// If the text is that of an engine, or of a program in a container, whose disk is full: the error for it. It may be another disk than
/// that of devenv's files, or on another machine.
fn full_engine_disk(text: &str) -> Option<ApiError> {
    let words = ["no space left on device", "disk quota exceeded"];
    let lower = text.to_ascii_lowercase();
    words.iter().any(|words| lower.contains(words)).then(|| {
        ApiError::new(ErrorCode::Failed, format!("the disk of the container engine is full: {text}")).hint(
            "nothing was lost: free space there and run the command again; `docker system df` shows what uses it, `devenv gc --all` and \
             `docker system prune` remove what is not needed",
        )
    })
}

fn is_full_disk(error: &dyn std::error::Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    let mut next = error.source();
    while let Some(cause) = next {
        if cause.downcast_ref::<io::Error>().is_some_and(|error| full.contains(&error.kind())) {
            return true;
        }
        next = cause.source();
    }
    false
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
