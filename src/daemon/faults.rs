//! Faults: injected, witnessed, kept for their time, undone whatever happens.
//!
//! # Theory of operation
//!
//! What a fault is comes from `fault`, as data. Before anything is done, how it is undone is written to the environment's
//! journal and synced. Then it is done (`act`), witnessed, and handed to a task that waits for its time, for `heal`, or
//! for its target's end, and undoes it. What the kernel holds for a holder goes with the holder, whoever kills it; for the
//! rest the journal is read by the next daemon, which undoes at once what is past its time and keeps what is not.

mod act;
mod holder;
mod journal;
mod lease;
mod observe;
mod rescue;
mod servers;
mod undo;

use std::{collections::HashMap, sync::Mutex, time::Duration};

use devenv_api::{ApiError, ErrorCode, Fault, FaultsRequest, HealRequest, InjectRequest};
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{Environments, environments::Environment, internal};
use crate::{
    engine::{EngineEventKind, ObservedContainer},
    event::News,
    fault::{Action, DEFAULT_DURATION, Disk, FaultSpec, InvalidFault, Postgres, Refusal, Restart, Target, Undoing},
    spec::{EnvironmentId, ServiceName},
    store::{Goal, Record},
};
use journal::{Entry, Journal, Undo};

pub(super) use holder::ROLE;
pub(crate) use rescue::rescue;

/// Faults that are kept by a task of this daemon.
#[derive(Default)]
pub(super) struct Kept(Mutex<HashMap<(EnvironmentId, String), Keeping>>);

#[derive(Clone)]
struct Keeping {
    /// Cancelled to heal it now.
    end: CancellationToken,
    /// True when the attempt to undo it is over.
    over: watch::Receiver<bool>,
}

/// What a fault holds in this process; dropping it lets go.
pub(super) type Grip = Vec<AbortOnDropHandle<()>>;

/// When a fault is over.
enum Lasting {
    /// There is nothing to wait for.
    Moment,
    For(Duration),
}

impl Environments {
    /// From words to a fault that bites. Returns when it is witnessed, or was not within its time; it lasts on after that.
    pub(crate) async fn inject(&self, request: InjectRequest) -> Result<Fault, ApiError> {
        let environment = self.require(&request.target)?;
        let service: ServiceName =
            request.service.parse().map_err(|error: crate::spec::InvalidName| ApiError::new(ErrorCode::Usage, error.to_string()))?;
        let id = match request.id {
            Some(id) if is_id(&id) => id,
            Some(id) => {
                return Err(
                    ApiError::new(ErrorCode::Usage, format!("`{id}` is no id for a fault")).hint("up to 60 of a-z, A-Z, 0-9, - and _")
                );
            }
            None => new_id(&request.fault),
        };
        let spec =
            FaultSpec::parse(id, &request.fault, service, &request.parameters, request.for_ms.map(Duration::from_millis), request.seed)?;
        // Not by the handler's own future: a client that goes away half way must not leave half a fault.
        let (this, target) = (self.clone(), environment.clone());
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.spawn(async move {
            let result = this.inject_spec(target, spec).await;
            let _ = answer.send(result);
        });
        answered.await.map_err(|_| ApiError::new(ErrorCode::Interrupted, "the daemon is stopping"))?
    }

