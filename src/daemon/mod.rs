//! Stand-in for the daemon, with the interface that `cli/daemon.rs` expects of it.

use devenv_api::{Announcement, ApiError, ErrorCode};

use crate::paths::Paths;

pub(crate) struct Options {
    pub(crate) paths: Paths,
    /// `--context`.
    pub(crate) context: Option<String>,
}

pub(crate) async fn run(options: Options, announce: impl FnOnce(Announcement)) -> Result<(), ApiError> {
    let words = format!("this build has no daemon (state {}, context {:?})", options.paths.state.display(), options.context);
    let error = ApiError::new(ErrorCode::Internal, words);
    announce(Announcement::Error(error.clone()));
    Err(error)
}
