//! Leases: private parts of services that belong to one connection, and end with it however the client ends.
//!
//! The connection changes to the protocol [`LEASE_PROTOCOL`]; from then on both sides send one line of JSON at a time, a
//! [`LeaseMessage`] or a [`LeaseCommand`]. The kernel closes the socket of a
//! client that died, so neither side needs a heartbeat.

use futures_util::{SinkExt, StreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, FramedParts, LinesCodec};

use crate::{ApiError, Client, ClientError, EnvironmentTarget, Lease, route};

/// The protocol to which the connection of a lease is upgraded.
pub const LEASE_PROTOCOL: &str = "devenv-lease";

/// In bytes. Longer than any lease with its variables.
const LONGEST_LINE: usize = 4 << 20;

/// Asks for private parts of services: a database, a numbered database of Redis, a prefix for topics and groups.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LeaseRequest {
    pub target: EnvironmentTarget,
    /// The services to lease from. Empty: every service that supports leases.
    #[serde(default)]
    pub services: Vec<String>,
    /// The PostgreSQL database to copy. Default: the first one of each server.
    #[serde(default)]
    pub database: Option<String>,
    /// If no service supports leases, grant only the environment's variables.
    #[serde(default)]
    pub optional: bool,
}

/// Asks for a whole environment, which is created for the client and removed with its connection.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct HoldRequest {
    pub target: EnvironmentTarget,
}

/// The messages of the daemon.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseMessage {
    /// The lease begins.
    Granted(Lease),
    /// The environment belongs to this connection; the processes of its command carry the marker.
    Held { environment: String, marker: String },
    /// The lease has ended, as the client asked. Nothing follows.
    Over,
    /// The lease was refused, or has failed. Nothing follows.
    Failed(ApiError),
}

/// The messages of the client. Closing the connection means [`Self::Release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseCommand {
    Release,
    /// Keep the environment, like any that `up` made.
    Keep,
}

/// A lease, held until this is dropped.
#[derive(Debug)]
pub struct Holding {
    connection: Framed<UnixStream, LinesCodec>,
}

impl Client {
    /// Leases private parts of services. Returns when they exist.
    pub async fn lease(&self, request: &LeaseRequest) -> Result<(Lease, Holding), ClientError> {
        let mut holding = self.open(route::LEASE, request).await?;
        match holding.receive().await? {
            LeaseMessage::Granted(lease) => {
                super::client::usable::check(&lease.variables, String::as_str)?;
                Ok((lease, holding))
            }
            LeaseMessage::Failed(error) => Err(ClientError::Answered(error)),
            other => Err(unexpected(&other)),
        }
    }

    /// Reserves an environment for this connection; it is not up yet. Returns the marker for the processes that belong
    /// to it.
    pub async fn hold(&self, request: &HoldRequest) -> Result<(String, Holding), ClientError> {
        let mut holding = self.open(route::HOLD, request).await?;
        match holding.receive().await? {
            LeaseMessage::Held { marker, .. } => Ok((marker, holding)),
            LeaseMessage::Failed(error) => Err(ClientError::Answered(error)),
            other => Err(unexpected(&other)),
        }
    }

    async fn open(&self, path: &str, request: &impl Serialize) -> Result<Holding, ClientError> {
        let (connection, received) = self.upgrade(path, LEASE_PROTOCOL, request).await?;
        let mut parts = FramedParts::new::<String>(connection, LinesCodec::new_with_max_length(LONGEST_LINE));
        parts.read_buf = received;
        Ok(Holding { connection: Framed::from_parts(parts) })
    }
}

impl Holding {
    /// Waits until the other side ends the lease, which happens only if the daemon dies. Cancel-safe.
    pub async fn lost(&mut self) -> ClientError {
        match self.receive().await {
            Ok(LeaseMessage::Failed(error)) => ClientError::Answered(error),
            Ok(other) => unexpected(&other),
            Err(error) => error,
        }
    }

    /// Ends the lease, and waits until everything that was leased is removed.
    pub async fn release(mut self) -> Result<(), ClientError> {
        self.send(LeaseCommand::Release).await
    }

    /// Ends the lease and keeps the environment as it is.
    pub async fn keep(mut self) -> Result<(), ClientError> {
        self.send(LeaseCommand::Keep).await
    }

    async fn send(&mut self, command: LeaseCommand) -> Result<(), ClientError> {
        let line = serde_json::to_string(&command).map_err(|error| ClientError::Unexpected { detail: error.to_string() })?;
        self.connection.send(line).await.map_err(|error| ClientError::Lost(error.into()))?;
        match self.receive().await? {
            LeaseMessage::Over => Ok(()),
            LeaseMessage::Failed(error) => Err(ClientError::Answered(error)),
            other => Err(unexpected(&other)),
        }
    }

    async fn receive(&mut self) -> Result<LeaseMessage, ClientError> {
        match self.connection.next().await {
            Some(Ok(line)) => serde_json::from_str(&line).map_err(|error| ClientError::Unexpected { detail: error.to_string() }),
            Some(Err(error)) => Err(ClientError::Lost(error.into())),
            None => Err(ClientError::Lost(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())),
        }
    }
}

fn unexpected(message: &LeaseMessage) -> ClientError {
    let what = match message {
        LeaseMessage::Granted(_) => "a lease",
        LeaseMessage::Held { .. } => "a whole environment",
        LeaseMessage::Over => "the end of the lease",
        LeaseMessage::Failed(_) => "a failure",
    };
    ClientError::Unexpected { detail: format!("unexpected message: {what}") }
}
