//! The threads that work during a run: the workloads' clients and the probers. They are separate, so that neither
//! the runner nor the terminal delays them.

use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    operation_log::OperationLog,
    prober::{self, Seen},
    scenario::{Scenario, Workload},
    stats::WorkloadStats,
    workload::{self, OperationRecorder, WorkloadContext},
};
use devenv_kinds::capability::{Variables, Work, WorkError};

pub(crate) struct WorkerPool {
    /// `None` once it was shut down.
    runtime: Option<Runtime>,
    pub workers: Vec<Worker>,
    pub seen: HashMap<String, Seen>,
    tasks: JoinSet<()>,
    clients: JoinSet<()>,
    stop_clients: CancellationToken,
    stop: CancellationToken,
}

/// One workload and its clients.
pub(crate) struct Worker {
    pub workload: Workload,
    pub work: Arc<dyn Work>,
    pub recorder: OperationRecorder,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerPoolError {
    #[error("cannot start threads for the workloads: {0}")]
    Threads(#[source] std::io::Error),
    #[error("cannot write an operation log: {0}")]
    OperationLog(#[source] std::io::Error),
    #[error("cannot set up the workload `{name}`: {source}")]
    SetUp { name: String, source: WorkError },
}

/// Two are enough: the other processors are for the services under test.
const THREADS: usize = 2;
const SET_UP: Duration = Duration::from_secs(30);
/// Longer than the time-out of any client.
const LAST_OPERATIONS: Duration = Duration::from_secs(10);

impl WorkerPool {
    /// Sets the workloads up; no client works yet.
    pub(crate) async fn assemble(
        scenario: &Scenario,
        variables: &Variables,
        run: &str,
        directory: &Path,
        began: Instant,
    ) -> Result<Self, WorkerPoolError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("devenv-chaos")
            .enable_all()
            .build()
            .map_err(WorkerPoolError::Threads)?;
        let mut pool = Self {
            runtime: Some(runtime),
            workers: Vec::new(),
            seen: HashMap::new(),
            tasks: JoinSet::new(),
            clients: JoinSet::new(),
            stop_clients: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        for workload in &scenario.workloads {
            let failed = |source| WorkerPoolError::SetUp { name: workload.name.clone(), source };
            let work = workload::work(&WorkloadContext { workload, variables, run }).map_err(failed)?;
            timeout(SET_UP, work.set_up()).await.unwrap_or(Err(WorkError::Late(SET_UP))).map_err(failed)?;
            let log =
                OperationLog::create(&directory.join(format!("{}.ledger", workload.name)), began).map_err(WorkerPoolError::OperationLog)?;
            let recorder = OperationRecorder { log, stats: WorkloadStats::new(began) };
            pool.workers.push(Worker { workload: workload.clone(), work, recorder });
        }
        Ok(pool)
    }

    /// Probes this service every 20 ms from now on, if it has an address.
    pub(crate) fn watch(&mut self, service: &str, kind: &str, variables: &Variables, began: Instant) {
        let asker = devenv_kinds::find(kind).map(|kind| kind.asker(variables, service));
        let (Some(Ok(asker)), Some(runtime)) = (asker, &self.runtime) else { return };
        let seen = self.seen.entry(service.to_owned()).or_default().clone();
        self.tasks.spawn_on(prober::probe(asker, seen, began, self.stop.clone()), runtime.handle());
    }

    /// Starts all workers.
    pub(crate) fn begin(&mut self) {
        let Some(runtime) = &self.runtime else { return };
        for worker in &self.workers {
            let (work, recorder, stop) = (Arc::clone(&worker.work), worker.recorder.clone(), self.stop.clone());
            self.tasks.spawn_on(async move { work.complete(&recorder, stop).await }, runtime.handle());
            for number in 0..worker.workload.clients {
                let per_second = worker.workload.rate / f64::from(worker.workload.clients);
                let client =
                    workload::drive(worker.work.client(number), number, per_second, worker.recorder.clone(), self.stop_clients.clone());
                self.clients.spawn_on(client, runtime.handle());
            }
        }
    }

    /// Starts no new operations, and waits for those in flight.
    pub(crate) async fn stop_clients(&mut self) {
        self.stop_clients.cancel();
        let all = async { while self.clients.join_next().await.is_some() {} };
        // An operation that has not ended by then is unknown: the operation log has no outcome for it.
        let _ = timeout(LAST_OPERATIONS, all).await;
    }

    /// Waits until every accepted job is completed. Jobs that are left then count as outstanding.
    pub(crate) async fn drain(&self, limit: Duration) {
        let began = Instant::now();
        while began.elapsed() < limit && self.workers.iter().any(|worker| worker.work.outstanding().is_some_and(|left| left > 0)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops the rest too: probers, and the workers that complete jobs.
    pub(crate) async fn dismiss(&mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(Duration::from_secs(2), all).await;
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.stop_clients.cancel();
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            // Waiting here would block the runtime that drops this.
            runtime.shutdown_background();
        }
    }
}
