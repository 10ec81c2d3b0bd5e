//! Load tests: the workloads of scenarios at a rate or with a number of users, without faults, and budgets for what they measure.
//!
//! `read` turns a file into a [`Load`] (pure); `run` sets the workloads up, drives them (`drive`), and compares their `figures` with the
//! budgets (`budget`). The command line calls it with the variables of the environment; nothing here knows the daemon.

mod budget;
mod drive;
mod figures;
mod plot;
mod ramp;
mod read;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use devenv_api::{LoadReport, Verdict};
use devenv_kinds::capability::{Completions, Variables, Work, WorkError};
use indexmap::IndexMap;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    scenario::Workload,
    workload::{self, WorkloadContext},
};
use budget::Budget;
use drive::{Client, Recorder};
use figures::Figures;
use ramp::Ramp;

pub use plot::html;
pub use read::{profile_of, read};

/// A validated load file: all names exist and all budgets can be compared.
#[derive(Debug, Clone)]
pub struct Load {
    /// The name of the file.
    pub name: String,
    pub description: Option<String>,
    workloads: Vec<Workload>,
    lasting: Duration,
    ramp: Ramp,
    budgets: Vec<Budget>,
}

/// What happened in each tenth of a second, for the report.
#[derive(Debug, Clone, Default)]
pub struct Course {
    pub(crate) tenths: Vec<(u32, u32)>,
    pub(crate) latency_ms: Vec<Option<(f64, f64)>>,
}

/// A load test that was run.
pub struct Loaded {
    pub report: LoadReport,
    /// By workload.
    pub courses: IndexMap<String, Course>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    #[error("cannot start threads for the workloads: {0}")]
    Threads(#[source] std::io::Error),
    #[error("cannot set up the workload `{name}`: {source}")]
    SetUp { name: String, source: WorkError },
}

/// The other processors are for the services under test.
const THREADS: usize = 2;
const SET_UP: Duration = Duration::from_secs(30);
/// Longer than the time-out of any client.
const LAST_OPERATIONS: Duration = Duration::from_secs(10);

/// One workload and its clients.
struct Worker {
    workload: Workload,
    work: Arc<dyn Work>,
    figures: Arc<Mutex<Figures>>,
}

/// Owns the threads: dropped in a runtime, it does not wait for them.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// `run`: part of the names of what the workloads create, unique to this run.
pub async fn run(load: &Load, variables: &Variables, run: &str) -> Result<Loaded, LoadFailure> {
    let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("devenv-load").enable_all().build();
    let threads = Threads(Some(runtime.map_err(LoadFailure::Threads)?));
    let mut workers = Vec::new();
    for workload in &load.workloads {
        let failed = |source| LoadFailure::SetUp { name: workload.name.clone(), source };
        let work = workload::work(&WorkloadContext { workload, variables, run }).map_err(failed)?;
        let worker = Worker { workload: workload.clone(), work: work.clone(), figures: Arc::default() };
        workers.push(worker);
        if let Err(source) = timeout(SET_UP, work.set_up()).await.unwrap_or(Err(WorkError::Late(SET_UP))) {
            clean_up(&workers).await;
            return Err(failed(source));
        }
    }
    let began_at = jiff::Timestamp::now().to_string();
    let began = Instant::now();
    let stop = CancellationToken::new();
    // Ends the clients if this future is dropped.
    let _stopped = stop.clone().drop_guard();
    drive_all(load, &workers, began, &threads, &stop).await;
    let took = began.elapsed();
    clean_up(&workers).await;
    Ok(loaded(load, &workers, began_at, took))
}

/// Runs all clients to their end.
async fn drive_all(load: &Load, workers: &[Worker], began: Instant, threads: &Threads, stop: &CancellationToken) {
    let Some(runtime) = &threads.0 else { return };
    let (mut clients, mut completing) = (JoinSet::new(), JoinSet::new());
    for Worker { workload, work, figures } in workers {
        let (completed, done) = (work.clone(), stop.child_token());
        completing.spawn_on(async move { completed.complete(&Nothing, done).await }, runtime.handle());
        for number in 0..load.ramp.most(workload.clients) {
            let client = Client {
                number,
                base: workload.clients,
                rate: workload.rate / f64::from(workload.clients),
                ramp: load.ramp.clone(),
                began,
                lasting: load.lasting,
            };
            let recorder = Recorder { began, figures: figures.clone() };
            clients.spawn_on(client.drive(work.client(number), recorder, stop.clone()), runtime.handle());
        }
    }
    let all = async { while clients.join_next().await.is_some() {} };
    // One that has not ended by then hangs in a call without a time limit of its own.
    let _ = timeout(load.lasting + LAST_OPERATIONS, all).await;
    stop.cancel();
    let all = async { while completing.join_next().await.is_some() {} };
    let _ = timeout(LAST_OPERATIONS, all).await;
}

/// Best effort: a server that has failed keeps what the workloads made.
async fn clean_up(workers: &[Worker]) {
    for worker in workers {
        let _ = timeout(SET_UP, worker.work.clean_up()).await;
    }
}

fn loaded(load: &Load, workers: &[Worker], began_at: String, took: Duration) -> Loaded {
    let (mut figures, mut courses) = (IndexMap::new(), IndexMap::new());
    for Worker { workload, figures: measured, .. } in workers {
        let measured = measured.lock().expect("no code panics while it holds this lock");
        figures.insert(workload.name.clone(), measured.reported(workload, load.lasting));
        courses.insert(workload.name.clone(), measured.course());
    }
    let budgets: Vec<_> = load.budgets.iter().map(|budget| budget.judged(&figures)).collect();
    let verdict = if budgets.iter().any(|budget| !budget.holds) {
        Verdict::Fail
    } else if figures.values().all(|figures| figures.count == 0) {
        Verdict::Unknown
    } else {
        Verdict::Pass
    };
    let report = LoadReport {
        name: load.name.clone(),
        description: load.description.clone(),
        verdict,
        began_at,
        duration_ms: took.as_millis() as u64,
        figures,
        budgets,
    };
    Loaded { report, courses }
}

/// Completed jobs are not counted.
struct Nothing;

impl Completions for Nothing {
    fn completed(&self, _: u32, _: u64) {}
}
