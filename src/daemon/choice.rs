//! Whether the engine that is driven is the one that a client means.

use devenv_api::{ApiError, EngineChoice, ErrorCode};

use super::{Daemon, no_engine};
use crate::engine::docker::{Selection, named_endpoint};

impl Daemon {
    /// Refuses a client that names another engine: it would be told of the wrong containers.
    pub(crate) fn agree(&self, choice: EngineChoice) -> Result<(), ApiError> {
        if choice == EngineChoice::default() {
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
                    format!("the daemon that runs drives the engine at {}, and this command names {endpoint}", self.engine.endpoint);
                Err(ApiError::new(ErrorCode::EngineMismatch, message).hint(
                    "`devenv doctor` checks an engine; to change over, `devenv daemon stop` (what runs goes on running), \
                     or give the other one a DEVENV_RUNTIME_DIR and a DEVENV_STATE_DIR of its own",
                ))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(no_engine(&error)),
        }
    }
}
