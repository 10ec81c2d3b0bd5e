//! One run of a scenario, from the first client to the report.
//!
//! # Theory of operation
//! The runner itself is one task: the entries' lives (`entry`) and the watch over deadline and stop conditions are futures
//! that it polls together. Clients and probers work on threads of their own (`crew`) and talk to it through figures
//! alone. Everything that is done to a service is in the journal, on the disk, before it is asked of the daemon. Whatever
//! ends the timeline, all faults are healed, and that they are is asked of the daemon, not assumed.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    time::{Duration, Instant as Clock},
};

use devenv_api::{ApiError, ChaosPlan, Event, Fault, Recovery, Report, Verdict, WorkloadFigures};
use futures_util::future;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    address::Variables,
    check::{self, Evidence},
    condition::FigureName,
    crew::Crew,
    door::Door,
    entry::{self, Board, Progress},
    gauge,
    journal::Journal,
    ledger::Operation,
    prober,
    recovery,
    scenario::{Claim, Scenario},
    tally::{Observed, Tally},
    traffic,
    verdict::{self, Facts, Fate},
    workload,
};
use crate::fault::Undoing;

/// What a run is made of.
pub(crate) struct Inputs<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) plan: &'a ChaosPlan,
    pub(crate) door: &'a dyn Door,
    /// Where the journal, the plan and the ledgers are written; it has to exist.
    pub(crate) directory: &'a Path,
    /// Of this run alone: lower case letters and digits.
    pub(crate) run: &'a str,
    /// Told each event as it happens.
    pub(crate) listener: &'a dyn Fn(&Event),
}

pub(crate) struct Run<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) plan: &'a ChaosPlan,
    pub(super) door: &'a dyn Door,
    pub(super) directory: &'a Path,
    pub(super) journal: Journal<'a>,
    pub(super) board: Board,
    pub(super) crew: Crew,
    run: &'a str,
    began: Clock,
    /// What the clock on the wall said then.
    began_at: Timestamp,
    working_since: Clock,
    /// When the timeline began.
    zero: Clock,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("{}", .0.message)]
    Daemon(ApiError),
    #[error("faults of somebody else are there: {0}")]
    FaultsThere(String),
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
/// What lasts to the end of the timeline lasts at least this long.
const LASTS_AT_LEAST: Duration = Duration::from_secs(5);
/// After the last fault has gone: enough to see whether the workloads are as quick as before.
const TAIL: Duration = Duration::from_millis(2300);
/// For the workloads to work again after that.
const BACK: Duration = Duration::from_secs(15);
const HEALING: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(15);
const READ_BACK: Duration = Duration::from_secs(30);
const COMMAND: Duration = Duration::from_secs(120);

pub(crate) async fn run(inputs: Inputs<'_>) -> Result<Report, RunError> {
    let Inputs { scenario, plan, door, directory, run, listener } = inputs;
    let began = Clock::now();
    let began_at = Timestamp::now();
    let status = door.status().await.map_err(RunError::Daemon)?;
    if !status.faults.is_empty() {
        let ids: Vec<&str> = status.faults.iter().map(|fault| fault.id.as_str()).collect();
        return Err(RunError::FaultsThere(ids.join(", ")));
    }
    let kinds: HashMap<String, String> = status.services.iter().map(|service| (service.name.clone(), service.kind.clone())).collect();
    let variables = Variables(door.variables().await.map_err(RunError::Daemon)?);
    let journal = Journal::create(&directory.join("journal.ndjson"), &status.environment, listener).map_err(RunError::Journal)?;
    let words = serde_json::to_vec_pretty(plan).unwrap_or_default();
    std::fs::write(directory.join("plan.json"), words).map_err(RunError::Journal)?;
    journal.write(None, "run.planned", format!("{} runs with the seed {}", scenario.name, plan.seed), json!({ "plan": plan, "run": run }));
    let mut crew = match Crew::assemble(scenario, &variables, &kinds, run, directory, began).await {
        Ok(crew) => crew,
        Err(error) => {
            let why = error.to_string();
            journal.write(None, "run.doubted", why.clone(), Value::Null);
            return Ok(unjudged(scenario, plan, why, journal.events()));
        }
    };
    for service in watched(scenario) {
        crew.watch(&service, kinds.get(&service).map_or("", String::as_str), &variables, began);
    }
    crew.begin();
    let now = Clock::now();
    let mut run = Run {
        scenario,
        plan,
        door,
        directory,
        journal,
        board: Board::new(scenario.timeline.len()),
        crew,
        run,
        began,
        began_at,
        working_since: now,
        zero: now,
    };
    Ok(run.through(&variables).await)
}

