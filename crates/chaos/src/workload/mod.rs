//! Workloads: clients that run operations against a service, one after another, and log the outcome of each.
//!
//! A kind of work is one file here. [`drive`] is the same for all: it paces a client, books each operation before it is
//! sent and after its answer, and reconnects when the outcome of one is unknown.

mod command;
mod http;
pub(crate) mod kafka;
pub(crate) mod postgres;
pub(crate) mod redis;
mod redis_jobs;

pub(crate) use command::prepared;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    address::{AddressError, Variables},
    ledger::{Entry, Ledger},
    scenario::{Task, Workload},
    tally::Observed,
    traffic::Traffic,
};

/// A kind of work on one service.
#[async_trait]
pub(crate) trait Work: Send + Sync {
    /// Before any client: tables, topics, groups.
    async fn set_up(&self) -> Result<(), WorkError>;

    fn client(&self, client: u32) -> Box<dyn Client>;

    /// Workers that complete what the clients enqueue, until they are stopped.
    async fn complete(&self, _book: &Book, stop: CancellationToken) {
        stop.cancelled().await;
    }

    /// What was accepted and is not completed yet, where there is such a thing.
    fn outstanding(&self) -> Option<u64> {
        None
    }

    /// What is there in the end, over a fresh connection; `None` if nothing is kept.
    async fn read_back(&self) -> Result<Option<Observed>, WorkError>;

    /// Takes away what it made.
    async fn clean_up(&self) -> Result<(), WorkError>;
}

/// One client: one connection, one operation at a time.
#[async_trait]
pub(crate) trait Client: Send {
    async fn connect(&mut self) -> Result<(), String>;

    async fn operate(&mut self, sequence: u64) -> Reply;

    /// An operation that takes longer has an unknown end.
    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Acknowledged,
    /// For certain not done.
    Refused(String),
    /// Nobody knows; the connection is not used again.
    Unknown(String),
}

/// Where a workload's operations are booked.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    pub ledger: Ledger,
    pub traffic: Traffic,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("{0}")]
    Said(String),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// What a kind of work is made from.
pub(crate) struct Site<'a> {
    pub workload: &'a Workload,
    pub variables: &'a Variables,
    /// The kind of the service.
    pub kind: &'a str,
    /// Of this run alone; in names of tables, keys and topics.
    pub run: &'a str,
}

const CONNECT: Duration = Duration::from_secs(2);
/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(20);
/// A client that was held up makes up for no more than this.
const CATCH_UP: Duration = Duration::from_millis(200);

pub(crate) fn work(site: &Site<'_>) -> Result<Arc<dyn Work>, WorkError> {
    let service = site.workload.service.as_deref().unwrap_or_default();
    let address = |database: Option<&str>| site.variables.address(service, site.kind, database);
    let label = site.workload.name.clone();
    Ok(match &site.workload.task {
        Task::RedisKeys { acknowledge } => Arc::new(redis::Keys::new(address(None)?, site.run, &label, *acknowledge)?),
        Task::RedisJobs { acknowledge } => Arc::new(redis_jobs::Jobs::new(address(None)?, site.run, &label, *acknowledge)?),
        Task::PostgresRows { database } => Arc::new(postgres::Rows::new(address(database.as_deref())?, site.run, &label)?),
        Task::KafkaRecords { acks } => Arc::new(kafka::Records::new(address(None)?, site.run, &label, *acks)?),
        Task::Http { path, status } => Arc::new(http::Requests::new(site.variables.url(service)?, path, *status)?),
        Task::Command { command } => Arc::new(command::Commands { command: command.clone(), variables: site.variables.clone() }),
    })
}

