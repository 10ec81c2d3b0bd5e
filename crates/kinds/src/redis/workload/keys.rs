//! Keys of Redis: each is set once, by one client.

use std::sync::Arc;

use async_trait::async_trait;
use redis::{RedisError, aio::MultiplexedConnection};
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use super::{Acknowledge, Fields, Server, on_disk, reply_to, said};
use crate::capability::{Client, Observed, Reply, Work, WorkError, WorkloadKind, WorkloadSite, mark, unmark};

const AT_ONCE: usize = 1000;

pub(super) struct RedisKeys;

impl WorkloadKind for RedisKeys {
    fn name(&self) -> &'static str {
        "redis-keys"
    }

    fn about(&self) -> &'static str {
        "Keys that are set, each once."
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Fields>()
    }

    fn work(&self, fields: &Value, site: &WorkloadSite<'_>) -> Result<Arc<dyn Work>, WorkError> {
        let WorkloadSite { run, label, .. } = site;
        let prefix = format!("devenv:chaos:{run}:{label}:");
        Ok(Arc::new(Keys { server: Server::of(site)?, prefix, acknowledge: Fields::read(fields)?.acknowledge }))
    }
}

struct Keys {
    server: Server,
    prefix: String,
    acknowledge: Acknowledge,
}

struct Setter {
    server: Server,
    prefix: String,
    acknowledge: Acknowledge,
    number: u32,
    connection: Option<MultiplexedConnection>,
}

impl Keys {
    /// Every key of this run, passed to `work` in portions.
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
