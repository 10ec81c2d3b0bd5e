//! Keys of Redis: each is set once, by one client.

use std::time::Duration;

use async_trait::async_trait;
use redis::{AsyncConnectionConfig, RedisError, TlsCertificates, aio::MultiplexedConnection};

use super::{Client, Reply, Work, WorkError, mark, unmark};
use crate::{address::Address, document::Acknowledge, tally::Observed};

/// A large answer of a busy server takes its time; a client's own limit is tighter.
const RESPONSE: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 1000;

pub(crate) struct Keys {
    server: Server,
    prefix: String,
    acknowledge: Acknowledge,
}

/// Where the server is.
#[derive(Clone)]
pub(super) struct Server {
    url: String,
    authority: Option<Vec<u8>>,
}

struct Setter {
    server: Server,
    prefix: String,
    acknowledge: Acknowledge,
    number: u32,
    connection: Option<MultiplexedConnection>,
}

pub(crate) async fn open(url: &str, authority: Option<&[u8]>) -> Result<MultiplexedConnection, RedisError> {
    let client = match authority {
        Some(root) => redis::Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(root.to_vec()) })?,
        None => redis::Client::open(url)?,
    };
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(Duration::from_secs(2))).set_response_timeout(Some(RESPONSE));
    client.get_multiplexed_async_connection_with_config(&config).await
}

impl Server {
    pub(super) fn of(address: Address) -> Result<Self, WorkError> {
        match address {
            Address::Redis { url, authority } => Ok(Self { url, authority }),
            _ => Err(WorkError::Said("the server is not Redis".to_owned())),
        }
    }

    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, String> {
        open(&self.url, self.authority.as_deref()).await.map_err(|error| said(&error))
    }
}

pub(super) fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

/// The server's own no is one; anything else leaves it open.
pub(super) fn reply_to(error: &RedisError) -> Reply {
    let server = error.code().is_some() && !error.is_io_error() && !error.is_connection_dropped();
    if server { Reply::Refused(said(error)) } else { Reply::Unknown(said(error)) }
}

/// After a write was accepted: once it is on the disk, if that is what counts.
pub(super) async fn on_disk(connection: &mut MultiplexedConnection, acknowledge: Acknowledge) -> Reply {
    if acknowledge == Acknowledge::Reply {
        return Reply::Acknowledged;
    }
    // The counts are what was reached when the time was up, so they have to be looked at.
    match redis::cmd("WAITAOF").arg(1).arg(0).arg(1500).query_async::<(u64, u64)>(connection).await {
        Ok((1.., _)) => Reply::Acknowledged,
        Ok(_) => Reply::Unknown("not synced to disk within 1.5 s".to_owned()),
        Err(error) => Reply::Unknown(said(&error)),
    }
}

impl Keys {
    pub(super) fn new(address: Address, run: &str, label: &str, acknowledge: Acknowledge) -> Result<Self, WorkError> {
        Ok(Self { server: Server::of(address)?, prefix: format!("devenv:chaos:{run}:{label}:"), acknowledge })
    }

    /// Every key of this run, `work` being given them in portions.
    async fn scan(&self, connection: &mut MultiplexedConnection) -> Result<Vec<String>, RedisError> {
        let mut keys = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}*", self.prefix)).arg("COUNT").arg(AT_ONCE);
            let (next, found): (u64, Vec<String>) = scan.query_async(connection).await?;
            keys.extend(found);
            cursor = next;
            if cursor == 0 {
                return Ok(keys);
            }
        }
    }
}

#[async_trait]
impl Work for Keys {
    async fn set_up(&self) -> Result<(), WorkError> {
        self.server.connect().await.map(drop).map_err(WorkError::Said)
    }

    fn client(&self, number: u32) -> Box<dyn Client> {
        let (server, prefix) = (self.server.clone(), self.prefix.clone());
        Box::new(Setter { server, prefix, acknowledge: self.acknowledge, number, connection: None })
    }

    async fn read_back(&self) -> Result<Option<Observed>, WorkError> {
        let mut connection = self.server.connect().await.map_err(WorkError::Said)?;
        let mut observed = Observed::default();
        for key in self.scan(&mut connection).await.map_err(|error| WorkError::Said(said(&error)))? {
            match unmark(&key[self.prefix.len()..]) {
                // A scan may return a key more than once, although it exists once.
                Some(operation) => drop(observed.found.insert(operation, 1)),
                None => observed.strangers += 1,
            }
        }
        Ok(Some(observed))
    }

    async fn clean_up(&self) -> Result<(), WorkError> {
        let mut connection = self.server.connect().await.map_err(WorkError::Said)?;
        let wrong = |error: RedisError| WorkError::Said(said(&error));
        for keys in self.scan(&mut connection).await.map_err(wrong)?.chunks(AT_ONCE) {
            redis::cmd("UNLINK").arg(keys).query_async::<()>(&mut connection).await.map_err(wrong)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Client for Setter {
    async fn connect(&mut self) -> Result<(), String> {
        self.connection = Some(self.server.connect().await?);
        Ok(())
    }

    async fn operate(&mut self, sequence: u64) -> Reply {
        let Some(connection) = &mut self.connection else { return Reply::Refused("not connected".to_owned()) };
        let key = format!("{}{}", self.prefix, mark(self.number, sequence));
        match redis::cmd("SET").arg(key).arg(sequence).query_async::<()>(connection).await {
            Ok(()) => on_disk(connection, self.acknowledge).await,
            Err(error) => reply_to(&error),
        }
    }
}
