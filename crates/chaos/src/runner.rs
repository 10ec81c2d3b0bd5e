//! One run of a scenario, from the first client to the report.
//!
//! # Theory of operation
//! The runner itself is one task: it polls the entries (`entry`) and the watch over deadline and stop conditions as futures.
//! Clients and probers run on threads of their own (`workers`) and share only counters and samples with it.
//! Every action on a service is in the journal, on the disk, before it is asked of the daemon. Whatever
//! ends the timeline, all faults are healed, and the daemon is asked to confirm it.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    time::{Duration, Instant as Clock},
};

use devenv_api::{ApiError, ChaosPlan, Event, Fault, Report, Verdict};
use futures_util::future;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    check,
    condition::MetricName,
    daemon_api::DaemonApi,
    entry,
    journal::Journal,
    metrics, prober,
    progress::{EntryProgress, ProgressBoard},
    run_context::{Run, fault_id},
    scenario::{Claim, Scenario},
    verdict::{self, Facts},
    workers::WorkerPool,
};
use devenv_faults::Undoing;
use devenv_kinds::capability::Variables;

/// The inputs of a run.
pub struct Inputs<'a> {
    pub scenario: &'a Scenario,
    pub plan: &'a ChaosPlan,
    pub daemon_api: &'a dyn DaemonApi,
    /// Where the journal, the plan and the operation logs are written. It must exist.
    pub directory: &'a Path,
    /// Unique to this run: lower case letters and digits.
    pub run: &'a str,
    /// Called with each event as it happens.
    pub listener: &'a dyn Fn(&Event),
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{}", .0.message)]
    Daemon(ApiError),
    #[error("faults that this run did not inject are active: {0}")]
    FaultsThere(String),
    #[error("{0}: {message}; the run was not started", message = .1.message)]
    Impossible(String, ApiError),
    #[error("cannot write the journal of the run")]
    Journal(#[source] io::Error),
}

/// Why the timeline ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Done,
    Deadline,
    Stopped(String),
    NeverSteady(String),
}

const WATCH: Duration = Duration::from_millis(50);
/// A fault that lasts to the end of the timeline lasts at least this long.
const LASTS_AT_LEAST: Duration = Duration::from_secs(5);
/// After the last fault has ended: enough to see whether the workloads are as fast as before.
const TAIL: Duration = Duration::from_millis(2300);
/// After that, the time limit for the workloads to work again.
const BACK: Duration = Duration::from_secs(15);
const HEALING: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(15);

pub async fn run(inputs: Inputs<'_>) -> Result<Report, RunError> {
    let Inputs { scenario, plan, daemon_api, directory, run, listener } = inputs;
    let began = Clock::now();
    let began_at = Timestamp::now();
    let status = daemon_api.status().await.map_err(RunError::Daemon)?;
    if !status.faults.is_empty() {
        let ids: Vec<&str> = status.faults.iter().map(|fault| fault.id.as_str()).collect();
        return Err(RunError::FaultsThere(ids.join(", ")));
    }
    let kinds: HashMap<String, String> = status.services.iter().map(|service| (service.name.clone(), service.kind.clone())).collect();
    let variables = Variables(daemon_api.variables().await.map_err(RunError::Daemon)?);
    check_faults(scenario, plan, daemon_api, run).await?;
    let journal = Journal::create(&directory.join("journal.ndjson"), &status.environment, listener).map_err(RunError::Journal)?;
    let words = serde_json::to_vec_pretty(plan).unwrap_or_default();
    std::fs::write(directory.join("plan.json"), words).map_err(RunError::Journal)?;
    journal.write(
        None,
        "run.planned",
        format!(
            "{} starts with the seed {}{}",
            scenario.name,
            plan.seed,
            scenario.description.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
        ),
        json!({ "plan": plan, "run": run }),
    );
    let before = match daemon_api.impairments(&targets(scenario)).await {
        Ok(before) => before,
        Err(error) => {
            journal.write(None, "run.doubted", format!("cannot read the state of the services: {}", error.message), Value::Null);
            Vec::new()
        }
    };
    let mut pool = match WorkerPool::assemble(scenario, &variables, run, directory, began).await {
        Ok(pool) => pool,
        Err(error) => {
            let why = error.to_string();
            journal.write(None, "run.doubted", why.clone(), Value::Null);
            return Ok(unjudged(scenario, plan, why, journal.events()));
        }
    };
    for service in watched(scenario) {
        pool.watch(&service, kinds.get(&service).map_or("", String::as_str), &variables, began);
    }
    pool.begin();
    let now = Clock::now();
    let mut run = Run {
        scenario,
        plan,
        daemon_api,
        directory,
        journal,
        board: ProgressBoard::new(scenario.timeline.len()),
        pool,
        name: run,
        before,
        began,
        began_at,
        working_since: now,
        zero: now,
    };
    Ok(run.through(&variables).await)
}