    /// The same, once it is clear what is meant. Boxed, because a monkey injects others.
    pub(crate) fn inject_spec(&self, environment: Environment, spec: FaultSpec) -> BoxFuture<'static, Result<Fault, ApiError>> {
        let this = self.clone();
        async move { this.inject_now(&environment, spec).await }.boxed()
    }

    async fn inject_now(&self, environment: &Environment, spec: FaultSpec) -> Result<Fault, ApiError> {
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let services = match &record.spec {
            Some(wanted) if record.goal == Goal::Up => &wanted.services,
            _ => return Err(crate::reconcile::CommandError::NotUp.into()),
        };
        let service = services
            .get(&spec.service)
            .ok_or_else(|| ApiError::from(crate::reconcile::CommandError::NoService(spec.service.to_string())))?;
        let names: Vec<ServiceName> = services.keys().cloned().collect();
        let kind = spec.kind().ok_or_else(|| ApiError::new(ErrorCode::Usage, format!("there is no fault `{}`", spec.fault)))?;
        let injection = kind.describe(&spec.parameters, &Target { spec: service, services: &names, seed: spec.seed })?;
        let journal = self.journal(&environment.id);
        if journal.find(&spec.id).is_some_and(|entry| entry.fault.healed_at.is_none()) {
            return Err(
                ApiError::new(ErrorCode::Conflict, format!("a fault `{}` is there already", spec.id)).hint("`devenv chaos heal` undoes it")
            );
        }
        let status = environment.handle.status();
        let seen = status.services.iter().find(|seen| seen.name == spec.service.as_str());
        let target = seen.and_then(|seen| seen.container.clone());
        let lasting = lasting(&injection.action, &spec, kind.undone_by());
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
        let mut work = act::Work {
            environments: self.clone(),
            environment: environment.clone(),
            record: record.clone(),
            service: service.clone(),
            pid: seen.and_then(|seen| seen.pid),
            time,
            journal: journal.clone(),
            entry: Entry::new(fault, spec.clone(), target),
            grip: Vec::new(),
        };
        let witness = work.carry_out(&injection).await;
        let act::Work { mut entry, grip, .. } = work;
        let witness = match witness {
            Ok(witness) => witness,
            Err(error) => {
                drop(grip);
                // What was begun is undone, as at its end.
                match self.undo(environment, &entry).await {
                    Ok(()) => journal.forget(&entry.fault.id),
                    Err(reason) => tracing::error!(reason, fault = %entry.fault.id, "A fault that failed half way could not be undone."),
                }
                return Err(error);
            }
        };
        let what = if witness.observed {
            format!("{} on {}: {}", spec.fault, spec.service, witness.what)
        } else {
            format!("{} on {} was not witnessed: {}", spec.fault, spec.service, witness.what)
        };
        entry.fault.witness = Some(witness);
        if matches!(lasting, Lasting::Moment) && entry.undo.is_empty() {
            entry.fault.healed_at = Some(rfc3339(Timestamp::now()));
        }
        journal.save(&entry).map_err(internal)?;
        environment.handle.events.emit(
            News::of(&spec.service, "fault.injected", what)
                .with("id", spec.id.clone())
                .with("fault", spec.fault.clone())
                .with("witness", serde_json::json!(entry.fault.witness)),
        );
        if entry.fault.healed_at.is_none() {
            self.keep(environment.clone(), entry.clone(), grip);
        } else {
            journal.prune();
        }
        Ok(entry.fault)
    }

    /// Undoes faults, all of them if none is named; those that are healed by it.
    pub(crate) async fn heal(&self, request: &HealRequest) -> Result<Vec<Fault>, ApiError> {
        let Some(environment) = self.find(&request.target) else { return Ok(Vec::new()) };
        self.heal_in(&environment, &request.ids).await
    }

    pub(crate) async fn heal_in(&self, environment: &Environment, ids: &[String]) -> Result<Vec<Fault>, ApiError> {
        let journal = self.journal(&environment.id);
        let there: Vec<Entry> = journal.entries().into_iter().filter(|entry| entry.fault.healed_at.is_none()).collect();
        for id in ids {
            if journal.find(id).is_none() {
                return Err(
                    ApiError::new(ErrorCode::NotFound, format!("there is no fault `{id}`")).hint("`devenv chaos status` lists them")
                );
            }
        }
        let meant = |entry: &&Entry| ids.is_empty() || ids.contains(&entry.fault.id);
        let (mut healed, mut left) = (Vec::new(), Vec::new());
        for entry in there.iter().filter(meant) {
            match self.keeping(&environment.id, &entry.fault.id) {
                Some(mut keeping) => {
                    keeping.end.cancel();
                    // An error is a keeper that is gone, and with it the attempt.
                    let _ = keeping.over.wait_for(|over| *over).await;
                }
                // Nobody keeps it: an earlier attempt failed.
                None => self.finish_fault(environment, entry.clone()).await,
            }
            match journal.find(&entry.fault.id) {
                Some(after) if after.fault.healed_at.is_some() => healed.push(after.fault),
                _ => left.push(entry.fault.id.clone()),
            }
        }
        if left.is_empty() {
            return Ok(healed);
        }
        Err(ApiError::new(ErrorCode::Failed, format!("not healed: {}", left.join(", ")))
            .hint("`devenv events` says why; `devenv restart SERVICE` starts a service afresh"))
    }

    /// Faults that have not healed yet; with `healed`, those that have too.
    pub(crate) fn faults(&self, request: &FaultsRequest) -> Vec<Fault> {
        self.find(&request.target).map(|environment| self.faults_of(&environment.id, request.healed)).unwrap_or_default()
    }

    pub(crate) fn faults_of(&self, environment: &EnvironmentId, healed: bool) -> Vec<Fault> {
        let entries = self.journal(environment).entries().into_iter().map(|entry| entry.fault);
        entries.filter(|fault| healed || fault.healed_at.is_none()).collect()
    }

    fn journal(&self, environment: &EnvironmentId) -> Journal {
        Journal::of(&self.shared.store.environment(environment))
    }

    fn keeping(&self, environment: &EnvironmentId, id: &str) -> Option<Keeping> {
        self.shared.faults.0.lock().expect("no holder of this lock panics").get(&(environment.clone(), id.to_owned())).cloned()
    }

    /// Waits for the fault's end in a task of its own, then undoes it.
    fn keep(&self, environment: Environment, entry: Entry, grip: Grip) {
        let end = CancellationToken::new();
        let (tell, over) = watch::channel(false);
        let key = (environment.id.clone(), entry.fault.id.clone());
        self.shared.faults.0.lock().expect("no holder of this lock panics").insert(key.clone(), Keeping { end: end.clone(), over });
        let this = self.clone();
        let path = self.journal(&environment.id).path(&entry.fault.id);
        let lease = lease::hold(&path, &entry);
        self.spawn(async move {
            let stopped = this.shared.stop.clone();
            let ended = tokio::select! {
                () = stopped.cancelled() => false,
                () = end.cancelled() => true,
                () = until(entry.heals_at()) => true,
                () = this.holder_or_target_gone(&environment, &entry) => true,
            };
            if ended {
                drop(grip);
                this.finish_fault(&environment, entry).await;
                lease::end(&path, lease).await;
            }
            this.shared.faults.0.lock().expect("no holder of this lock panics").remove(&key);
            let _ = tell.send(true);
        });
    }

    /// Undoes it and says so; what cannot be undone stays in the journal, and in `status`.
    async fn finish_fault(&self, environment: &Environment, mut entry: Entry) {
        let service: Option<ServiceName> = entry.fault.service.parse().ok();
        let told = |kind, message: String| match &service {
            Some(service) => News::of(service, kind, message),
            None => News::new(kind, message),
        };
        match self.undo(environment, &entry).await {
            Ok(()) => {
                entry.fault.healed_at = Some(rfc3339(Timestamp::now()));
                if let Err(error) = self.journal(&environment.id).save(&entry) {
                    tracing::error!(%error, "The end of a fault could not be written down.");
                }
                let message = format!("{} on {} is healed", entry.fault.fault, entry.fault.service);
                environment
                    .handle
                    .events
                    .emit(told("fault.healed", message).with("id", entry.fault.id.clone()).with("fault", entry.fault.fault.clone()));
                self.journal(&environment.id).prune();
            }
            Err(reason) => {
                let message = format!("{} on {} could not be healed: {reason}", entry.fault.fault, entry.fault.service);
                environment.handle.events.emit(told("fault.not-healed", message).with("id", entry.fault.id.clone()));
            }
        }
    }

    /// Returns when the container that it was injected into has ended, or its holder; never, if it has none.
    async fn holder_or_target_gone(&self, environment: &Environment, entry: &Entry) {
        let Some(name) = entry.undo.iter().find_map(|undo| match undo {
            Undo::Holder { name } => Some(name.clone()),
            _ => None,
        }) else {
            return std::future::pending().await;
        };
        loop {
            let mut events = self.engine().events(&self.shared.owner);
            match self.engine().inspect(&name).await {
                Ok(Some(ObservedContainer { state: crate::engine::ContainerState::Running { .. }, id, .. })) => {
                    while let Some(Ok(event)) = events.next().await {
                        let ended = matches!(event.kind, EngineEventKind::Died { .. } | EngineEventKind::Removed);
                        if ended
                            && event.labels.environment == environment.id
                            && (event.container == id || Some(&event.container) == entry.target.as_ref())
                        {
                            return;
                        }
                    }
                }
                Ok(_) => return,
                Err(_) => {}
            }
            // The engine went away: there is nothing to wait on but time.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Reads the journals that an earlier daemon left: what is past its time, or was held by that daemon, is undone now; the
    /// rest is kept until its time. Holders that no journal knows are removed.
    pub(super) async fn take_up_faults(&self, holders: Vec<ObservedContainer>) {
        let mut known = Vec::new();
        for environment in self.all() {
            for entry in self.journal(&environment.id).entries() {
                if entry.fault.healed_at.is_some() {
                    continue;
                }
                known.extend(entry.undo.iter().filter_map(|undo| match undo {
                    Undo::Holder { name } => Some(name.clone()),
                    _ => None,
                }));
                let lives = entry.undo.iter().all(|undo| match undo {
                    Undo::Holder { name } => holders
                        .iter()
                        .any(|holder| holder.name == *name && matches!(holder.state, crate::engine::ContainerState::Running { .. })),
                    _ => true,
                });
                let in_time = entry.heals_at().is_some_and(|end| end > Timestamp::now());
                // Without a witness it was never finished; without an undoing it was held by a process that is gone.
                lease::end(&self.journal(&environment.id).path(&entry.fault.id), None).await;
                if lives && in_time && entry.fault.witness.is_some() && !entry.undo.is_empty() {
                    self.keep(environment.clone(), entry, Vec::new());
                } else {
                    self.finish_fault(&environment, entry).await;
                }
            }
        }
        for holder in holders.iter().filter(|holder| !known.contains(&holder.name)) {
            if let Err(error) = self.engine().remove_container(&holder.id).await {
                tracing::warn!(%error, container = %holder.name, "A holder that is nobody's could not be removed.");
            }
        }
    }

    /// A task that the daemon waits for when it ends.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.lock().expect("no holder of this lock panics").spawn(work);
    }
}

