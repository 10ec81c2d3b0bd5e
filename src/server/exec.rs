//! `exec`: the connection itself becomes the command's input and output.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use devenv_api::{ApiError, EXEC_PROTOCOL, ErrorCode, ExecRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use super::{Daemon, failure::Failed};
use crate::environment::exec::carry;

pub(super) async fn exec(State(daemon): State<Arc<Daemon>>, request: Request) -> Result<Response, Failed> {
    let (upgrade, wanted) = upgrade::<ExecRequest>(request).await?;
    // From here on: what is woken for it stays awake.
    let used = daemon.environments.require(&wanted.target)?.activity.begin();
    let (session, one_off) = if wanted.one_off {
        let (session, one_off) = daemon.environments.run_once(&wanted).await?;
        (session, one_off.remove)
    } else {
        (daemon.environments.exec(&wanted).await?, None)
    };
    let environments = daemon.environments.clone();
    let stop = daemon.stop.clone();
    tokio::spawn(async move {
        let _used = used;
        // Ends with the command, its client or the daemon.
        tokio::select! {
            () = stop.cancelled() => {}
            upgraded = upgrade => if let Ok(upgraded) = upgraded { carry(TokioIo::new(upgraded), session).await },
        }
        if let Some(container) = one_off
            && let Err(error) = environments.engine().remove_container(&container).await
        {
            tracing::warn!(%error, "Cannot remove the container of a single command.");
        }
    });
    Ok(switch(EXEC_PROTOCOL))
}

/// The request, and the connection that follows.
pub(super) async fn upgrade<T: DeserializeOwned>(mut request: Request) -> Result<(OnUpgrade, T), Failed> {
    let activity = |message: &str| Failed(ApiError::new(ErrorCode::Usage, message));
    let connection = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(|| activity("this request needs a connection upgrade"))?;
    let body = Bytes::from_request(request, &()).await.map_err(|error| activity(&error.to_string()))?;
    Ok((connection, serde_json::from_slice(&body).map_err(|error| activity(&error.to_string()))?))
}

/// The last HTTP message.
pub(super) fn switch(protocol: &'static str) -> Response {
    (StatusCode::SWITCHING_PROTOCOLS, [(header::CONNECTION, "upgrade"), (header::UPGRADE, protocol)]).into_response()
}
