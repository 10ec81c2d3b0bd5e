//! Active faults: each injected fault has a task that waits for its duration, for `heal` or for its target's end, and undoes it. A fault
//! that persists is injected again into its target's next run. Faults of an earlier daemon are taken over here too.

use std::time::Duration;

use devenv_api::{ServiceState, Witness};
use devenv_engine::{ContainerState, EngineEventKind, ObservedContainer};
use devenv_spec::ServiceName;
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    ActiveFault, Faults, HeldTasks, inject, rfc3339,
    undo_log::{Entry, Undo},
    watchdog,
};
use crate::{
    event::NewEvent,
    reconcile::{Handle, View},
};

/// How often to check whether a target runs again.
const LOOK: Duration = Duration::from_millis(50);

/// Why a fault ends.
enum End {
    /// Its tasks end; the environment's next tasks take the fault over.
    EnvironmentEnds,
    /// Its duration is over, or it is to be healed.
    Over,
    /// The fault agent has ended, and with it what the kernel held for it.
    AgentGone,
    /// The container is another one, or another run of it: the fault ended with the former run.
    TargetGone,
    /// An operation needs it undone while it runs.
    Lifted,
}

impl Faults {
    /// Waits for the fault's end in a task of its own, then undoes it.
    pub(super) fn keep(&self, entry: Entry, held_tasks: HeldTasks) {
        let end = CancellationToken::new();
        let (tell, over) = watch::channel(false);
        let (lifting, mut wanted) = watch::channel(0);
        let (lifts, lifted) = watch::channel(false);
        let id = entry.fault.id.clone();
        self.active().insert(id.clone(), ActiveFault { end: end.clone(), over, lifting, lifted });
        let this = self.clone();
        let path = self.undo_log().path(&entry.fault.id);
        let watchdog = watchdog::start(&path, &entry);
        self.site.tasks.spawn("fault", async move {
            let entry = this.keep_until_over(entry, held_tasks, &end, &mut wanted, &lifts).await;
            if let Some(entry) = entry {
                let entry = this.undo_log().find(&entry.fault.id).unwrap_or(entry);
                this.finish_fault(entry).await;
                watchdog::end(&path, watchdog).await;
            }
            this.active().remove(&id);
            let _ = tell.send(true);
        });
    }

    /// The fault, if it is to be undone for good; `None` if the environment's tasks end before.
    async fn keep_until_over(
        &self,
        mut entry: Entry,
        mut held_tasks: HeldTasks,
        end: &CancellationToken,
        wanted: &mut watch::Receiver<usize>,
        lifts: &watch::Sender<bool>,
    ) -> Option<Entry> {
        loop {
            let mut is_lifted = match self.end_of(&entry, end, wanted).await {
                End::EnvironmentEnds => return None,
                End::Over | End::AgentGone => return Some(entry),
                End::TargetGone if !entry.persists() && !entry.limits() => return Some(entry),
                End::TargetGone => false,
                End::Lifted => true,
            };
            drop(std::mem::take(&mut held_tasks));
            let again = loop {
                if is_lifted {
                    self.lift(&entry).await;
                    lifts.send_replace(true);
                }
                // All branches are cancel-safe: if the injection is interrupted, the undo log contains what to undo.
                tokio::select! {
                    () = self.site.tasks.end.cancelled() => return None,
                    () = end.cancelled() => return Some(entry),
                    () = until(entry.heals_at()) => return Some(entry),
                    () = until_nobody_lifts(wanted) => {}
                }
                lifts.send_replace(false);
                tokio::select! {
                    () = self.site.tasks.end.cancelled() => return None,
                    () = end.cancelled() => return Some(entry),
                    () = until(entry.heals_at()) => return Some(entry),
                    () = until_lifted(wanted) => is_lifted = true,
                    again = self.again(&entry) => break again,
                }
            };
            match again {
                Some(again) => (entry, held_tasks) = again,
                None => return Some(entry),
            }
        }
    }

    /// Undoes it and keeps it on record: it is injected again.
    async fn lift(&self, entry: &Entry) {
        let entry = self.undo_log().find(&entry.fault.id).unwrap_or_else(|| entry.clone());
        if let Err(reason) = self.undo(&entry).await {
            tracing::warn!(reason, fault = %entry.fault.id, "Cannot undo a fault before its service is stopped.");
        }
    }

