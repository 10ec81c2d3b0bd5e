//! Faults: injected, witnessed, held for their duration, and always undone.
//!
//! # Theory of operation
//!
//! `devenv-faults` describes a fault as data. Before anything is done, its undo steps are written to the environment's
//! undo log and synced. Then it is done (`inject`), witnessed, and passed to a task that waits for its duration, for `heal`, or
//! for its target's end, and undoes it. What the kernel holds for a fault agent ends with the agent, however it is killed; for the
//! rest the next daemon reads the undo log, undoes overdue faults at once, and keeps the others.

mod active;
mod agent;
mod heal;
mod impairments;
mod inject;
mod observe;
mod rescue;
mod site;
mod undo;
mod undo_log;
mod watchdog;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use devenv_api::{ApiError, Compared, ErrorCode, Fault, InjectRequest};
use devenv_engine::{Engine, OwnerId};
use devenv_kinds::faults::{Action, DEFAULT_DURATION, Disk, FaultKind, FaultSpec, Injection, Network, Restart, Suspended, Target, Undoing};
use devenv_secrets::Vault;
use devenv_spec::{EnvironmentId, ServiceName, ServiceSpec};
use futures_util::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    error::internal,
    event::NewEvent,
    reconcile::{CommandError, Handle},
    runtime::tasks::Tasks,
    store::{Goal, Record},
};
use undo_log::{Entry, UndoLog};

pub(crate) use agent::{ROLE, image as agent_image, image_name as agent_image_name};
pub(crate) use devenv_kinds::faults::catalogue;
pub(crate) use rescue::rescue;

/// The backups of an environment, as faults use them: a fault that removes data may restore it.
#[async_trait]
pub(crate) trait Backups: Send + Sync {
    /// Backs up one service. Returns the backup's id.
    async fn save(&self, environment: &EnvironmentId, service: &ServiceName) -> Result<String, ApiError>;
    /// Restores a backup, and compares it.
    async fn restore(&self, environment: &EnvironmentId, id: &str) -> Result<Vec<Compared>, ApiError>;
}

/// The faults of one environment. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Faults {
    site: Arc<Site>,
    /// Faults with a task of this environment, by id.
    active: Arc<Mutex<HashMap<String, ActiveFault>>>,
}

/// Where faults are injected: one environment, and its resources.
pub(crate) struct Site {
    pub(crate) environment: EnvironmentId,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) owner: OwnerId,
    pub(crate) handle: Handle,
    pub(crate) vault: Vault,
    /// The certificate by which servers with TLS are verified.
    pub(crate) authority: PathBuf,
    /// The environment's directory, for the undo log.
    pub(crate) directory: PathBuf,
    /// The directory of the disks of volumes that have one.
    pub(crate) disks: PathBuf,
    /// The file with the id of the fault agent's image.
    pub(crate) agent_image: PathBuf,
    pub(crate) backups: Arc<dyn Backups>,
    pub(crate) tasks: Tasks,
}

#[derive(Clone)]
struct ActiveFault {
    /// Cancelled to heal it now.
    end: CancellationToken,
    /// True when the attempt to undo it is over.
    over: watch::Receiver<bool>,
    /// How many operations need it undone.
    lifting: watch::Sender<usize>,
    /// True while it is undone for them.
    lifted: watch::Receiver<bool>,
}

/// The part of a fault that lives in this process; ends when it is dropped.
pub(crate) type HeldTasks = Vec<AbortOnDropHandle<()>>;

/// When a fault is over.
enum Lasting {
    /// There is nothing to wait for.
    Moment,
    For(Duration),
}

impl Faults {
    pub(crate) fn new(site: Site) -> Self {
        Self { site: Arc::new(site), active: Arc::default() }
    }

    /// Whether the fault can be injected, as far as that is known without injecting it.
    pub(crate) async fn check(&self, request: InjectRequest) -> Result<(), ApiError> {
        let spec = parsed(request)?;
        let (record, _, injection) = self.described(&spec).await?;
        match injection.action {
            Action::Network(Network { packets: Some(_), .. }) => self.check_packets(&record, &spec).await,
            _ => Ok(()),
        }
    }

    /// Injects a fault. Returns when its effect was observed, or was not within the time limit; the fault stays active.
    pub(crate) async fn inject(&self, request: InjectRequest) -> Result<Fault, ApiError> {
        let spec = parsed(request)?;
        // Not in the handler's own future: a client that disconnects must not leave half a fault.
        let this = self.clone();
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.site.tasks.spawn("injection of a fault", async move {
            let result = this.inject_spec(spec).await;
            let _ = answer.send(result);
        });
        answered.await.map_err(|_| ApiError::new(ErrorCode::Interrupted, "the environment ends"))?
    }

