//! Workloads on Redis for chaos scenarios, and a check whether it answers.

mod jobs;
mod keys;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use devenv_secrets::tls;
use redis::{AsyncConnectionConfig, RedisError, TlsCertificates, aio::MultiplexedConnection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RedisKind;
use crate::capability::{
    AddressError, Asker, Line, Reply, Silent, Variables, WorkError, WorkloadKind, WorkloadSite, Workloads, asker::silent,
};

/// A large answer of a busy server takes its time; a client's own limit is shorter.
const RESPONSE: Duration = Duration::from_secs(10);
/// Names the certificate of the local authority.
const AUTHORITY: &str = "DEVENV_CA_FILE";

impl Workloads for RedisKind {
    fn kinds(&self) -> &'static [&'static dyn WorkloadKind] {
        &[&keys::RedisKeys, &jobs::RedisJobs]
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RedisWorkload")]
#[expect(dead_code, reason = "the fields that all workloads have are read by the scenario")]
struct Fields {
    /// The service.
    service: String,
    /// The number of concurrent clients.
    #[serde(default)]
    clients: Option<u32>,
    /// Operations per second of all clients together: `400/s`.
    #[serde(default)]
    rate: Option<String>,
    /// When a write counts as acknowledged: at the reply, or once the server says that it is on the disk (`WAITAOF`).
    #[serde(default)]
    acknowledge: Acknowledge,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Acknowledge {
    #[default]
    Reply,
    Fsynced,
}

impl Fields {
    fn read(fields: &Value) -> Result<Self, WorkError> {
        Self::deserialize(fields).map_err(|error| WorkError::Said(error.to_string()))
    }
}

/// Where the server is.
#[derive(Clone)]
struct Server {
    url: String,
    authority: Option<Vec<u8>>,
}

/// How to check whether it answers.
pub(super) fn asker(variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
    Ok(Arc::new(Server::found(variables, service)?))
}

#[async_trait]
impl Asker for Server {
    async fn open(&self) -> Result<Box<dyn Line>, Silent> {
        Ok(Box::new(Open(open(&self.url, self.authority.as_deref()).await.map_err(silent)?)))
    }
}

struct Open(MultiplexedConnection);

#[async_trait]
impl Line for Open {
    async fn ask(&mut self) -> Result<(), Silent> {
        let answer = redis::cmd("PING").query_async::<String>(&mut self.0).await.map_err(silent)?;
        if answer == "PONG" { Ok(()) } else { Err(Silent) }
    }
}

async fn open(url: &str, authority: Option<&[u8]>) -> Result<MultiplexedConnection, RedisError> {
    let client = match authority {
        Some(root) => redis::Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(root.to_vec()) })?,
        None => redis::Client::open(url)?,
    };
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(Duration::from_secs(2))).set_response_timeout(Some(RESPONSE));
    client.get_multiplexed_async_connection_with_config(&config).await
}

impl Server {
    fn of(site: &WorkloadSite<'_>) -> Result<Self, AddressError> {
        Self::found(site.variables, site.service)
    }

    fn found(variables: &Variables, service: &str) -> Result<Self, AddressError> {
        let url = variables.of(service, "URL")?.to_owned();
        let authority = match (url.starts_with("rediss://"), variables.value(AUTHORITY)) {
            (true, Ok(path)) => {
                tls::use_ring();
                let unreadable =
                    |error: devenv_files::ReadError| AddressError::Unreadable { name: AUTHORITY.to_owned(), reason: error.to_string() };
                Some(devenv_files::read_bounded_in_time(std::path::Path::new(path), tls::LARGEST).map_err(unreadable)?)
            }
            _ => None,
        };
        Ok(Self { url, authority })
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        open(&self.url, self.authority.as_deref()).await.map_err(|error| said(&error))
    }
}

fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

/// A refusal of the server is final; any other error leaves the outcome open.
fn reply_to(error: &RedisError) -> Reply {
    let server = error.code().is_some() && !error.is_io_error() && !error.is_connection_dropped();
    if server { Reply::Refused(said(error)) } else { Reply::Unknown(said(error)) }
}

/// After a write was accepted: waits until it is on the disk, if that is required.
async fn on_disk(connection: &mut MultiplexedConnection, acknowledge: Acknowledge) -> Reply {
    if acknowledge == Acknowledge::Reply {
        return Reply::Acknowledged;
    }
    // The counts are those at the time-out, so they must be checked.
    match redis::cmd("WAITAOF").arg(1).arg(0).arg(1500).query_async::<(u64, u64)>(connection).await {
        Ok((1.., _)) => Reply::Acknowledged,
        Ok(_) => Reply::Unknown("not synced to disk within 1.5 s".to_owned()),
        Err(error) => Reply::Unknown(said(&error)),
    }
}