    async fn end_of(&self, entry: &Entry, end: &CancellationToken, wanted: &mut watch::Receiver<usize>) -> End {
        tokio::select! {
            () = self.site.tasks.end.cancelled() => End::EnvironmentEnds,
            () = end.cancelled() => End::Over,
            () = until(entry.heals_at()) => End::Over,
            end = self.gone(entry) => end,
            () = until_lifted(wanted) => End::Lifted,
        }
    }

    /// The same fault on the target's next run, for the rest of its duration; `None` if that is impossible.
    async fn again(&self, entry: &Entry) -> Option<(Entry, HeldTasks)> {
        let log_failure = |reason: &str| tracing::warn!(reason, fault = %entry.fault.id, "Cannot inject a persistent fault again.");
        // Its fault agent is in the namespace of a container that has ended.
        self.undo(entry).await.inspect_err(|reason| log_failure(reason)).ok()?;
        until_ready(&self.site.handle, &entry.spec.service).await;
        let left =
            entry.heals_at().map_or(Duration::ZERO, |end| Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default());
        let (entry, held_tasks) =
            self.perform(&entry.spec, entry.fault.clone(), left).await.inspect_err(|error| log_failure(&error.message)).ok()?;
        if let Err(error) = self.undo_log().save(&entry) {
            tracing::error!(%error, "Cannot record the repeated injection of a fault.");
        }
        let message = format!("{} was injected again into the new run of {}", entry.fault.fault, entry.fault.service);
        let news = NewEvent::of(&entry.spec.service, "fault.injected-again", message);
        self.site.handle.events.emit(news.with("id", entry.fault.id.clone()).with("witness", serde_json::json!(entry.fault.witness)));
        Some((entry, held_tasks))
    }

    /// Undoes it and reports that; what cannot be undone stays in the undo log, and in `status`.
    pub(super) async fn finish_fault(&self, mut entry: Entry) {
        let service: Option<ServiceName> = entry.fault.service.parse().ok();
        let event = |kind, message: String| match &service {
            Some(service) => NewEvent::of(service, kind, message),
            None => NewEvent::new(kind, message),
        };
        match self.undo(&entry).await {
            Ok(()) => {
                entry.fault.healed_at = Some(rfc3339(Timestamp::now()));
                if let Err(error) = self.undo_log().save(&entry) {
                    tracing::error!(%error, "Cannot record the end of a fault.");
                }
                let message = format!("{} on {} was undone", entry.fault.fault, entry.fault.service);
                self.site
                    .handle
                    .events
                    .emit(event("fault.healed", message).with("id", entry.fault.id.clone()).with("fault", entry.fault.fault.clone()));
                self.undo_log().prune();
            }
            Err(reason) => {
                let message = format!("{} on {} cannot be undone: {reason}", entry.fault.fault, entry.fault.service);
                self.site.handle.events.emit(event("fault.not-healed", message).with("id", entry.fault.id.clone()));
            }
        }
    }

