//! Leases: claims that end when the connection that made them ends, however its holder died.
//!
//! The connection changes to the protocol [`LEASE_PROTOCOL`]; from then on both sides say one line of JSON at a time, a
//! [`LeaseMessage`] or a [`LeaseCommand`]. The kernel closes a dead holder's socket, so nobody has to ask whether it lives.

use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, FramedParts, LinesCodec};

use crate::{ApiError, Client, ClientError, EnvironmentTarget, Lease, route};

/// What the connection of a lease is upgraded to.
pub const LEASE_PROTOCOL: &str = "devenv-lease";

/// Longer than any lease with its variables.
const LONGEST_LINE: usize = 4 << 20;

/// A claim on private parts of services: a database, a numbered database of Redis, a prefix for topics and groups.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaseRequest {
    pub target: EnvironmentTarget,
    /// None named means every service that has something to lease.
    #[serde(default)]
    pub services: Vec<String>,
    /// The PostgreSQL database to copy. Default: the first one of each server.
    #[serde(default)]
    pub database: Option<String>,
}

/// A claim on a whole environment, which is made for it and is gone with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HoldRequest {
    pub target: EnvironmentTarget,
}

/// What the daemon says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseMessage {
    /// The lease begins.
    Granted(Lease),
    /// The environment is this connection's; the mark that its command's processes carry.
    Held { environment: String, marker: String },
    /// What was claimed is gone, as was asked. Nothing follows.
    Over,
    /// It could not be had. Nothing follows.
    Failed(ApiError),
}

/// What the holder says. Closing the connection says the same as [`Self::Release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseCommand {
    Release,
    /// The environment stays as any other does.
    Keep,
}

/// What a failure leaves to be read: everything that is known of an environment, without its secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BundleRequest {
    pub target: EnvironmentTarget,
    /// Values that are to be taken out besides the environment's own secrets.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Texts of the client's own, which come back without secrets.
    #[serde(default)]
    pub files: Vec<BundleFile>,
}

/// A piece of a file; pieces of the same path belong together in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFile {
    /// Relative, with `/`.
    pub path: String,
    pub text: String,
}

/// A lease that is held for as long as this is.
#[derive(Debug)]
pub struct Holding {
    connection: Framed<UnixStream, LinesCodec>,
}

impl Client {
    /// Claims private parts of services. Returns when they are there.
    pub async fn lease(&self, request: &LeaseRequest) -> Result<(Lease, Holding), ClientError> {
        let mut holding = self.hold_on(route::LEASE, request).await?;
        match holding.news().await? {
            LeaseMessage::Granted(lease) => Ok((lease, holding)),
            LeaseMessage::Failed(error) => Err(ClientError::Answered(error)),
            other => Err(unexpected(&other)),
        }
    }

    /// Claims an environment of its own, which is not up yet. Returns the mark for the processes that belong to it.
    pub async fn hold(&self, request: &HoldRequest) -> Result<(String, Holding), ClientError> {
        let mut holding = self.hold_on(route::HOLD, request).await?;
        match holding.news().await? {
            LeaseMessage::Held { marker, .. } => Ok((marker, holding)),
            LeaseMessage::Failed(error) => Err(ClientError::Answered(error)),
            other => Err(unexpected(&other)),
        }
    }

    async fn hold_on(&self, path: &str, request: &impl Serialize) -> Result<Holding, ClientError> {
        let (connection, received) = self.upgrade(path, LEASE_PROTOCOL, request).await?;
        let mut parts = FramedParts::new::<String>(connection, LinesCodec::new_with_max_length(LONGEST_LINE));
        parts.read_buf = received;
        Ok(Holding { connection: Framed::from_parts(parts) })
    }
}

impl Holding {
    /// Waits for the end of the lease by the other side: only a daemon that dies ends one that is held. Cancel-safe.
    pub async fn lost(&mut self) -> ClientError {
        match self.news().await {
            Ok(LeaseMessage::Failed(error)) => ClientError::Answered(error),
            Ok(other) => unexpected(&other),
            Err(error) => error,
        }
    }

    /// Gives it back, and waits until what was claimed is gone.
    pub async fn release(mut self) -> Result<(), ClientError> {
        self.say(LeaseCommand::Release).await
    }

    /// Gives up the claim and leaves the environment.
    pub async fn keep(mut self) -> Result<(), ClientError> {
        self.say(LeaseCommand::Keep).await
    }

    async fn say(&mut self, command: LeaseCommand) -> Result<(), ClientError> {
        let line = serde_json::to_string(&command).map_err(|error| ClientError::Unexpected { detail: error.to_string() })?;
        self.connection.send(line).await.map_err(|error| ClientError::Lost(error.into()))?;
        match self.news().await? {
            LeaseMessage::Over => Ok(()),
            LeaseMessage::Failed(error) => Err(ClientError::Answered(error)),
            other => Err(unexpected(&other)),
        }
    }

    async fn news(&mut self) -> Result<LeaseMessage, ClientError> {
        match self.connection.next().await {
            Some(Ok(line)) => serde_json::from_str(&line).map_err(|error| ClientError::Unexpected { detail: error.to_string() }),
            Some(Err(error)) => Err(ClientError::Lost(error.into())),
            None => Err(ClientError::Lost(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())),
        }
    }
}

fn unexpected(news: &LeaseMessage) -> ClientError {
    let what = match news {
        LeaseMessage::Granted(_) => "a lease",
        LeaseMessage::Held { .. } => "a whole environment",
        LeaseMessage::Over => "the end of the lease",
        LeaseMessage::Failed(_) => "a failure",
    };
    ClientError::Unexpected { detail: format!("unexpected message: {what}") }
}
