//! Checks that the daemon's engine is the one that a client selects.

use devenv_api::{ApiError, EngineSelection, ErrorCode};
use devenv_engine::docker::{Selection, named_endpoint};

use crate::{error::no_engine, server::EngineCheck};

/// Refuses a client that selects another engine than the one at `endpoint`, because it would see the wrong containers.
pub(super) fn check(own: Selection, endpoint: String) -> EngineCheck {
    Box::new(move |choice: EngineSelection| {
        if (&choice.context, &choice.docker_host, &choice.docker_context) == (&None, &None, &None) {
            return Ok(());
        }
        let meant = Selection {
            context: choice.context,
            docker_host: choice.docker_host,
            docker_context: choice.docker_context,
            docker_tls_verify: choice.docker_tls_verify,
            docker_cert_path: choice.docker_cert_path.map(Into::into),
            ..own.clone()
        };
        match named_endpoint(&meant) {
            Ok(Some(selected)) if selected != endpoint => {
                let message = format!("the running daemon uses the engine at {endpoint}, but this command selects {selected}");
                Err(ApiError::new(ErrorCode::EngineMismatch, message).hint(
                    "run `devenv doctor` to check an engine; to switch engines, run `devenv daemon stop` (services keep running), or use \
                        a separate DEVENV_RUNTIME_DIR and DEVENV_STATE_DIR",
                ))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(no_engine(&error)),
        }
    })
}
