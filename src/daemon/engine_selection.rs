//! Whether the engine that is driven is the one that a client means.

use devenv_api::{ApiError, EngineSelection, ErrorCode};

use super::{Daemon, no_engine};
use crate::engine::docker::{Selection, named_endpoint};

impl Daemon {
    /// Refuses a client that selects another engine, because it would see the wrong containers.
    pub(crate) fn agree(&self, choice: EngineSelection) -> Result<(), ApiError> {
        if choice == EngineSelection::default() {
            return Ok(());
        }
        let meant = Selection {
            context: choice.context,
            docker_host: choice.docker_host,
            docker_context: choice.docker_context,
            ..self.selection.clone()
        };
        match named_endpoint(&meant) {
            Ok(Some(endpoint)) if endpoint != self.engine.endpoint => {
                let message =
                    format!("the running daemon uses the engine at {}, but this command selects {endpoint}", self.engine.endpoint);
                Err(ApiError::new(ErrorCode::EngineMismatch, message).hint(
                    "run `devenv doctor` to check an engine; to switch engines, run `devenv daemon stop` (services keep running), or use \
                        a separate DEVENV_RUNTIME_DIR and DEVENV_STATE_DIR",
                ))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(no_engine(&error)),
        }
    }
}
