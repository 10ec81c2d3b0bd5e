//! Workloads: clients that run operations against a service, one after another, and log the outcome of each.
//!
//! Each sort of work is one file here. [`drive`] is common to all: it paces a client, logs each operation before it is
//! sent and after its answer, and reconnects when the outcome of one is unknown.

mod command;
mod http;

pub(crate) use command::prepared;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use devenv_kinds::capability::{
    Client, Completions, Reply, ServiceKind, Variables, Work, WorkError, WorkloadKind, WorkloadSite, Workloads,
};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    operation_log::{Entry, OperationLog},
    scenario::{Task, Workload},
    stats::WorkloadStats,
};

/// Where a workload's operations are recorded.
#[derive(Debug, Clone)]
pub(crate) struct OperationRecorder {
    pub log: OperationLog,
    pub stats: WorkloadStats,
}

/// What a workload is made from.
pub(crate) struct WorkloadContext<'a> {
    pub(crate) workload: &'a Workload,
    pub(crate) variables: &'a Variables,
    /// Unique to this run; part of the names of tables, keys and topics.
    pub(crate) run: &'a str,
}

const CONNECT: Duration = Duration::from_secs(2);
/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(20);
/// A client that was delayed catches up on no more than this.
const CATCH_UP: Duration = Duration::from_millis(200);

/// The sorts of work that kinds of services define, each once.
pub(crate) fn kinds() -> impl Iterator<Item = &'static dyn WorkloadKind> {
    let mut seen = HashSet::new();
    let all = devenv_kinds::all().filter_map(ServiceKind::workloads).flat_map(Workloads::kinds).copied();
    all.filter(move |kind| seen.insert(kind.name()))
}

pub(crate) fn find(name: &str) -> Option<&'static dyn WorkloadKind> {
    kinds().find(|kind| kind.name() == name)
}

/// The kinds of services that define this sort of work.
pub(crate) fn works_on(name: &str) -> impl Iterator<Item = &'static str> {
    let has = move |kind: &&dyn ServiceKind| kind.workloads().is_some_and(|work| work.kinds().iter().any(|kind| kind.name() == name));
    devenv_kinds::all().filter(has).map(ServiceKind::name)
}

pub(crate) fn work(context: &WorkloadContext<'_>) -> Result<Arc<dyn Work>, WorkError> {
    let WorkloadContext { workload, variables, run } = context;
    let service = workload.service.as_deref().unwrap_or_default();
    match &workload.task {
        Task::OfKind(work) => {
            let kind = find(&work.kind).ok_or_else(|| WorkError::Said(format!("no kind has work of the name `{}`", work.kind)))?;
            kind.work(&work.value, &WorkloadSite { service, variables, run, label: &workload.name })
        }
        Task::Http { path, status } => Ok(Arc::new(http::Requests::new(variables.of(service, "URL")?, path, *status)?)),
        Task::Command { command } => Ok(Arc::new(command::Commands { command: command.clone(), variables: Variables::clone(variables) })),
    }
}

impl Completions for OperationRecorder {
    fn completed(&self, client: u32, sequence: u64) {
        self.log.write(client, sequence, Entry::Done);
    }
}

/// Runs one client until it is stopped. It starts nothing after that, and finishes what it started.
pub(crate) async fn drive(mut client: Box<dyn Client>, number: u32, per_second: f64, recorder: OperationRecorder, stop: CancellationToken) {
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
                Ok(Err(trouble)) => recorder.stats.failed(began.elapsed(), &trouble),
                Err(_) => recorder.stats.failed(began.elapsed(), "no connection within 2 s"),
            }
            if !connected {
                sleep(AGAIN).await;
                continue;
            }
        }
        sequence += 1;
        recorder.log.write(number, sequence, Entry::Invoked);
        let began = Instant::now();
        let patience = client.patience();
        let reply =
            timeout(patience, client.operate(sequence)).await.unwrap_or_else(|_| Reply::Unknown(format!("no answer within {patience:?}")));
        let took = began.elapsed();
        match reply {
            Reply::Acknowledged => {
                recorder.log.write(number, sequence, Entry::Acknowledged);
                recorder.stats.succeeded(took);
            }
            Reply::Refused(trouble) => {
                recorder.log.write(number, sequence, Entry::Failed);
                recorder.stats.failed(took, &trouble);
            }
            Reply::Unknown(trouble) => {
                recorder.log.write(number, sequence, Entry::Unknown);
                recorder.stats.failed(took, &trouble);
                connected = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation_log::Outcome;
    use async_trait::async_trait;

    /// The number of operations after which [`Scripted`] is stopped.
    const OPERATIONS: u64 = 30;

    /// Answers by a script of letters, repeated: `a`, `r`, `u`.
    struct Scripted {
        script: &'static str,
        connects: Arc<std::sync::atomic::AtomicU32>,
        stop: CancellationToken,
    }

    #[async_trait]
    impl Client for Scripted {
        async fn connect(&mut self) -> Result<(), String> {
            self.connects.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        }

        async fn operate(&mut self, sequence: u64) -> Reply {
            if sequence == OPERATIONS {
                self.stop.cancel();
            }
            match self.script.as_bytes()[(sequence as usize - 1) % self.script.len()] {
                b'a' => Reply::Acknowledged,
                b'r' => Reply::Refused("no".to_owned()),
                _ => Reply::Unknown("lost".to_owned()),
            }
        }
    }

    async fn driven(script: &'static str, per_second: f64) -> (Vec<Outcome>, u32) {
        let directory = tempfile::tempdir().unwrap();
        let recorder = OperationRecorder {
            log: OperationLog::create(&directory.path().join("l"), Instant::now()).unwrap(),
            stats: WorkloadStats::new(Instant::now()),
        };
        let connects = Arc::default();
        let stop = CancellationToken::new();
        let client = Box::new(Scripted { script, connects: Arc::clone(&connects), stop: stop.clone() });
        let task = tokio::spawn(drive(client, 0, per_second, recorder.clone(), stop.clone()));
        if per_second <= 0.0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            stop.cancel();
        }
        timeout(Duration::from_mins(1), task).await.expect("it is stopped").unwrap();
        let outcomes = recorder.log.operations().unwrap().into_iter().map(|operation| operation.outcome).collect();
        (outcomes, connects.load(std::sync::atomic::Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_client_logs_each_operation_and_reconnects_only_if_the_outcome_is_unknown() {
        let (outcomes, connects) = driven("aru", 500.0).await;
        assert!(outcomes.len() as u64 >= OPERATIONS, "{}", outcomes.len());
        assert!(matches!(outcomes[..3], [Outcome::Acknowledged { .. }, Outcome::Failed, Outcome::Unknown]));
        let unknown = outcomes.iter().filter(|outcome| **outcome == Outcome::Unknown).count() as u32;
        assert!((unknown..=unknown + 1).contains(&connects), "{connects} for {unknown}");
    }

    #[tokio::test]
    async fn a_rate_of_nothing_does_nothing() {
        assert_eq!(driven("a", 0.0).await, (Vec::new(), 0));
    }
}