    /// Returns when the run of the injection, or its fault agent, has ended; never, if it has neither.
    async fn gone(&self, entry: &Entry) -> End {
        let name = match (entry.agent(), &entry.target) {
            (Some(name), _) => name,
            (None, Some(target)) if entry.limits() => return self.replaced(entry, target).await,
            (None, _) => return std::future::pending().await,
        };
        loop {
            let mut events = self.engine().events(&self.site.owner);
            if let Some(target) = &entry.target
                && entry.run.is_some()
                && self.run_of(target).await != entry.run
            {
                return End::TargetGone;
            }
            match self.engine().inspect(name).await {
                Ok(Some(ObservedContainer { state: ContainerState::Running { .. }, id, .. })) => {
                    while let Some(Ok(event)) = events.next().await {
                        let ended = matches!(event.kind, EngineEventKind::Died { .. } | EngineEventKind::Removed);
                        if !ended || event.labels.environment != self.site.environment {
                            continue;
                        }
                        if Some(&event.container) == entry.target.as_ref() {
                            return End::TargetGone;
                        }
                        if event.container == id {
                            return End::AgentGone;
                        }
                    }
                }
                Ok(_) => return End::AgentGone,
                Err(_) => {}
            }
            // An engine that is away announces nothing, so time is all there is to wait for.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Returns when another container of the service is in the target's place.
    async fn replaced(&self, entry: &Entry, target: &str) -> End {
        let mut views = self.site.handle.views();
        let is_replaced = |view: &View| {
            let now = view.status.services.iter().find(|seen| seen.name == entry.fault.service);
            now.and_then(|seen| seen.container.as_ref()).is_some_and(|container| container != target)
        };
        if views.wait_for(is_replaced).await.is_err() {
            // The environment ends, and the fault's task with it.
            std::future::pending::<()>().await;
        }
        End::TargetGone
    }

    /// Identifies a run of a container; `None` if it is not running.
    pub(super) async fn run_of(&self, container: &str) -> Option<String> {
        let seen = self.engine().inspect(container).await.ok()??;
        matches!(seen.state, ContainerState::Running { .. } | ContainerState::Paused { .. }).then_some(seen.started_at)?
    }

    /// Reads the undo log of an earlier daemon, or of earlier tasks of the environment: faults that are overdue or were held
    /// by that daemon are undone now; the others last for the rest of their time. Fault agents that the undo log does not know are removed.
    pub(crate) async fn take_up(&self, agents: &[ObservedContainer]) {
        let mut known = Vec::new();
        for mut entry in self.undo_log().entries() {
            if entry.fault.healed_at.is_some() {
                continue;
            }
            known.extend(entry.agent().map(str::to_owned));
            let lives = entry
                .agent()
                .is_none_or(|name| agents.iter().any(|agent| agent.name == name && matches!(agent.state, ContainerState::Running { .. })));
            let in_time = entry.heals_at().is_some_and(|end| end > Timestamp::now());
            watchdog::end(&self.undo_log().path(&entry.fault.id), None).await;
            if let Some(Undo::Daemon { pid }) = entry.undo.first() {
                entry.fault.witness = Some(self.survived(&entry, *pid).await);
            }
            // Without a witness its injection was interrupted; without undo steps a process held it that is gone.
            if lives && in_time && entry.fault.witness.is_some() && !entry.undo.is_empty() {
                self.keep(entry, Vec::new());
            } else {
                self.finish_fault(entry).await;
            }
        }
        for agent in agents.iter().filter(|agent| !known.contains(&agent.name)) {
            if let Err(error) = self.engine().remove_container(&agent.id).await {
                tracing::warn!(%error, container = %agent.name, "Cannot remove an orphaned fault agent.");
            }
        }
    }

    /// Whether a service is the one that a daemon left when it died.
    async fn survived(&self, entry: &Entry, daemon: u32) -> Witness {
        let now = match &entry.target {
            Some(target) => self.run_of(target).await,
            None => None,
        };
        if now.is_none() || now != entry.run {
            return inject::not_seen(format!("the daemon {daemon} was killed, and {} is no longer running as it was", entry.fault.service));
        }
        let after = entry.fault.injected_at.parse().map(|at: Timestamp| Timestamp::now().duration_since(at).as_millis());
        Witness {
            observed: true,
            what: format!("the daemon {daemon} was killed, and {} kept running", entry.fault.service),
            after_ms: after.ok().and_then(|after| u64::try_from(after).ok()),
        }
    }
}

/// Returns when an operation needs the fault undone.
async fn until_lifted(wanted: &mut watch::Receiver<usize>) {
    // The sender is kept until the fault has ended.
    if wanted.wait_for(|count| *count > 0).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn until_nobody_lifts(wanted: &mut watch::Receiver<usize>) {
    let _ = wanted.wait_for(|count| *count == 0).await;
}

async fn until_ready(handle: &Handle, service: &ServiceName) {
    let ready = || {
        let status = handle.status();
        status.services.iter().any(|seen| seen.name == service.as_str() && seen.state == ServiceState::Ready && seen.container.is_some())
    };
    while !ready() {
        tokio::time::sleep(LOOK).await;
    }
}

async fn until(end: Option<Timestamp>) {
    // A momentary fault with undo steps ends at once.
    if let Some(end) = end {
        tokio::time::sleep(Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default()).await;
    }
}
