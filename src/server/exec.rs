//! `exec`: the connection itself becomes the command's input and output.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use devenv_api::{ApiError, EXEC_PROTOCOL, ErrorCode, ExecRequest};
use hyper_util::rt::TokioIo;

use super::failure::Failed;
use crate::daemon::{Daemon, carry};

pub(super) async fn exec(State(daemon): State<Arc<Daemon>>, mut request: Request) -> Result<Response, Failed> {
    let usage = |message: &str| Failed(ApiError::new(ErrorCode::Usage, message));
    let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>().ok_or_else(|| usage("`exec` needs a connection that can be upgraded"))?;
    let body = Bytes::from_request(request, &()).await.map_err(|error| usage(&error.to_string()))?;
    let wanted: ExecRequest = serde_json::from_slice(&body).map_err(|error| usage(&error.to_string()))?;
    let session = daemon.environments.exec(&wanted).await?;
    let stop = daemon.stop.clone();
    tokio::spawn(async move {
        // Ends with the command, its client or the daemon.
        tokio::select! {
            () = stop.cancelled() => {}
            upgraded = upgrade => if let Ok(upgraded) = upgraded { carry(TokioIo::new(upgraded), session).await },
        }
    });
    Ok((StatusCode::SWITCHING_PROTOCOLS, [(header::CONNECTION, "upgrade"), (header::UPGRADE, EXEC_PROTOCOL)]).into_response())
}
