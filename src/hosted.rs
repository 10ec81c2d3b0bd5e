//! The daemon within another program, on an engine that is given to it. Called by `tests/it` alone; it is no part of what
//! devenv promises, and no command of devenv comes here.

use std::{path::Path, sync::Arc, time::Duration};

use devenv_api::{Announcement, ApiError};
use devenv_engine::Engine;

use crate::{daemon, paths::Paths};

/// Runs a daemon in these directories until it is stopped. `announce` is called once, when it serves or has failed to start.
pub async fn run(engine: Arc<dyn Engine>, state: &Path, runtime: &Path, announce: impl FnOnce(Announcement)) -> Result<(), ApiError> {
    let paths = Paths { state: state.to_owned(), runtime: runtime.to_owned(), config: state.to_owned() };
    daemon::run(daemon::Options { paths, context: None, engine: Some(engine), steady: Duration::ZERO }, announce).await
}
