//! Injects faults: the undo steps are journalled first, then the fault is done, then its effect is looked for.

mod ask;
mod network;
mod service;

use std::time::{Duration, Instant};

use devenv_api::{ApiError, ErrorCode, Witness};
use devenv_engine::{ContainerState, Engine};
use devenv_kinds::{
    capability::Effect,
    faults::{Action, Disk, ExpectedEffect, Injection, Suspended},
};
use devenv_processes::cgroup::{Group, Limits};
use devenv_spec::{Resources, ServiceSpec};
use futures_util::StreamExt;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Faults, HeldTasks,
    agent::{self, AgentError},
    device_volume, internal,
    observe::{ProbeOutcome, Question, milliseconds},
    undo_log::{Entry, Undo, UndoLog},
};
use crate::store::Record;

/// How long an effect is looked for.
const SIGN: Duration = Duration::from_secs(8);
/// A server that has not answered for this long is silent; its answers normally take milliseconds.
const PATIENCE: Duration = Duration::from_millis(700);

/// An injection in progress.
pub(super) struct Work {
    pub(super) faults: Faults,
    pub(super) record: Record,
    pub(super) service: ServiceSpec,
    /// For a host process.
    pub(super) pid: Option<u32>,
    /// How long the fault lasts.
    pub(super) time: Duration,
    pub(super) undo_log: UndoLog,
    pub(super) entry: Entry,
    pub(super) held_tasks: HeldTasks,
}

impl Work {
    pub(super) async fn carry_out(&mut self, injection: &Injection) -> Result<Witness, ApiError> {
        match &injection.action {
            Action::Signal { signal, restart } => self.signal(signal, *restart).await,
            Action::Stop => self.stop().await,
            Action::Restart => self.restart().await,
            Action::CrashLoop { every } => self.crash_loop(*every).await,
            Action::Remove { volumes, restore } => self.remove(*volumes, *restore).await,
            Action::DaemonDeath => {
                self.will_undo(Undo::Daemon { pid: std::process::id() })?;
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                    .map_err(|error| failed(error.to_string()))?;
                // The next daemon answers the client.
                std::future::pending().await
            }
            Action::Suspend(scope) => self.suspend(*scope, &injection.expected).await,
            Action::Network(network) => self.network(network, &injection.expected).await,
            Action::Limits { cpus, memory } => self.limit(*cpus, *memory).await,
            Action::Disk(disk) => self.disk(disk).await,
            Action::OfKind(action) => {
                let began = Instant::now();
                let faults = devenv_kinds::faults::of_action(action)
                    .ok_or_else(|| failed(format!("no kind supports the fault of `{}`", action.kind)))?;
                let Effect { observed, what } = faults.inject(action, self).await.map_err(failed)?;
                Ok(if observed { seen(what, began) } else { not_seen(what) })
            }
            Action::Monkey { faults, services, every, lasting } => self.monkey(faults, services, *every, *lasting).await,
        }
    }

    fn engine(&self) -> &dyn Engine {
        self.faults.engine()
    }

    fn container(&self) -> Result<String, ApiError> {
        self.entry.target.clone().ok_or_else(|| failed(format!("{} is not running", self.service.name)))
    }

    /// On the disk before the action.
    pub(super) fn will_undo(&mut self, step: Undo) -> Result<(), ApiError> {
        self.entry.undo.push(step);
        self.undo_log.save(&self.entry).map_err(internal)
    }

    /// A fault agent for this fault, which is removed at the end. Returns the text after `ready`.
    async fn hold(&mut self, task: agent::Task) -> Result<String, ApiError> {
        let name = agent::name(&self.record, &self.entry.fault.id);
        self.will_undo(Undo::Agent { name })?;
        let (service, fault) = (self.service.name.clone(), self.entry.fault.id.clone());
        agent::start(&self.faults.site, &self.record, &service, &fault, task).await.map_err(|error| {
            let failure = failed(error.to_string());
            match error {
                AgentError::NotBuilt => failure.hint("build devenv on a machine with a static C library"),
                _ => failure,
            }
        })
    }

    /// The time at which the fault agent ends on its own, whatever happens to the daemon.
    fn time_to_live(&self) -> String {
        format!("--ttl-ms={}", self.time.as_millis())
    }

    async fn suspend(&mut self, scope: Suspended, expected: &ExpectedEffect) -> Result<Witness, ApiError> {
        let container = self.container()?;
        let question = self.question().await;
        let began = Instant::now();
        let scope = match scope {
            Suspended::All => "--scope=all",
            Suspended::Main => "--scope=main",
        };
        let arguments = vec!["suspend".to_owned(), scope.to_owned(), self.time_to_live()];
        let task =
            agent::Task { arguments, processes_of: Some(container.clone()), capabilities: &["SYS_PTRACE"], ..agent::Task::default() };
        let held = match self.hold(task).await {
            Ok(threads) => format!("{threads} threads are stopped"),
            Err(error) if scope == "--scope=all" => {
                tracing::info!(reason = %error.message, "Pausing with the engine, because the kernel cannot stop the threads.");
                // There is no agent whose end would be the fault's end.
                self.entry.undo.retain(|undo| !matches!(undo, Undo::Agent { .. }));
                self.will_undo(Undo::Unpause { container: container.clone() })?;
                self.engine().pause(&container).await.map_err(|error| failed(error.to_string()))?;
                "the engine paused it".to_owned()
            }
            Err(error) => return Err(error),
        };
        match (expected, question) {
            (ExpectedEffect::NoAnswer, Some((question, before))) => Ok(self.no_answer(&question, before, began).await),
            _ => Ok(seen(held, began)),
        }
    }

