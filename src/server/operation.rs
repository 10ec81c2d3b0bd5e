//! Operations: submitted and followed, listed, cancelled. Nothing is done here.

use std::sync::Arc;

use axum::{Json, extract::State, response::Response};
use devenv_api::{Operation, OperationMessage, OperationTarget, Operations, Submission};
use futures_util::{StreamExt, stream};
use tokio::sync::broadcast::error::RecvError;

use super::{Daemon, failure::Failed, stream::ndjson};

pub(super) async fn submit(State(daemon): State<Arc<Daemon>>, Json(submission): Json<Submission>) -> Response {
    match daemon.operations.submit(submission).await {
        Ok(follower) => ndjson(follower.messages()),
        Err(error) => ndjson(stream::iter([OperationMessage::Failed { operation: None, error }])),
    }
}

pub(super) async fn list(State(daemon): State<Arc<Daemon>>) -> Json<Operations> {
    Json(Operations { operations: daemon.operations.store().operations() })
}

/// Each operation whenever it changes, beginning with those that have not ended.
pub(super) async fn follow(State(daemon): State<Arc<Daemon>>) -> Response {
    let changes = daemon.operations.store().changes();
    let now = daemon.operations.store().operations().into_iter().filter(|operation| !operation.state.has_ended());
    let rest = stream::unfold((changes, daemon.stop.clone()), |(mut changes, stop)| async move {
        loop {
            // Cancel-safe: a token, and receiving.
            let change = tokio::select! {
                () = stop.cancelled() => return None,
                change = changes.recv() => change,
            };
            match change {
                Ok(operation) => return Some((operation, (changes, stop))),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    ndjson(stream::iter(now).chain(rest))
}

pub(super) async fn cancel(State(daemon): State<Arc<Daemon>>, Json(target): Json<OperationTarget>) -> Result<Json<Operation>, Failed> {
    Ok(Json(daemon.operations.cancel(&target.id)?))
}
