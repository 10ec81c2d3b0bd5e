//! The session of a build: the engine makes calls over a connection that devenv opened, for files, secrets and the SSH agent.
//!
//! It ends with its build, which drops the task. A failed call is answered with a status, and the build reports it.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::Request;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
    task::JoinSet,
};

use super::{
    files,
    grpc::{INTERNAL, Incoming, NOT_FOUND, OK, Outgoing, UNIMPLEMENTED},
    protobuf::{Message, first},
};
use crate::{
    EngineError,
    build::BuildContext,
    docker::{
        client::Client,
        wire::{Call, Upgraded},
    },
};

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const FILES: &str = "/moby.filesync.v1.FileSync/DiffCopy";
const SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
const AGENT: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const NO_AGENT: &str = "no SSH agent of that name; declare it under `build.ssh`, and set SSH_AUTH_SOCK";
const FORWARD: &str = "/moby.sshforward.v1.SSH/ForwardAgent";

/// What a build may ask for.
pub(in crate::docker) struct Offer {
    pub(in crate::docker) context: BuildContext,
    pub(in crate::docker) dockerfile: Vec<u8>,
    pub(in crate::docker) secrets: BTreeMap<String, Vec<u8>>,
    pub(in crate::docker) ssh: BTreeMap<String, PathBuf>,
}

/// `name`: the key under which the engine caches the files of earlier builds.
pub(super) async fn open(client: &Client, id: &str, name: &str, offer: &Offer) -> Result<Upgraded, EngineError> {
    let mut methods = vec![FILES, HEALTH, SECRET];
    if !offer.ssh.is_empty() {
        methods.extend([AGENT, FORWARD]);
    }
    let mut headers =
        vec![("x-docker-expose-session-uuid", id), ("x-docker-expose-session-name", "devenv"), ("x-docker-expose-session-sharedkey", name)];
    headers.extend(methods.into_iter().map(|method| ("x-docker-expose-session-grpc-method", method)));
    client.wire.upgrade_to(Call::post("open a session for the build", "/session"), "h2c", &headers).await
}

pub(super) async fn serve(io: impl AsyncRead + AsyncWrite + Unpin, offer: Arc<Offer>) {
    let Ok(mut connection) = h2::server::handshake(io).await else { return };
    let mut calls = JoinSet::new();
    loop {
        // Both are cancel-safe: accepting keeps what it has read, and joining loses nothing.
        tokio::select! {
            call = connection.accept() => match call {
                Some(Ok((request, respond))) => { calls.spawn(answer(request, respond, Arc::clone(&offer))); }
                _ => break,
            },
            Some(_) = calls.join_next() => {}
        }
    }
}

async fn answer(request: Request<RecvStream>, respond: SendResponse<Bytes>, offer: Arc<Offer>) {
    let path = request.uri().path().to_owned();
    if let Err(error) = answer_call(request, respond, &offer).await {
        // The engine ends calls at any time; errors that matter fail the build.
        tracing::debug!(%error, path, "A call of the engine's builder ended early.");
    }
}

async fn answer_call(request: Request<RecvStream>, respond: SendResponse<Bytes>, offer: &Offer) -> io::Result<()> {
    let (parts, body) = request.into_parts();
    let mut incoming = Incoming::new(body);
    let mut outgoing = Outgoing::begin(respond)?;
    match parts.uri.path() {
        HEALTH => {
            outgoing.send(&Message::default().number(1, 1).0).await?;
            outgoing.finish(OK, "")
        }
        FILES => match files::send(&parts.headers, &mut incoming, &mut outgoing, offer).await {
            Ok(()) => outgoing.finish(OK, ""),
            Err(error) => outgoing.finish(INTERNAL, &error.to_string()),
        },
        SECRET => {
            let request = incoming.message().await?.unwrap_or_default();
            let id = first(&request, 1).map(|id| id.text()).unwrap_or_default();
            match offer.secrets.get(&id) {
                Some(secret) => {
                    outgoing.send(&Message::default().bytes(1, secret).0).await?;
                    outgoing.finish(OK, "")
                }
                None => outgoing.finish(NOT_FOUND, &format!("secret {id}: not found; declare it under `build.secrets`")),
            }
        }
        AGENT => {
            let request = incoming.message().await?.unwrap_or_default();
            let id = first(&request, 1).map(|id| id.text()).filter(|id| !id.is_empty());
            match agent(offer, id.as_deref()) {
                Some(_) => {
                    outgoing.send(&[]).await?;
                    outgoing.finish(OK, "")
                }
                None => outgoing.finish(NOT_FOUND, NO_AGENT),
            }
        }
        FORWARD => {
            let id = parts.headers.get("buildkit.ssh.id").and_then(|id| id.to_str().ok());
            match agent(offer, id) {
                Some(socket) => match forward(socket, &mut incoming, &mut outgoing).await {
                    Ok(()) => outgoing.finish(OK, ""),
                    Err(error) => outgoing.finish(INTERNAL, &format!("the SSH agent: {error}")),
                },
                None => outgoing.finish(NOT_FOUND, NO_AGENT),
            }
        }
        other => outgoing.finish(UNIMPLEMENTED, &format!("unknown method {other}")),
    }
}

fn agent<'a>(offer: &'a Offer, id: Option<&str>) -> Option<&'a PathBuf> {
    offer.ssh.get(id.unwrap_or("default"))
}

/// Copies until either side ends.
async fn forward(agent: &PathBuf, incoming: &mut Incoming, outgoing: &mut Outgoing) -> io::Result<()> {
    let (mut from, mut to) = UnixStream::connect(agent).await?.into_split();
    let mut piece = vec![0; 32 << 10];
    loop {
        // Cancel-safe: an incomplete message stays in its buffer, and so does unread data of a socket.
        tokio::select! {
            message = incoming.message() => match message? {
                Some(message) => to.write_all(first(&message, 1).map(|data| data.bytes().to_vec()).unwrap_or_default().as_slice()).await?,
                None => return Ok(()),
            },
            read = from.read(&mut piece) => match read? {
                0 => return Ok(()),
                read => outgoing.send(&Message::default().bytes(1, &piece[..read]).0).await?,
            },
        }
    }
}