/// Who is asked all the time whether it answers.
fn watched(scenario: &Scenario) -> HashSet<String> {
    let targets = scenario.timeline.iter().map(|entry| entry.on.clone());
    let claimed = scenario.checks.iter().filter_map(|check| match &check.claim {
        Claim::Available { service, .. } => Some(service.clone()),
        _ => None,
    });
    let conditions = scenario.steady.iter().chain(&scenario.stop_if);
    let asked = conditions.filter(|condition| condition.figure.name == FigureName::Ready).map(|condition| condition.figure.owner.clone());
    targets.chain(claimed).chain(asked).collect()
}

/// A run that did not come to its first operation.
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
    }
}

impl Run<'_> {
    async fn through(&mut self, variables: &Variables) -> Report {
        let mut doubts = Vec::new();
        let mut failures = Vec::new();
        let end = match self.steady(&self.scenario.steady.iter().collect::<Vec<_>>()).await {
            Ok(()) => {
                self.zero = Clock::now();
                self.journal.write(None, "timeline.began", "the timeline begins", json!({ "at_ms": 0 }));
                self.timeline().await
            }
            Err(why) => End::NeverSteady(why),
        };
        match &end {
            End::Done => {}
            End::Deadline => failures.push(format!("the deadline of {} s passed", self.scenario.deadline.as_secs())),
            End::Stopped(why) => doubts.push(format!("stopped because {why}")),
            End::NeverSteady(why) => doubts.push(format!("it never was steady: {why}")),
        }
        let not_healed = self.heal_all().await;
        if end == End::Done && not_healed.is_empty() {
            self.back_at_work().await;
            sleep(TAIL).await;
            let steady = self.steady(&self.scenario.steady.iter().collect::<Vec<_>>()).await;
            failures.extend(steady.err().map(|why| format!("it was not steady again: {why}")));
        }
        let end_us = self.now_us();
        self.journal.write(None, "timeline.ended", "the workloads stop", json!({ "at_ms": self.at_ms() }));
        self.crew.stop_clients().await;
        self.crew.drain(DRAIN).await;
        self.crew.dismiss().await;
        let (tallies, operations) = self.tallies().await;
        let evidence = self.evidence(tallies, end_us, variables).await;
        let checks: Vec<_> = self.scenario.checks.iter().map(|one| check::check(one, &evidence)).collect();
        doubts.extend(self.journal.trouble().map(|why| format!("the journal could not be written: {why}")));
        let workloads = self.figures(&operations);
        let acknowledged = workloads.iter().zip(&self.crew.workers).map(|(figures, worker)| (figures.name.as_str(), figures.acknowledged, worker.book.traffic.trouble()));
        let facts = Facts { fates: self.fates(), workloads: acknowledged.collect(), checks: &checks, doubts, failures, not_healed };
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
        }
    }

    /// Waits for all conditions at once; what does not hold, if the deadline comes first.
    async fn steady(&self, conditions: &[&super::condition::Condition]) -> Result<(), String> {
        loop {
            let missing = conditions.iter().find(|condition| !gauge::holds(condition, &self.crew, self.working_for(), self.directory));
            let Some(missing) = missing else { return Ok(()) };
            if self.left().is_zero() {
                let figure = gauge::read(missing, &self.crew, self.working_for(), self.directory);
                return Err(format!("`{}` did not hold{}", missing.text, figure.map(|figure| format!(" ({figure:.3})")).unwrap_or_default()));
            }
            sleep(WATCH).await;
        }
    }

    async fn timeline(&self) -> End {
        let all = future::join_all((0..self.scenario.timeline.len()).map(|index| entry::live(self, index)));
        tokio::select! {
            // What is cut off by the watch is healed by the caller: the board knows what was injected.
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
            if let Some(stop) = self.scenario.stop_if.iter().find(|condition| gauge::holds(condition, &self.crew, self.working_for(), self.directory)) {
                self.journal.write(None, "run.stopped", format!("stopped: {}", stop.text), json!({ "at_ms": self.at_ms() }));
                return End::Stopped(format!("`{}` holds", stop.text));
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

    /// Heals whatever of ours may be there; those that are there still.
    async fn heal_all(&self) -> Vec<String> {
        let ours: Vec<(usize, &str)> = self.board.read(|entries| {
            let there = |progress: &Progress| progress.asked_us.is_some() && progress.healed_us.is_none();
            entries.iter().enumerate().filter(|(_, progress)| there(progress)).map(|(index, _)| (index, self.scenario.timeline[index].id.as_str())).collect()
        });
        let ids: Vec<String> = ours.iter().map(|(_, id)| self.fault_id(id)).collect();
        if !ids.is_empty() {
            self.journal.write(None, "run.healing", format!("what is left is healed: {}", ids.join(", ")), json!({ "at_ms": self.at_ms() }));
        }
        let began = Clock::now();
        let mut pending = ids;
        loop {
            if !pending.is_empty() {
                // Answered or not: what counts is what the daemon then says to be there.
                let _ = self.door.heal(&pending).await;
            }
            let there = match self.door.status().await {
                Ok(status) => Some(status.faults),
                Err(_) => None,
            };
            if let Some(there) = there {
                let ours = |fault: &Fault| self.scenario.timeline.iter().any(|entry| self.fault_id(&entry.id) == fault.id && entry.undone_by != Undoing::Nothing);
                pending = there.iter().filter(|fault| ours(fault)).map(|fault| fault.id.clone()).collect();
                if pending.is_empty() {
                    self.journal.write(None, "run.healed", "no fault of this run is there any more", json!({ "at_ms": self.at_ms() }));
                    return Vec::new();
                }
            }
            if began.elapsed() > HEALING {
                self.journal.write(None, "run.not-healed", format!("not healed: {}", pending.join(", ")), json!({ "at_ms": self.at_ms() }));
                return if pending.is_empty() { vec!["what the daemon cannot tell".to_owned()] } else { pending };
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Until every workload that has a rate does its work again, or the time for it is over.
    async fn back_at_work(&self) {
        let from = self.now_us();
        let began = Clock::now();
        let back = |worker: &super::crew::Worker| {
            let samples = worker.book.traffic.last(Duration::from_micros(self.now_us() - from));
            worker.workload.rate <= 0.0 || samples.iter().rev().take_while(|sample| sample.ok).count() >= 5
        };
        while began.elapsed() < BACK.min(self.left()) && !self.crew.workers.iter().all(back) {
            sleep(prober::PERIOD).await;
        }
    }

    /// What each workload wrote against what is there, over fresh connections.
    async fn tallies(&self) -> (HashMap<String, Result<Tally, String>>, HashMap<String, Vec<Operation>>) {
        let mut tallies = HashMap::new();
        let mut all = HashMap::new();
        for worker in &self.crew.workers {
            let name = worker.workload.name.clone();
            let operations = match worker.book.ledger.operations() {
                Ok(operations) => operations,
                Err(error) => {
                    tallies.insert(name, Err(format!("the ledger: {error}")));
                    continue;
                }
            };
            let began = Clock::now();
            let observed = loop {
                match timeout(READ_BACK, worker.work.read_back()).await.unwrap_or(Err(workload::WorkError::Late(READ_BACK))) {
                    Err(_) if began.elapsed() < READ_BACK => sleep(Duration::from_millis(100)).await,
                    outcome => break outcome,
                }
            };
            let took = began.elapsed().as_secs_f64() * 1000.0;
            match observed {
                Ok(Some(observed)) => {
                    let tally = Tally::judge(&operations, &observed);
                    self.tell_tally(&name, &tally, &observed, took);
                    tallies.insert(name.clone(), Ok(tally));
                }
                Ok(None) => {}
                Err(error) => drop(tallies.insert(name.clone(), Err(error.to_string()))),
            }
            all.insert(name, operations);
        }
        (tallies, all)
    }

    fn tell_tally(&self, name: &str, tally: &Tally, observed: &Observed, took: f64) {
        let message = format!("{name}: {} of {} acknowledged were lost", tally.lost, tally.acknowledged);
        let data = json!({ "workload": name, "found": observed.found.len(), "read_ms": took, "at_ms": self.at_ms() });
        self.journal.write(None, "workload.read", message, data);
    }

    async fn evidence(&self, tallies: HashMap<String, Result<Tally, String>>, end_us: u64, variables: &Variables) -> Evidence {
        let mut commands = HashMap::new();
        for one in &self.scenario.checks {
            let Claim::Command { command } = &one.claim else { continue };
            let outcome = match workload::prepared(command, variables) {
                Some(mut prepared) => match timeout(COMMAND, prepared.stdout(std::process::Stdio::null()).status()).await {
                    Ok(Ok(status)) => Ok(status.code().unwrap_or(-1)),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err(format!("it did not end within {COMMAND:?}")),
                },
                None => Err("it names no program".to_owned()),
            };
            commands.insert(one.name.clone(), outcome);
        }
        let affected = self.board.read(|entries| {
            let span = |progress: &Progress| Some((progress.asked_us?, progress.recovered_us.unwrap_or(end_us)));
            entries.iter().zip(&self.scenario.timeline).filter_map(|(progress, entry)| Some((entry.id.clone(), span(progress)?))).collect()
        });
        Evidence {
            tallies,
            recoveries: self.recoveries(end_us),
            answers: self.crew.seen.iter().map(|(service, seen)| (service.clone(), seen.answers())).collect(),
            span_us: (self.zero_us(), end_us),
            affected_us: affected,
            commands,
        }
    }

    fn recoveries(&self, end_us: u64) -> Vec<Recovery> {
        let entries = self.board.read(<[Progress]>::to_vec);
        let mut recoveries = Vec::new();
        for (index, (entry, progress)) in self.scenario.timeline.iter().zip(&entries).enumerate() {
            let Some(fault_us) = progress.fault_us else { continue };
            let until = entries.iter().filter_map(|other| other.fault_us).filter(|at| *at > fault_us).min().unwrap_or(end_us);
            let on_it = self.crew.workers.iter().filter(|worker| worker.workload.service.as_ref() == Some(&entry.on));
            let samples: Vec<_> = on_it.map(|worker| worker.book.traffic.all()).collect();
            let way = recovery::way(&samples, fault_us, until.max(progress.recovered_us.unwrap_or(0)));
            let silent = self.crew.seen.get(&entry.on).and_then(|seen| seen.answers().silent_after(fault_us, progress.recovered_us.unwrap_or(end_us)));
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

    /// When the service of an entry was ready for good again: the fault itself if it never stopped.
    pub(super) fn ready_us(&self, index: usize) -> Option<u64> {
        let progress = self.board.read(|entries| entries[index].clone());
        let (fault_us, recovered_us) = (progress.fault_us?, progress.recovered_us?);
        let answers = self.crew.seen.get(&self.scenario.timeline[index].on).map(super::prober::Seen::answers);
        let mut ready = if progress.left_ready { recovered_us } else { fault_us };
        let mut from = fault_us;
        // The last return before it had recovered.
        while let Some(back) = answers.as_ref().and_then(|answers| answers.back_after(answers.silent_after(from, recovered_us)?)) {
            if !progress.left_ready || back > recovered_us {
                ready = back.min(recovered_us);
            }
            from = back;
        }
        Some(ready)
    }

    fn fates(&self) -> Vec<(&str, Fate)> {
        let fate = |progress: &Progress| match (&progress.refused, &progress.fault) {
            (Some(why), _) => Fate::Refused(why.clone()),
            (None, None) => Fate::NeverBegan,
            (None, Some(fault)) if !progress.witnessed() => Fate::NotWitnessed(fault.witness.as_ref().map_or_else(|| "it has no witness".to_owned(), |witness| witness.what.clone())),
            (None, Some(_)) if progress.recovered_us.is_none() => Fate::NotRecovered,
            (None, Some(_)) => Fate::Recovered,
        };
        self.board.read(|entries| self.scenario.timeline.iter().zip(entries).map(|(entry, progress)| (entry.id.as_str(), fate(progress))).collect())
    }

    fn faults(&self) -> Vec<Fault> {
        self.board.read(|entries| {
            let told = |progress: &Progress| {
                let mut fault = progress.fault.clone()?;
                if fault.healed_at.is_none() {
                    fault.healed_at = progress.healed_us.map(|at| self.time_of(at));
                }
                Some(fault)
            };
            entries.iter().filter_map(told).collect()
        })
    }

    fn figures(&self, operations: &HashMap<String, Vec<Operation>>) -> Vec<WorkloadFigures> {
        let figures = |worker: &super::crew::Worker| {
            let samples = worker.book.traffic.all();
            let tally = operations.get(&worker.workload.name).map(|operations| Tally::of_operations(operations)).unwrap_or_default();
            WorkloadFigures {
                name: worker.workload.name.clone(),
                kind: worker.workload.task.kind().to_owned(),
                service: worker.workload.service.clone().unwrap_or_default(),
                attempted: tally.attempted,
                acknowledged: tally.acknowledged,
                failed: tally.failed,
                unknown: tally.unknown,
                p50_ms: traffic::percentile(&samples, 0.5),
                p99_ms: traffic::percentile(&samples, 0.99),
                tenths: traffic::tenths(&samples),
            }
        };
        self.crew.workers.iter().map(figures).collect()
    }

    /// What the workloads made goes; what cannot be taken away is told, and no more.
    async fn clean_up(&self) {
        for worker in &self.crew.workers {
            let cleaned = timeout(READ_BACK, worker.work.clean_up()).await.unwrap_or(Err(workload::WorkError::Late(READ_BACK)));
            if let Err(error) = cleaned {
                let message = format!("{}: what it wrote could not be taken away: {error}", worker.workload.name);
                self.journal.write(None, "workload.left", message, Value::Null);
            }
        }
    }

    /// As the daemon knows it: of this run alone.
    pub(super) fn fault_id(&self, id: &str) -> String {
        format!("{id}-{}", self.run)
    }

    pub(super) fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub(super) fn zero_us(&self) -> u64 {
        (self.zero - self.began).as_micros() as u64
    }

    pub(super) fn working_for(&self) -> Duration {
        self.working_since.elapsed()
    }

    /// Until the deadline.
    pub(super) fn left(&self) -> Duration {
        self.scenario.deadline.saturating_sub(self.working_for())
    }

    /// Milliseconds of the timeline.
    pub(super) fn at_ms(&self) -> i64 {
        self.ms_of(self.now_us())
    }

    pub(super) fn ms_of(&self, at_us: u64) -> i64 {
        (at_us as i64 - self.zero_us() as i64) / 1000
    }

    pub(super) async fn sleep_until(&self, at_us: u64) {
        sleep_until(Instant::from_std(self.began) + Duration::from_micros(at_us)).await;
    }

    /// A time on the wall, on the run's clock.
    pub(super) fn us_of(&self, time: &str) -> Option<u64> {
        let time: Timestamp = time.parse().ok()?;
        u64::try_from(time.duration_since(self.began_at).as_micros()).ok()
    }

    fn time_of(&self, at_us: u64) -> String {
        let time = self.began_at.checked_add(Duration::from_micros(at_us)).unwrap_or(self.began_at);
        format!("{time:.6}")
    }
}