/// Nothing is changed for a timeline that cannot be run. Services that are not ready yet may be by then.
async fn check_faults(scenario: &Scenario, plan: &ChaosPlan, daemon_api: &dyn DaemonApi, run: &str) -> Result<(), RunError> {
    for (entry, planned) in scenario.timeline.iter().zip(&plan.plan) {
        let order = entry::order(entry, planned, fault_id(&entry.id, run));
        daemon_api.check(&order).await.map_err(|error| RunError::Impossible(entry.id.clone(), error))?;
    }
    Ok(())
}

/// The services that the faults affect, each once.
fn targets(scenario: &Scenario) -> Vec<String> {
    let targets: std::collections::BTreeSet<&String> = scenario.timeline.iter().map(|entry| &entry.on).collect();
    targets.into_iter().cloned().collect()
}

/// The services that are probed.
fn watched(scenario: &Scenario) -> HashSet<String> {
    let targets = scenario.timeline.iter().map(|entry| entry.on.clone());
    let claimed = scenario.checks.iter().filter_map(|check| match &check.claim {
        Claim::Available { service, .. } => Some(service.clone()),
        _ => None,
    });
    let conditions = scenario.steady.iter().chain(&scenario.stop_if);
    let asked = conditions.filter(|condition| condition.metric.name == MetricName::Ready).map(|condition| condition.metric.owner.clone());
    targets.chain(claimed).chain(asked).collect()
}

/// The result of a run that never reached its first operation.
fn unjudged(scenario: &Scenario, plan: &ChaosPlan, why: String, timeline: Vec<Event>) -> Report {
    Report {
        scenario: scenario.name.clone(),
        seed: plan.seed,
        verdict: Verdict::Unknown,
        healed: true,
        reason: Some(why),
        timeline,
        faults: Vec::new(),
        checks: Vec::new(),
        recovery: Vec::new(),
        workloads: Vec::new(),
        plan: Some(plan.clone()),
        prober_period_ms: prober::PERIOD.as_millis() as u64,
        directory: None,
        about: None,
    }
}

