//! The results of a run, after all workers have stopped: the data compared with the operation logs, recovery times, counts.

use std::{
    collections::HashMap,
    time::{Duration, Instant as Clock},
};

use devenv_api::{Fault, Recovery, WorkloadResult};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    check::Evidence, consistency::Consistency, operation_log::Operation, prober::Seen, progress::EntryProgress, recovery, run_context::Run,
    scenario::Claim, stats, verdict::EntryOutcome, workers::Worker, workload,
};
use devenv_faults::Undoing;
use devenv_kinds::capability::{Observed, Variables, WorkError};

/// The time limit for one read of the data, and for a service that has just recovered.
const READ_BACK: Duration = Duration::from_secs(30);
/// The time limit for a check that is a command.
const COMMAND: Duration = Duration::from_mins(2);

impl Run<'_> {
    /// Compares what each workload wrote with what is stored, read over new connections.
    pub(super) async fn consistencies(&self) -> (HashMap<String, Result<Consistency, String>>, HashMap<String, Vec<Operation>>) {
        let mut consistencies = HashMap::new();
        let mut all = HashMap::new();
        for worker in &self.pool.workers {
            let name = worker.workload.name.clone();
            let operations = match worker.recorder.log.operations() {
                Ok(operations) => operations,
                Err(error) => {
                    consistencies.insert(name, Err(format!("the operation log: {error}")));
                    continue;
                }
            };
            let began = Clock::now();
            let observed = loop {
                match timeout(READ_BACK, worker.work.read_back()).await.unwrap_or(Err(WorkError::Late(READ_BACK))) {
                    Err(_) if began.elapsed() < READ_BACK => sleep(Duration::from_millis(100)).await,
                    outcome => break outcome,
                }
            };
            let took = began.elapsed().as_secs_f64() * 1000.0;
            match observed {
                Ok(Some(observed)) => {
                    let consistency = Consistency::judge(&operations, &observed);
                    self.report_losses(&name, &consistency, &observed, took);
                    consistencies.insert(name.clone(), Ok(consistency));
                }
                Ok(None) => {}
                Err(error) => drop(consistencies.insert(name.clone(), Err(error.to_string()))),
            }
            all.insert(name, operations);
        }
        (consistencies, all)
    }

    fn report_losses(&self, name: &str, consistency: &Consistency, observed: &Observed, took: f64) {
        let message = format!("{name}: {} of {} acknowledged operations were lost", consistency.lost, consistency.acknowledged);
        let data = json!({ "workload": name, "found": observed.found.len(), "read_ms": took, "at_ms": self.at_ms() });
        self.journal.write(None, "workload.read", message, data);
    }

    pub(super) async fn evidence(
        &self,
        consistencies: HashMap<String, Result<Consistency, String>>,
        end_us: u64,
        variables: &Variables,
    ) -> Evidence {
        let mut commands = HashMap::new();
        for one in &self.scenario.checks {
            let Claim::Command { command } = &one.claim else { continue };
            let outcome = match workload::prepared(command, variables) {
                Some(mut prepared) => match timeout(COMMAND, prepared.stdout(std::process::Stdio::null()).status()).await {
                    Ok(Ok(status)) => Ok(status.code().unwrap_or(-1)),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err(format!("it did not exit within {COMMAND:?}")),
                },
                None => Err("it is empty".to_owned()),
            };
            commands.insert(one.name.clone(), outcome);
        }
        let affected = self.board.read(|entries| {
            let span = |progress: &EntryProgress| Some((progress.asked_us?, progress.recovered_us.unwrap_or(end_us)));
            entries.iter().zip(&self.scenario.timeline).filter_map(|(progress, entry)| Some((entry.id.clone(), span(progress)?))).collect()
        });
        Evidence {
            consistencies,
            recoveries: self.recoveries(end_us),
            answers: self.pool.seen.iter().map(|(service, seen)| (service.clone(), seen.answers())).collect(),
            span_us: (self.zero_us(), end_us),
            affected_us: affected,
            commands,
        }
    }

    fn recoveries(&self, end_us: u64) -> Vec<Recovery> {
        let entries = self.board.read(<[EntryProgress]>::to_vec);
        let mut recoveries = Vec::new();
        for (index, (entry, progress)) in self.scenario.timeline.iter().zip(&entries).enumerate() {
            let Some(fault_us) = progress.fault_us else { continue };
            let until = entries.iter().filter_map(|other| other.fault_us).filter(|at| *at > fault_us).min().unwrap_or(end_us);
            let on_it = self.pool.workers.iter().filter(|worker| worker.workload.service.as_ref() == Some(&entry.on));
            let samples: Vec<_> = on_it.map(|worker| worker.recorder.stats.all()).collect();
            let way = recovery::way(&samples, fault_us, until.max(progress.recovered_us.unwrap_or(0)));
            let silent = self
                .pool
                .seen
                .get(&entry.on)
                .and_then(|seen| seen.answers().silent_after(fault_us, progress.recovered_us.unwrap_or(end_us)));
            let since = |at: u64| at.saturating_sub(fault_us) as f64 / 1000.0;
            recoveries.push(Recovery {
                fault: entry.id.clone(),
                service: entry.on.clone(),
                fault_at: self.time_of(fault_us),
                first_error_ms: [way.first_error, silent].into_iter().flatten().min().map(since),
                heal_ms: progress.healed_us.filter(|_| entry.undone_by != Undoing::Nothing || entry.lasting.is_some()).map(since),
                ready_ms: self.ready_us(index).map(since),
                ok_ms: way.ok.map(since),
                baseline_ms: way.baseline.map(since),
            });
        }
        recoveries
    }

    /// When the service of an entry was ready and stayed so: the time of the fault itself if it never stopped.
    pub(super) fn ready_us(&self, index: usize) -> Option<u64> {
        let progress = self.board.read(|entries| entries[index].clone());
        let (fault_us, recovered_us) = (progress.fault_us?, progress.recovered_us?);
        let answers = self.pool.seen.get(&self.scenario.timeline[index].on).map(Seen::answers);
        let mut ready = if progress.left_ready { recovered_us } else { fault_us };
        let mut from = fault_us;
        // The last time it became ready before the entry recovered.
        while let Some(back) = answers.as_ref().and_then(|answers| answers.back_after(answers.silent_after(from, recovered_us)?)) {
            if !progress.left_ready || back > recovered_us {
                ready = back.min(recovered_us);
            }
            from = back;
        }
        Some(ready)
    }

    pub(super) fn entry_outcomes(&self) -> Vec<(&str, EntryOutcome)> {
        let entry_outcome = |progress: &EntryProgress| match (&progress.refused, &progress.fault) {
            (Some(why), _) => EntryOutcome::Refused(why.clone()),
            (None, None) => EntryOutcome::NeverBegan,
            (None, Some(fault)) if !progress.witnessed() => EntryOutcome::NotWitnessed(
                fault.witness.as_ref().map_or_else(|| "its effect was not observed".to_owned(), |witness| witness.what.clone()),
            ),
            (None, Some(_)) if progress.recovered_us.is_none() => EntryOutcome::NotRecovered,
            (None, Some(_)) => EntryOutcome::Recovered,
        };
        self.board.read(|entries| {
            self.scenario.timeline.iter().zip(entries).map(|(entry, progress)| (entry.id.as_str(), entry_outcome(progress))).collect()
        })
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        self.board.read(|entries| {
            let recovery_of = |progress: &EntryProgress| {
                let mut fault = progress.fault.clone()?;
                if fault.healed_at.is_none() {
                    fault.healed_at = progress.healed_us.map(|at| self.time_of(at));
                }
                Some(fault)
            };
            entries.iter().filter_map(recovery_of).collect()
        })
    }

    pub(super) fn workload_results(&self, operations: &HashMap<String, Vec<Operation>>) -> Vec<WorkloadResult> {
        let result = |worker: &Worker| {
            let samples = worker.recorder.stats.all();
            let consistency =
                operations.get(&worker.workload.name).map(|operations| Consistency::of_operations(operations)).unwrap_or_default();
            WorkloadResult {
                name: worker.workload.name.clone(),
                kind: worker.workload.task.kind().to_owned(),
                service: worker.workload.service.clone().unwrap_or_default(),
                attempted: consistency.attempted,
                acknowledged: consistency.acknowledged,
                failed: consistency.failed,
                unknown: consistency.unknown,
                p50_ms: stats::percentile(&samples, 0.5),
                p99_ms: stats::percentile(&samples, 0.99),
                tenths: stats::tenths(&samples),
                latency_ms: stats::latency_ms(&samples),
            }
        };
        self.pool.workers.iter().map(result).collect()
    }

    /// Removes the workloads' data. Failures are only reported.
    pub(super) async fn clean_up(&self) {
        for worker in &self.pool.workers {
            let cleaned = timeout(READ_BACK, worker.work.clean_up()).await.unwrap_or(Err(WorkError::Late(READ_BACK)));
            if let Err(error) = cleaned {
                let message = format!("{}: cannot remove the data it wrote: {error}", worker.workload.name);
                self.journal.write(None, "workload.left", message, Value::Null);
            }
        }
    }
}
