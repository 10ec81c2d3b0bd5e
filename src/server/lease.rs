//! Leases: the connection itself is the claim, and what was claimed ends with it, however its holder ends. Also test
//! environments, which a connection holds in the same way.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use devenv_api::{ApiError, AskedBy, BundleRequest, HoldRequest, LEASE_PROTOCOL, Lease, LeaseCommand, LeaseMessage, LeaseRequest};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use super::{
    Daemon,
    exec::{switch, upgrade},
    failure::Failed,
    stream::{ndjson, received},
};
use crate::{operation, reconcile::CommandError};

/// A command is one short line.
const LONGEST_LINE: usize = 1024;

/// The messages of a holder and the daemon.
type Line<C> = Framed<C, LinesCodec>;

/// How a claim ends.
enum End {
    Released,
    Keep,
    /// The connection is gone, or this daemon is about to end.
    Lost,
}

pub(super) async fn lease(State(daemon): State<Arc<Daemon>>, request: Request) -> Result<Response, Failed> {
    let (connection, wanted) = upgrade::<LeaseRequest>(request).await?;
    daemon.environments.clone().look_after(async move {
        if let Ok(connection) = connection.await {
            hold_lease(&daemon, TokioIo::new(connection), wanted).await;
        }
    });
    Ok(switch(LEASE_PROTOCOL))
}

pub(super) async fn hold(State(daemon): State<Arc<Daemon>>, request: Request) -> Result<Response, Failed> {
    let (connection, wanted) = upgrade::<HoldRequest>(request).await?;
    daemon.environments.clone().look_after(async move {
        if let Ok(connection) = connection.await {
            hold_environment(&daemon, TokioIo::new(connection), wanted).await;
        }
    });
    Ok(switch(LEASE_PROTOCOL))
}

pub(super) async fn bundle(State(daemon): State<Arc<Daemon>>, Json(request): Json<BundleRequest>) -> Result<Response, Failed> {
    Ok(ndjson(received(daemon.bundle(request).await?)))
}

/// Makes a lease, and ends it with the connection.
async fn hold_lease(daemon: &Daemon, connection: impl AsyncRead + AsyncWrite + Unpin + Send, request: LeaseRequest) {
    let mut line = Framed::new(connection, LinesCodec::new_with_max_length(LONGEST_LINE));
    let asked_by = AskedBy { command: "devenv lease".to_owned(), ..AskedBy::default() };
    let (environment, granted) = match daemon.operations.grant(request, asked_by.clone()).await {
        Ok(granted) => granted,
        Err(error) => {
            let _ = say(&mut line, &LeaseMessage::Failed(error)).await;
            return;
        }
    };
    let lease = Lease {
        id: granted.id.clone(),
        services: granted.services.clone(),
        database: granted.database.clone(),
        variables: granted.variables.clone(),
    };
    // Neither keeps the environment in memory, in case it is removed while the lease lasts.
    let (id, _used) = (environment.id.clone(), environment.activity.begin());
    drop(environment);
    // A client that has disconnected in the meantime is noticed immediately.
    let _ = say(&mut line, &LeaseMessage::Granted(lease)).await;
    let end = until_end(daemon, &mut line).await;
    if !matches!(end, End::Lost) {
        let _ = say(&mut line, &LeaseMessage::Over).await;
    }
    daemon.operations.give_back(&id, granted, asked_by).await;
}

/// Creates an environment for this holder only, and removes it with the connection.
async fn hold_environment(daemon: &Daemon, connection: impl AsyncRead + AsyncWrite + Unpin + Send, request: HoldRequest) {
    let mut line = Framed::new(connection, LinesCodec::new_with_max_length(LONGEST_LINE));
    let asked_by = AskedBy { command: "devenv test".to_owned(), ..AskedBy::default() };
    let id = match daemon.operations.hold(&request.target, asked_by.clone()).await {
        Ok(environment) => environment.id.clone(),
        Err(error) => {
            let _ = say(&mut line, &LeaseMessage::Failed(error)).await;
            return;
        }
    };
    let held = LeaseMessage::Held { environment: id.to_string(), marker: operation::mark(&id, "test") };
    let _ = say(&mut line, &held).await;
    let over = match until_end(daemon, &mut line).await {
        // The next daemon finds it; the command that held it starts that daemon.
        End::Lost if daemon.stop.is_cancelled() => return,
        End::Keep => match daemon.environments.get(&id) {
            Some(environment) => environment.handle.keep().await.map_err(ApiError::from),
            None => Err(CommandError::Closing.into()),
        },
        End::Released | End::Lost => daemon.operations.dissolve(&id, asked_by).await,
    };
    let news = match over {
        Ok(()) => LeaseMessage::Over,
        Err(error) => {
            tracing::warn!(%error, environment = %id, "Cannot remove a temporary environment; `devenv gc` removes it.");
            LeaseMessage::Failed(error)
        }
    };
    let _ = say(&mut line, &news).await;
}

async fn until_end<C: AsyncRead + AsyncWrite + Unpin>(daemon: &Daemon, line: &mut Line<C>) -> End {
    // Both are cancel-safe: a line that is not taken stays in the buffer.
    let said = tokio::select! {
        () = daemon.stop.cancelled() => return End::Lost,
        said = line.next() => said,
    };
    let Some(Ok(text)) = said else { return End::Lost };
    match serde_json::from_str(&text) {
        Ok(LeaseCommand::Release) => End::Released,
        Ok(LeaseCommand::Keep) => End::Keep,
        Err(_) => End::Lost,
    }
}

async fn say<C: AsyncRead + AsyncWrite + Unpin>(line: &mut Line<C>, news: &LeaseMessage) -> Result<(), LinesCodecError> {
    line.send(serde_json::to_string(news).expect("a message serializes to JSON")).await
}