/// One client until stopped. Nothing is begun after that; what was begun is seen to its end.
pub(crate) async fn drive(mut client: Box<dyn Client>, number: u32, per_second: f64, book: Book, stop: CancellationToken) {
    if per_second <= 0.0 {
        stop.cancelled().await;
        return;
    }
    let period = Duration::from_secs_f64(1.0 / per_second);
    // Clients begin evenly spread over the first period.
    let mut next = Instant::now() + period.mul_f64(f64::from(number % 16) / 16.0);
    let mut connected = false;
    let mut sequence = 0;
    loop {
        let now = Instant::now();
        next = next.max(now.checked_sub(CATCH_UP).unwrap_or(now));
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(next.into()) => {}
        }
        next += period;
        if !connected {
            let began = Instant::now();
            let attempt = tokio::select! {
                () = stop.cancelled() => return,
                attempt = timeout(CONNECT, client.connect()) => attempt,
            };
            match attempt {
                Ok(Ok(())) => connected = true,
                Ok(Err(trouble)) => book.traffic.failed(began.elapsed(), &trouble),
                Err(_) => book.traffic.failed(began.elapsed(), "no connection within 2 s"),
            }
            if !connected {
                sleep(AGAIN).await;
                continue;
            }
        }
        sequence += 1;
        book.ledger.write(number, sequence, Entry::Invoked);
        let began = Instant::now();
        let patience = client.patience();
        let reply =
            timeout(patience, client.operate(sequence)).await.unwrap_or_else(|_| Reply::Unknown(format!("no answer within {patience:?}")));
        let took = began.elapsed();
        match reply {
            Reply::Acknowledged => {
                book.ledger.write(number, sequence, Entry::Acknowledged);
                book.traffic.succeeded(took);
            }
            Reply::Refused(trouble) => {
                book.ledger.write(number, sequence, Entry::Failed);
                book.traffic.failed(took, &trouble);
            }
            Reply::Unknown(trouble) => {
                book.ledger.write(number, sequence, Entry::Unknown);
                book.traffic.failed(took, &trouble);
                connected = false;
            }
        }
    }
}

/// `CLIENT:SEQUENCE`, as values carry it.
fn mark(client: u32, sequence: u64) -> String {
    format!("{client}:{sequence}")
}

fn unmark(text: &str) -> Option<(u32, u64)> {
    let (client, sequence) = text.split_once(':')?;
    Some((client.parse().ok()?, sequence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Outcome;

    /// Answers by a script of letters, over and over: `a`, `r`, `u`.
    struct Scripted {
        script: &'static str,
        connects: Arc<std::sync::atomic::AtomicU32>,
    }

    #[async_trait]
    impl Client for Scripted {
        async fn connect(&mut self) -> Result<(), String> {
            self.connects.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        }

        async fn operate(&mut self, sequence: u64) -> Reply {
            match self.script.as_bytes()[(sequence as usize - 1) % self.script.len()] {
                b'a' => Reply::Acknowledged,
                b'r' => Reply::Refused("no".to_owned()),
                _ => Reply::Unknown("lost".to_owned()),
            }
        }
    }

    async fn driven(script: &'static str, per_second: f64) -> (Vec<Outcome>, u32) {
        let directory = tempfile::tempdir().unwrap();
        let book =
            Book { ledger: Ledger::create(&directory.path().join("l"), Instant::now()).unwrap(), traffic: Traffic::new(Instant::now()) };
        let connects = Arc::default();
        let (stop, client) = (CancellationToken::new(), Box::new(Scripted { script, connects: Arc::clone(&connects) }));
        let task = tokio::spawn(drive(client, 0, per_second, book.clone(), stop.clone()));
        tokio::time::sleep(Duration::from_millis(200)).await;
        stop.cancel();
        task.await.unwrap();
        let outcomes = book.ledger.operations().unwrap().into_iter().map(|operation| operation.outcome).collect();
        (outcomes, connects.load(std::sync::atomic::Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_client_books_each_operation_and_connects_anew_only_when_nobody_knows() {
        let (outcomes, connects) = driven("aru", 500.0).await;
        assert!(outcomes.len() > 20, "{}", outcomes.len());
        assert!(matches!(outcomes[..3], [Outcome::Acknowledged { .. }, Outcome::Failed, Outcome::Unknown]));
        let unknown = outcomes.iter().filter(|outcome| **outcome == Outcome::Unknown).count() as u32;
        assert!((unknown..=unknown + 1).contains(&connects), "{connects} for {unknown}");
    }

    #[tokio::test]
    async fn a_rate_of_nothing_does_nothing() {
        assert_eq!(driven("a", 0.0).await, (Vec::new(), 0));
    }

    #[test]
    fn marks_read_back() {
        assert_eq!(unmark(&mark(3, 77)), Some((3, 77)));
        assert_eq!(unmark("x:1"), None);
    }
}
