//! Jobs in a stream of Redis, as in BullMQ: accepted, taken by a worker of a group, completed, acknowledged.
//!
//! Every accepted job must be completed at least once. Completions are written to the operation log, outside of
//! Redis. A worker that reconnects first processes the entries it had claimed before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use redis::{RedisError, aio::MultiplexedConnection};
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Acknowledge, Fields, Server, on_disk, reply_to, said};
use crate::capability::{Client, Completions, Observed, Reply, Work, WorkError, WorkloadKind, WorkloadSite, mark, unmark};

const GROUP: &str = "workers";
const WORKERS: usize = 2;
const AGAIN: Duration = Duration::from_millis(50);
/// How long a worker waits for jobs at a time.
const BLOCK_MS: u64 = 200;

/// The answer of `XREADGROUP`: by stream, entries with their fields, names and values in turn.
type Streams = Option<Vec<(String, Vec<(String, Option<Vec<String>>)>)>>;

pub(super) struct RedisJobs;

impl WorkloadKind for RedisJobs {
    fn name(&self) -> &'static str {
        "redis-jobs"
    }

    fn about(&self) -> &'static str {
        "Jobs of a stream, which workers complete: each at least once."
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Fields>()
    }

    fn work(&self, fields: &Value, site: &WorkloadSite<'_>) -> Result<Arc<dyn Work>, WorkError> {
        let WorkloadSite { run, label, .. } = site;
        let (stream, acknowledge) = (format!("devenv:chaos:{run}:{label}"), Fields::read(fields)?.acknowledge);
        Ok(Arc::new(Jobs { server: Server::of(site)?, stream, acknowledge, known: Arc::default() }))
    }
}

struct Jobs {
    server: Server,
    stream: String,
    acknowledge: Acknowledge,
    known: Arc<Mutex<HashMap<(u32, u64), Job>>>,
}

/// The state of a job.
#[derive(Debug, Clone, Copy, Default)]
struct Job {
    accepted: bool,
    completed: u32,
}

struct Producer {
    server: Server,
    stream: String,
    acknowledge: Acknowledge,
    number: u32,
    connection: Option<MultiplexedConnection>,
    known: Arc<Mutex<HashMap<(u32, u64), Job>>>,
}

impl Jobs {
    async fn work(&self, worker: usize, completed: &dyn Completions) -> Result<(), String> {
        let mut connection = self.server.connect().await?;
        let wrong = |error: RedisError| said(&error);
        self.group(&mut connection).await.map_err(wrong)?;
        let consumer = format!("worker-{worker}");
        // From `0`: entries that this worker got and did not finish; from `>`: entries that no worker got.
        let mut from = "0";
        loop {
            let mut read = redis::cmd("XREADGROUP");
            read.arg("GROUP").arg(GROUP).arg(&consumer).arg("COUNT").arg(50);
            if from == ">" {
                read.arg("BLOCK").arg(BLOCK_MS);
            }
            read.arg("STREAMS").arg(&self.stream).arg(from);
            let reply: Streams = read.query_async(&mut connection).await.map_err(wrong)?;
            let entries: Vec<_> = reply.into_iter().flatten().flat_map(|(_, entries)| entries).collect();
            if entries.is_empty() {
                from = ">";
                continue;
            }
            let mut finished = Vec::new();
            for (id, fields) in entries {
                // An entry that was deleted in the meantime has no fields.
                if let Some((client, sequence)) = fields.as_deref().and_then(|fields| unmark(fields.get(1)?)) {
                    completed.completed(client, sequence);
                    self.completed((client, sequence));
                }
                finished.push(id);
            }
            redis::cmd("XACK").arg(&self.stream).arg(GROUP).arg(&finished).query_async::<()>(&mut connection).await.map_err(wrong)?;
            redis::cmd("XDEL").arg(&self.stream).arg(&finished).query_async::<()>(&mut connection).await.map_err(wrong)?;
        }
    }

    /// From the first entry on: a group that was lost in a crash gets every remaining entry again.
    async fn group(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(&self.stream).arg(GROUP).arg("0").arg("MKSTREAM");
        match create.query_async::<()>(connection).await {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            result => result,
        }
    }

    fn completed(&self, key: (u32, u64)) {
        let mut known = self.known.lock().expect("no code panics while it holds this lock");
        known.entry(key).or_default().completed += 1;
    }
}

#[async_trait]
impl Work for Jobs {
    async fn set_up(&self) -> Result<(), WorkError> {
        let mut connection = self.server.connect().await.map_err(WorkError::Said)?;
        self.group(&mut connection).await.map_err(|error| WorkError::Said(said(&error)))
    }

    fn client(&self, number: u32) -> Box<dyn Client> {
        Box::new(Producer {
            server: self.server.clone(),
            stream: self.stream.clone(),
            acknowledge: self.acknowledge,
            number,
            connection: None,
            known: Arc::clone(&self.known),
        })
    }

    async fn complete(&self, completed: &dyn Completions, stop: CancellationToken) {
        let workers = (0..WORKERS).map(|worker| async move {
            loop {
                if let Err(trouble) = self.work(worker, completed).await {
                    tracing::debug!(%trouble, worker, "A worker of the job queue reconnects.");
                    sleep(AGAIN).await;
                }
            }
        });
        tokio::select! {
            // A job that is being completed is in the log or will not be completed again; both are known.
            () = stop.cancelled() => {}
            _ = futures_util::future::join_all(workers) => {}
        }
    }

    fn outstanding(&self) -> Option<u64> {
        let known = self.known.lock().expect("no code panics while it holds this lock");
        Some(known.values().filter(|job| job.accepted && job.completed == 0).count() as u64)
    }

    /// The completions of workers: the same as in the log.
    async fn read_back(&self) -> Result<Option<Observed>, WorkError> {
        let known = self.known.lock().expect("no code panics while it holds this lock");
        let found = known.iter().filter(|(_, job)| job.completed > 0).map(|(key, job)| (*key, job.completed)).collect();
        Ok(Some(Observed { found, strangers: 0 }))
    }

    async fn clean_up(&self) -> Result<(), WorkError> {
        let mut connection = self.server.connect().await.map_err(WorkError::Said)?;
        redis::cmd("UNLINK").arg(&self.stream).query_async::<()>(&mut connection).await.map_err(|error| WorkError::Said(said(&error)))
    }
}

#[async_trait]
impl Client for Producer {
    async fn connect(&mut self) -> Result<(), String> {
        self.connection = Some(self.server.connect().await?);
        Ok(())
    }

    async fn operate(&mut self, sequence: u64) -> Reply {
        let Some(connection) = &mut self.connection else { return Reply::Refused("not connected".to_owned()) };
        let mut add = redis::cmd("XADD");
        add.arg(&self.stream).arg("*").arg("job").arg(mark(self.number, sequence));
        match add.query_async::<()>(connection).await {
            Ok(()) => {
                let reply = on_disk(connection, self.acknowledge).await;
                if reply == Reply::Acknowledged {
                    self.known
                        .lock()
                        .expect("no code panics while it holds this lock")
                        .entry((self.number, sequence))
                        .or_default()
                        .accepted = true;
                }
                reply
            }
            Err(error) => reply_to(&error),
        }
    }
}