impl Run<'_> {
    async fn through(&mut self, variables: &Variables) -> Report {
        let mut doubts = Vec::new();
        let mut failures = Vec::new();
        let end = match self.steady(&self.scenario.steady.iter().collect::<Vec<_>>()).await {
            Ok(()) => {
                self.zero = Clock::now();
                self.journal.write(None, "timeline.began", "the timeline starts", json!({ "at_ms": 0 }));
                self.timeline().await
            }
            Err(why) => End::NeverSteady(why),
        };
        match &end {
            End::Done => {}
            End::Deadline => failures.push(format!("the deadline of {} s expired", self.scenario.deadline.as_secs())),
            End::Stopped(why) => doubts.push(format!("stopped because {why}")),
            End::NeverSteady(why) => doubts.push(format!("it did not reach the steady state: {why}")),
        }
        let mut not_healed = self.heal_all().await;
        if end == End::Done && not_healed.is_empty() {
            self.back_at_work().await;
            sleep(TAIL).await;
            let steady = self.steady(&self.scenario.steady.iter().collect::<Vec<_>>()).await;
            failures.extend(steady.err().map(|why| format!("it did not return to the steady state: {why}")));
        }
        if not_healed.is_empty() {
            not_healed = self.differences().await;
        }
        let end_us = self.now_us();
        self.journal.write(None, "timeline.ended", "the workloads stop", json!({ "at_ms": self.at_ms() }));
        self.pool.stop_clients().await;
        self.pool.drain(DRAIN).await;
        self.pool.dismiss().await;
        let (consistencies, operations) = self.consistencies().await;
        let evidence = self.evidence(consistencies, end_us, variables).await;
        let checks: Vec<_> = self.scenario.checks.iter().map(|one| check::check(one, &evidence)).collect();
        doubts.extend(self.journal.trouble().map(|why| format!("cannot write the journal: {why}")));
        let workloads = self.workload_results(&operations);
        let acknowledged = workloads
            .iter()
            .zip(&self.pool.workers)
            .map(|(result, worker)| (result.name.as_str(), result.acknowledged, worker.recorder.stats.trouble()));
        let facts = Facts {
            entry_outcomes: self.entry_outcomes(),
            workloads: acknowledged.collect(),
            checks: &checks,
            doubts,
            failures,
            not_healed,
        };
        let (verdict, reason) = verdict::verdict(&facts);
        let healed = facts.not_healed.is_empty();
        drop(facts);
        self.clean_up().await;
        let data = json!({ "verdict": verdict, "healed": healed, "reason": reason, "at_ms": self.at_ms() });
        self.journal.write(None, "run.judged", format!("the verdict is {verdict}"), data);
        Report {
            scenario: self.scenario.name.clone(),
            seed: self.plan.seed,
            verdict,
            healed,
            reason,
            timeline: self.journal.events(),
            faults: self.faults(),
            checks,
            recovery: evidence.recoveries,
            workloads,
            plan: Some(self.plan.clone()),
            prober_period_ms: prober::PERIOD.as_millis() as u64,
            directory: None,
            about: None,
        }
    }

    /// Waits until all conditions hold at the same time. Returns those that do not, if the deadline expires first.
    async fn steady(&self, conditions: &[&super::condition::Condition]) -> Result<(), String> {
        loop {
            let missing = conditions.iter().find(|condition| !metrics::holds(condition, &self.pool, self.working_for(), self.directory));
            let Some(missing) = missing else { return Ok(()) };
            if self.left().is_zero() {
                let value = metrics::read(missing, &self.pool, self.working_for(), self.directory);
                return Err(format!("`{}` is false{}", missing.text, value.map(|value| format!(" ({value:.3})")).unwrap_or_default()));
            }
            sleep(WATCH).await;
        }
    }

    async fn timeline(&self) -> End {
        let all = future::join_all((0..self.scenario.timeline.len()).map(|index| entry::live(self, index)));
        tokio::select! {
            // The caller undoes the faults of cancelled entries: the board knows what was injected.
            _ = all => End::Done,
            end = self.watch() => end,
        }
    }

    async fn watch(&self) -> End {
        let mut only_lasting_since = None;
        loop {
            if self.left().is_zero() {
                return End::Deadline;
            }
            if let Some(stop) =
                self.scenario.stop_if.iter().find(|condition| metrics::holds(condition, &self.pool, self.working_for(), self.directory))
            {
                self.journal.write(None, "run.stopped", format!("stopped: {}", stop.text), json!({ "at_ms": self.at_ms() }));
                return End::Stopped(format!("`{}` is true", stop.text));
            }
            if self.board.only_lasting_ones_left() {
                let since = *only_lasting_since.get_or_insert_with(Clock::now);
                if since.elapsed() >= LASTS_AT_LEAST {
                    self.board.release();
                }
            }
            sleep(WATCH).await;
        }
    }

    /// Heals every fault of this run that may be active. Returns those that still are.
    async fn heal_all(&self) -> Vec<String> {
        let ours: Vec<(usize, &str)> = self.board.read(|entries| {
            let there = |progress: &EntryProgress| progress.asked_us.is_some() && progress.healed_us.is_none();
            entries
                .iter()
                .enumerate()
                .filter(|(_, progress)| there(progress))
                .map(|(index, _)| (index, self.scenario.timeline[index].id.as_str()))
                .collect()
        });
        let ids: Vec<String> = ours.iter().map(|(_, id)| self.fault_id(id)).collect();
        if !ids.is_empty() {
            self.journal.write(
                None,
                "run.healing",
                format!("undoing the remaining faults: {}", ids.join(", ")),
                json!({ "at_ms": self.at_ms() }),
            );
        }
        let began = Clock::now();
        let mut pending = ids;
        loop {
            if !pending.is_empty() {
                // Whether or not this is answered, the daemon's list of active faults decides.
                let _ = self.daemon_api.heal(&pending).await;
            }
            let there = match self.daemon_api.status().await {
                Ok(status) => Some(status.faults),
                Err(_) => None,
            };
            if let Some(there) = there {
                let ours = |fault: &Fault| {
                    self.scenario.timeline.iter().any(|entry| self.fault_id(&entry.id) == fault.id && entry.undone_by != Undoing::Nothing)
                };
                pending = there.iter().filter(|fault| ours(fault)).map(|fault| fault.id.clone()).collect();
                if pending.is_empty() {
                    self.journal.write(None, "run.healed", "no fault of this run is active", json!({ "at_ms": self.at_ms() }));
                    return Vec::new();
                }
            }
            if began.elapsed() > HEALING {
                self.journal.write(
                    None,
                    "run.not-healed",
                    format!("faults that could not be undone: {}", pending.join(", ")),
                    json!({ "at_ms": self.at_ms() }),
                );
                return if pending.is_empty() { vec!["unknown to the daemon".to_owned()] } else { pending };
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// What differs from before the first fault, although all faults are reported healed.
    async fn differences(&self) -> Vec<String> {
        let now = match self.daemon_api.impairments(&targets(self.scenario)).await {
            Ok(now) => now,
            Err(_) if self.before.is_empty() => return Vec::new(),
            Err(error) => return vec![format!("cannot be checked ({})", error.message)],
        };
        let pairs = self.before.iter().filter_map(|before| Some((before, now.iter().find(|now| now.service == before.service)?)));
        let changed: Vec<String> = pairs.flat_map(|(before, now)| before.changed(now)).collect();
        let (kind, message) = if changed.is_empty() {
            ("run.as-before", "firewall rules, pauses, limits and disks are as they were before".to_owned())
        } else {
            ("run.not-healed", format!("not as before: {}", changed.join("; ")))
        };
        self.journal.write(None, kind, message, json!({ "at_ms": self.at_ms(), "before": self.before, "now": now }));
        changed
    }

    /// Waits until every workload that has a rate works again, or its time limit expires.
    async fn back_at_work(&self) {
        let from = self.now_us();
        let began = Clock::now();
        let back = |worker: &super::workers::Worker| {
            let samples = worker.recorder.stats.last(Duration::from_micros(self.now_us() - from));
            worker.workload.rate <= 0.0 || samples.iter().rev().take_while(|sample| sample.ok).count() >= 5
        };
        while began.elapsed() < BACK.min(self.left()) && !self.pool.workers.iter().all(back) {
            sleep(prober::PERIOD).await;
        }
    }
}