    /// The same with resolved parameters. Boxed, because a monkey injects others.
    pub(crate) fn inject_spec(&self, spec: FaultSpec) -> BoxFuture<'static, Result<Fault, ApiError>> {
        let this = self.clone();
        async move { this.inject_now(spec).await }.boxed()
    }

    async fn inject_now(&self, spec: FaultSpec) -> Result<Fault, ApiError> {
        let kind = devenv_kinds::faults::find(&spec.fault)
            .ok_or_else(|| ApiError::new(ErrorCode::Usage, format!("unknown fault `{}`", spec.fault)))?;
        let (_, _, injection) = self.described(&spec).await?;
        let undo_log = self.undo_log();
        if undo_log.find(&spec.id).is_some_and(|entry| entry.fault.healed_at.is_none()) {
            return Err(ApiError::new(ErrorCode::Conflict, format!("fault `{}` already exists", spec.id))
                .hint("run `devenv chaos heal` to undo it"));
        }
        let lasting = lasting(&injection.action, &spec, kind);
        let now = Timestamp::now();
        let heals_at = match lasting {
            Lasting::Moment => None,
            Lasting::For(time) => Some(rfc3339(now + jiff::SignedDuration::try_from(time).unwrap_or(jiff::SignedDuration::MAX))),
        };
        let fault = Fault {
            id: spec.id.clone(),
            fault: spec.fault.clone(),
            service: spec.service.to_string(),
            parameters: spec.parameters.to_json(),
            injected_at: rfc3339(now),
            heals_at,
            witness: None,
            healed_at: None,
        };
        let time = match lasting {
            Lasting::Moment => Duration::ZERO,
            Lasting::For(time) => time,
        };
        let (mut entry, held_tasks) = self.perform(&spec, fault, time).await?;
        if matches!(lasting, Lasting::Moment) && entry.undo.is_empty() {
            entry.fault.healed_at = Some(rfc3339(Timestamp::now()));
        }
        undo_log.save(&entry).map_err(internal)?;
        let what = match &entry.fault.witness {
            Some(witness) if witness.observed => format!("{} on {}: {}", spec.fault, spec.service, witness.what),
            Some(witness) => format!("the effect of {} on {} was not observed: {}", spec.fault, spec.service, witness.what),
            None => format!("{} on {}", spec.fault, spec.service),
        };
        self.site.handle.events.emit(
            NewEvent::of(&spec.service, "fault.injected", what)
                .with("id", spec.id.clone())
                .with("fault", spec.fault.clone())
                .with("witness", serde_json::json!(entry.fault.witness)),
        );
        if entry.fault.healed_at.is_none() {
            self.keep(entry.clone(), held_tasks);
        } else {
            undo_log.prune();
        }
        Ok(entry.fault)
    }

    /// Journals, injects and witnesses it. What was done is undone if it fails half way.
    async fn perform(&self, spec: &FaultSpec, fault: Fault, time: Duration) -> Result<(Entry, HeldTasks), ApiError> {
        let (record, service, injection) = self.described(spec).await?;
        let status = self.site.handle.status();
        let seen = status.services.iter().find(|seen| seen.name == spec.service.as_str());
        let target = seen.and_then(|seen| seen.container.clone());
        let run = match &target {
            Some(container) => self.run_of(container).await,
            None => None,
        };
        let undo_log = self.undo_log();
        let mut work = inject::Work {
            faults: self.clone(),
            record,
            service,
            pid: seen.and_then(|seen| seen.pid),
            time,
            undo_log: undo_log.clone(),
            entry: Entry::new(fault, spec.clone(), target, run),
            held_tasks: Vec::new(),
        };
        let witness = work.carry_out(&injection).await;
        let inject::Work { mut entry, held_tasks, .. } = work;
        match witness {
            Ok(witness) => {
                entry.fault.witness = Some(witness);
                Ok((entry, held_tasks))
            }
            Err(error) => {
                drop(held_tasks);
                match self.undo(&entry).await {
                    Ok(()) => undo_log.forget(&entry.fault.id),
                    Err(reason) => tracing::error!(reason, fault = %entry.fault.id, "Cannot undo a fault whose injection failed."),
                }
                Err(error)
            }
        }
    }

    fn undo_log(&self) -> UndoLog {
        UndoLog::of(&self.site.directory)
    }

    fn engine(&self) -> &dyn Engine {
        self.site.engine.as_ref()
    }

    fn keeping(&self, id: &str) -> Option<ActiveFault> {
        self.active().get(id).cloned()
    }

    fn active(&self) -> MutexGuard<'_, HashMap<String, ActiveFault>> {
        self.active.lock().expect("no code panics while it holds this lock")
    }

    /// What the fault means for its service in the environment's current state.
    async fn described(&self, spec: &FaultSpec) -> Result<(Record, ServiceSpec, Injection), ApiError> {
        let record = self.site.handle.record().await.map_err(ApiError::from)?;
        let services = match &record.spec {
            Some(wanted) if record.goal == Goal::Up => &wanted.services,
            _ => return Err(CommandError::NotUp.into()),
        };
        let service = services.get(&spec.service).ok_or_else(|| ApiError::from(CommandError::NoService(spec.service.to_string())))?.clone();
        let names: Vec<ServiceName> = services.keys().cloned().collect();
        let kind = devenv_kinds::faults::find(&spec.fault)
            .ok_or_else(|| ApiError::new(ErrorCode::Usage, format!("unknown fault `{}`", spec.fault)))?;
        let faults: Vec<&str> = devenv_kinds::faults::all().map(FaultKind::name).collect();
        let injection = kind.describe(&spec.parameters, &Target { spec: &service, services: &names, faults: &faults, seed: spec.seed })?;
        Ok((record, service, injection))
    }
}