    /// How the service is probed, and how long a normal answer takes.
    async fn question(&self) -> Option<(Question, Duration)> {
        let address = match &self.entry.target {
            Some(container) => self
                .engine()
                .attachments(container)
                .await
                .ok()
                .and_then(|attachments| attachments.first().map(|attachment| attachment.address)),
            None => None,
        };
        Question::of(&self.service, address).baseline().await
    }

    async fn no_answer(&self, question: &Question, before: Duration, began: Instant) -> Witness {
        let patience = PATIENCE.max(before * 3);
        let mut last = String::new();
        while began.elapsed() < SIGN {
            match question.ask(patience).await {
                ProbeOutcome::Answer(time) => last = format!("it still answers after {}", milliseconds(time)),
                heard => return seen(format!("{heard}; before, an answer took {}", milliseconds(before)), began),
            }
        }
        not_seen(last)
    }

    async fn limit(&mut self, cpus: Option<f64>, memory: Option<u64>) -> Result<Witness, ApiError> {
        let container = self.container()?;
        let engine_failed = |error: devenv_engine::EngineError| failed(error.to_string());
        let before = self.engine().limits(&container).await.map_err(engine_failed)?;
        if (cpus.is_none() || before.cpus.is_none())
            && (memory.is_none() || before.memory.is_none())
            && let Some(group) = group(self.engine(), &container).await
        {
            return self.limit_group(&group, container, Limits { cpus, memory });
        }
        let undo = Undo::Limits { container: container.clone(), cpus: before.cpus, memory: before.memory.map(devenv_spec::Size::bytes) };
        self.will_undo(undo)?;
        let began = Instant::now();
        let memory_limit = memory.and_then(|bytes| format!("{bytes}B").parse().ok());
        let limits = Resources { cpus: cpus.or(before.cpus), memory: memory_limit.or(before.memory) };
        self.engine().set_limits(&container, &limits).await.map_err(|error| {
            let failure = failed(error.to_string());
            if memory.is_some() { failure.hint(TOO_LOW) } else { failure }
        })?;
        let now = self.engine().limits(&container).await.map_err(engine_failed)?;
        if now != limits {
            return Ok(not_seen("the engine does not show the limit".to_owned()));
        }
        Ok(seen(format!("the engine limits it to {}", said(cpus, memory)), began))
    }

    /// The engine could not take a limit away again where there was none.
    fn limit_group(&mut self, group: &Group, container: String, limits: Limits) -> Result<Witness, ApiError> {
        let (cpus, memory) = (limits.cpus, limits.memory);
        self.will_undo(Undo::Group { container: container.clone(), cpus: cpus.is_some(), memory: memory.is_some() })?;
        let began = Instant::now();
        group.limit(limits).map_err(|error| {
            let failure = failed(format!("cannot limit its control group: {error}"));
            if memory.is_some() { failure.hint(TOO_LOW) } else { failure }
        })?;
        let now = group.limits();
        if (cpus.is_some() && now.cpus.is_none()) || (memory.is_some() && now.memory.is_none()) {
            return Ok(not_seen("the kernel does not show the limit".to_owned()));
        }
        self.limit_next_runs(container, limits);
        Ok(seen(format!("the kernel limits it to {}", said(cpus, memory)), began))
    }

    /// Each run of the container has a control group of its own.
    fn limit_next_runs(&mut self, container: String, limits: Limits) {
        let faults = self.faults.clone();
        self.held_tasks.push(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let mut events = faults.engine().events(&faults.site.owner);
                while let Some(Ok(event)) = events.next().await {
                    if event.container == container
                        && let Some(group) = group(faults.engine(), &container).await
                        && let Err(error) = group.limit(limits)
                    {
                        tracing::warn!(%error, container, "Cannot limit the next run of a container.");
                    }
                }
                // The engine went away.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })));
    }

    async fn disk(&mut self, disk: &Disk) -> Result<Witness, ApiError> {
        let volume = device_volume(&self.record, &self.service.name)
            .ok_or_else(|| failed(format!("the volume of {} is not on its own disk", self.service.name)))?;
        match disk {
            Disk::Full { leave } => {
                let began = Instant::now();
                let arguments =
                    vec!["fill".to_owned(), format!("--path={}", agent::VOLUME), format!("--leave={leave}"), self.time_to_live()];
                let free = self
                    .hold(agent::Task { arguments, volume: Some(volume), capabilities: &["DAC_OVERRIDE"], ..agent::Task::default() })
                    .await?;
                Ok(seen(format!("the disk is full: {free}"), began))
            }
            Disk::PowerCut { .. } => self.power_cut(volume).await,
            Disk::ReadOnly => self.read_only_disk(&volume),
        }
    }
}

/// A container's control group, if it may be written.
async fn group(engine: &dyn Engine, container: &str) -> Option<Group> {
    match engine.inspect(container).await.ok()??.state {
        ContainerState::Running { pid } | ContainerState::Paused { pid } => Group::of(container, pid),
        _ => None,
    }
}

const TOO_LOW: &str = "a kernel with cgroup v1 rejects a limit below the current usage: set a higher limit";

fn said(cpus: Option<f64>, memory: Option<u64>) -> String {
    let cpus = cpus.map(|cpus| format!("{cpus} processors"));
    let memory = memory.map(|bytes| format!("{bytes} bytes of memory"));
    cpus.into_iter().chain(memory).collect::<Vec<_>>().join(" and ")
}

pub(super) fn seen(what: impl Into<String>, began: Instant) -> Witness {
    Witness { observed: true, what: what.into(), after_ms: Some(began.elapsed().as_millis() as u64) }
}

pub(super) fn not_seen(what: impl Into<String>) -> Witness {
    Witness { observed: false, what: what.into(), after_ms: None }
}

fn failed(reason: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Failed, reason)
}
