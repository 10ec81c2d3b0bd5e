//! Every request may name the engine that its sender selects.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use devenv_api::{ENGINE_HEADER, EngineSelection};

use super::{Daemon, failure::Failed};

pub(super) async fn agree(State(daemon): State<Arc<Daemon>>, request: Request, next: Next) -> Response {
    let choice = request.headers().get(ENGINE_HEADER).and_then(|value| serde_json::from_slice::<EngineSelection>(value.as_bytes()).ok());
    if let Some(choice) = choice
        && let Err(error) = (daemon.refuse_engine)(choice)
    {
        return Failed(error).into_response();
    }
    next.run(request).await
}