async fn until(end: Option<Timestamp>) {
    // A moment's fault with something to undo has no end: now.
    if let Some(end) = end {
        tokio::time::sleep(Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default()).await;
    }
}

fn lasting(action: &Action, spec: &FaultSpec, undone_by: Undoing) -> Lasting {
    let asked = || Lasting::For(spec.duration.unwrap_or(DEFAULT_DURATION));
    match action {
        Action::Signal { restart: Restart::After(time), .. } | Action::Disk(Disk::PowerCut { restart_after: time }) => Lasting::For(*time),
        Action::Postgres(Postgres::Terminate { every: Some(_), .. }) => asked(),
        _ if undone_by == Undoing::Nothing => Lasting::Moment,
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

impl From<InvalidFault> for ApiError {
    fn from(error: InvalidFault) -> Self {
        let told = Self::new(ErrorCode::Usage, error.to_string());
        match error.hint() {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let told = Self::new(ErrorCode::Failed, refusal.reason);
        match refusal.hint {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }
}

/// The volume of a service that is a file system of its own.
fn device_volume(record: &Record, service: &ServiceName) -> Option<String> {
    let spec = record.spec.as_ref()?.services.get(service)?;
    let mount = spec.container()?.mounts.iter().find(|mount| mount.device.is_some())?;
    match &mount.source {
        crate::spec::MountSource::Volume(name) => record.volumes.get(&format!("{service}/{name}")).cloned(),
        _ => None,
    }
}
