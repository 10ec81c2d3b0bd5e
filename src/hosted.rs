//! The daemon within another program, on a given engine. Only `tests/it` calls it; it is not part of devenv's
//! interface, and no command of devenv uses it.

use std::{path::Path, sync::Arc, time::Duration};

use devenv_api::{Announcement, ApiError};
use devenv_engine::Engine;

use crate::{daemon, paths::Paths};

/// Runs a daemon in these directories until it is stopped. `steady` is how long a service without a probe must run until it is ready.
/// `announce` is called once, when it serves or has failed to start.
pub async fn run(
    engine: Arc<dyn Engine>,
    (state, runtime): (&Path, &Path),
    steady: Duration,
    announce: impl FnOnce(Announcement),
) -> Result<(), ApiError> {
    let paths = Paths { state: state.to_owned(), runtime: runtime.to_owned(), config: state.to_owned() };
    daemon::run(daemon::Options { paths, context: None, engine: Some(engine), steady }, announce).await
}