fn parsed(request: InjectRequest) -> Result<FaultSpec, ApiError> {
    let service: ServiceName =
        request.service.parse().map_err(|error: devenv_spec::InvalidName| ApiError::new(ErrorCode::Usage, error.to_string()))?;
    let id = match request.id {
        Some(id) if is_id(&id) => id,
        Some(id) => {
            return Err(ApiError::new(ErrorCode::Usage, format!("`{id}` is not a valid fault id")).hint(
                "an id has at most 60 characters \
                from a-z, A-Z, 0-9, `-` and `_`",
            ));
        }
        None => new_id(&request.fault),
    };
    Ok(devenv_kinds::faults::parse(
        id,
        &request.fault,
        service,
        &request.parameters,
        request.for_ms.map(Duration::from_millis),
        request.seed,
    )?)
}

fn holds_all_processes(action: &Action) -> bool {
    matches!(action, Action::Suspend(Suspended::All))
}

fn lasting(action: &Action, spec: &FaultSpec, kind: &dyn FaultKind) -> Lasting {
    let asked = || Lasting::For(spec.duration.unwrap_or(DEFAULT_DURATION));
    match action {
        Action::Signal { restart: Restart::After(time), .. } | Action::Disk(Disk::PowerCut { restart_after: time }) => Lasting::For(*time),
        _ if kind.lasts(&spec.parameters) => asked(),
        _ if kind.undone_by() == Undoing::Nothing => Lasting::Moment,
        _ => asked(),
    }
}

fn rfc3339(time: Timestamp) -> String {
    format!("{time:.6}")
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 60 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn new_id(fault: &str) -> String {
    let fault: String = fault.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(30).collect();
    format!("{fault}-{:06x}", rand::random::<u32>() & 0x00ff_ffff)
}

/// The volume of a service that has a file system of its own.
fn device_volume(record: &Record, service: &ServiceName) -> Option<String> {
    let spec = record.spec.as_ref()?.services.get(service)?;
    let mount = spec.container()?.mounts.iter().find(|mount| mount.device.is_some())?;
    match &mount.source {
        devenv_spec::MountSource::Volume(name) => record.volumes.get(&format!("{service}/{name}")).cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use devenv_spec::{ContainerSpec, Workload};

    use super::*;

    #[test]
    fn only_a_fault_that_holds_every_process_keeps_commands_from_running() {
        let service: ServiceSpec = serde_json::from_value(serde_json::json!({
            "name": "cache", "kind": "redis", "workload": Workload::Container(ContainerSpec::new("redis:8.0")), "depends_on": {},
            "on_dependency_restart": "ignore", "optional": false, "probe": "none", "provision": [], "proof": null,
            "ready_timeout": { "secs": 1, "nanos": 0 }, "stop": { "signal": "SIGTERM", "grace": { "secs": 1, "nanos": 0 } },
            "restart": { "policy": "on-failure", "attempts": 5 }, "urls": {}
        }))
        .unwrap();
        // `freeze` stops only the main process: others can be started beside it.
        for (name, expected) in [("pause", true), ("freeze", false), ("kill", false)] {
            let spec = devenv_kinds::faults::parse("f1", name, service.name.clone(), &BTreeMap::new(), None, 7).unwrap();
            let target = Target { spec: &service, services: std::slice::from_ref(&service.name), faults: &[], seed: 7 };
            let injection = devenv_kinds::faults::find(name).unwrap().describe(&spec.parameters, &target).unwrap();
            assert_eq!(holds_all_processes(&injection.action), expected, "{name}");
        }
    }
}
