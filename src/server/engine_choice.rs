//! A client that names another engine than the one that is driven is refused: it would be told of the wrong containers.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use devenv_api::{ApiError, ENGINE_HEADER, EngineChoice, ErrorCode};

use super::failure::Failed;
use crate::{daemon::Daemon, engine::docker};

pub(super) async fn agree(State(daemon): State<Arc<Daemon>>, request: Request, next: Next) -> Response {
    let choice = request.headers().get(ENGINE_HEADER).and_then(|value| serde_json::from_slice::<EngineChoice>(value.as_bytes()).ok());
    if let Some(choice) = choice
        && let Err(error) = check(&daemon, choice)
    {
        return Failed(error).into_response();
    }
    next.run(request).await
}

fn check(daemon: &Daemon, choice: EngineChoice) -> Result<(), ApiError> {
    if choice == EngineChoice::default() {
        return Ok(());
    }
    let meant = docker::Selection { context: choice.context, docker_host: choice.docker_host, docker_context: choice.docker_context, ..daemon.selection.clone() };
    let hint = "stop it with `devenv daemon stop` (what runs goes on running), or give this one a DEVENV_RUNTIME_DIR and a DEVENV_STATE_DIR of its own";
    match docker::named_endpoint(&meant) {
        Ok(Some(endpoint)) if endpoint != daemon.engine.endpoint => {
            let message = format!("the daemon that runs drives the engine at {}, and this command names {endpoint}", daemon.engine.endpoint);
            Err(ApiError::new(ErrorCode::EngineMismatch, message).hint(hint))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(ApiError::new(ErrorCode::NoEngine, error.to_string()).hint("`devenv doctor` says what was tried and what to do")),
    }
}
