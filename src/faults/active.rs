//! ActiveFault: each fault that was injected has a task that waits for its time, for `heal` or for its end, and undoes it. A fault
//! that persists is done again on its target's next run. What an earlier daemon left is taken up here too.

use std::time::Duration;

use devenv_api::{ServiceState, Witness};
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    ActiveFault, Environment, Environments, Grip, inject, rfc3339,
    undo_log::{Entry, Undo},
    watchdog,
};
use crate::{
    engine::{ContainerState, EngineEventKind, ObservedContainer},
    event::NewEvent,
    spec::ServiceName,
};

/// How often it is looked whether a target runs again.
const LOOK: Duration = Duration::from_millis(50);

/// Why a fault is not kept any longer.
enum End {
    /// The next daemon takes it up.
    DaemonStops,
    /// Its time is over, or it is to be healed.
    Over,
    /// The fault agent has ended, and with it what the kernel held for it.
    HolderGone,
    /// The container is another one, or another run of it: what was done to it went with it.
    TargetGone,
}

impl Environments {
    /// Waits for the fault's end in a task of its own, then undoes it.
    pub(super) fn keep(&self, environment: Environment, entry: Entry, grip: Grip) {
        let end = CancellationToken::new();
        let (tell, over) = watch::channel(false);
        let key = (environment.id.clone(), entry.fault.id.clone());
        self.shared
            .faults
            .0
            .lock()
            .expect("no code panics while it holds this lock")
            .insert(key.clone(), ActiveFault { end: end.clone(), over });
        let this = self.clone();
        let path = self.undo_log(&environment.id).path(&entry.fault.id);
        let lease = watchdog::hold(&path, &entry);
        self.spawn(async move {
            let (mut entry, mut grip) = (entry, grip);
            let ended = loop {
                match this.end_of(&environment, &entry, &end).await {
                    End::DaemonStops => break false,
                    End::Over | End::HolderGone => break true,
                    End::TargetGone if !entry.persists() => break true,
                    End::TargetGone => {}
                }
                drop(std::mem::take(&mut grip));
                tokio::select! {
                    () = this.shared.stop.cancelled() => break false,
                    () = end.cancelled() => break true,
                    () = until(entry.heals_at()) => break true,
                    // If it is interrupted, the undo log contains what to undo.
                    again = this.again(&environment, &entry) => match again {
                        Some(again) => (entry, grip) = again,
                        None => break true,
                    },
                }
            };
            if ended {
                drop(grip);
                let entry = this.undo_log(&environment.id).find(&entry.fault.id).unwrap_or(entry);
                this.finish_fault(&environment, entry).await;
                watchdog::end(&path, lease).await;
            }
            this.shared.faults.0.lock().expect("no code panics while it holds this lock").remove(&key);
            let _ = tell.send(true);
        });
    }

    async fn end_of(&self, environment: &Environment, entry: &Entry, end: &CancellationToken) -> End {
        tokio::select! {
            () = self.shared.stop.cancelled() => End::DaemonStops,
            () = end.cancelled() => End::Over,
            () = until(entry.heals_at()) => End::Over,
            end = self.gone(environment, entry) => end,
        }
    }

    /// The same fault on the target's next run, for what is left of its time; `None` if that cannot be.
    async fn again(&self, environment: &Environment, entry: &Entry) -> Option<(Entry, Grip)> {
        let log_failure = |reason: &str| tracing::warn!(reason, fault = %entry.fault.id, "Cannot inject a persistent fault again.");
        // Its fault agent keeps a namespace in which nobody is any more.
        self.undo(environment, entry).await.inspect_err(|reason| log_failure(reason)).ok()?;
        until_ready(environment, &entry.spec.service).await;
        let left =
            entry.heals_at().map_or(Duration::ZERO, |end| Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default());
        let (entry, grip) = self
            .perform(environment, &entry.spec, entry.fault.clone(), left)
            .await
            .inspect_err(|error| log_failure(&error.message))
            .ok()?;
        if let Err(error) = self.undo_log(&environment.id).save(&entry) {
            tracing::error!(%error, "Cannot record the repeated injection of a fault.");
        }
        let message = format!("{} was injected again into the new run of {}", entry.fault.fault, entry.fault.service);
        let news = NewEvent::of(&entry.spec.service, "fault.injected-again", message);
        environment.handle.events.emit(news.with("id", entry.fault.id.clone()).with("witness", serde_json::json!(entry.fault.witness)));
        Some((entry, grip))
    }

    /// Undoes it and says so; what cannot be undone stays in the undo log, and in `status`.
    pub(super) async fn finish_fault(&self, environment: &Environment, mut entry: Entry) {
        let service: Option<ServiceName> = entry.fault.service.parse().ok();
        let event = |kind, message: String| match &service {
            Some(service) => NewEvent::of(service, kind, message),
            None => NewEvent::new(kind, message),
        };
        match self.undo(environment, &entry).await {
            Ok(()) => {
                entry.fault.healed_at = Some(rfc3339(Timestamp::now()));
                if let Err(error) = self.undo_log(&environment.id).save(&entry) {
                    tracing::error!(%error, "Cannot record the end of a fault.");
                }
                let message = format!("{} on {} was undone", entry.fault.fault, entry.fault.service);
                environment
                    .handle
                    .events
                    .emit(event("fault.healed", message).with("id", entry.fault.id.clone()).with("fault", entry.fault.fault.clone()));
                self.undo_log(&environment.id).prune();
            }
            Err(reason) => {
                let message = format!("{} on {} cannot be undone: {reason}", entry.fault.fault, entry.fault.service);
                environment.handle.events.emit(event("fault.not-healed", message).with("id", entry.fault.id.clone()));
            }
        }
    }

    /// Returns when the run that it was injected into has ended, or its fault agent; never, if it has none.
    async fn gone(&self, environment: &Environment, entry: &Entry) -> End {
        let Some(name) = entry.holder() else { return std::future::pending().await };
        loop {
            let mut events = self.engine().events(&self.shared.owner);
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
                        if !ended || event.labels.environment != environment.id {
                            continue;
                        }
                        if Some(&event.container) == entry.target.as_ref() {
                            return End::TargetGone;
                        }
                        if event.container == id {
                            return End::HolderGone;
                        }
                    }
                }
                Ok(_) => return End::HolderGone,
                Err(_) => {}
            }
            // The engine went away: there is nothing to wait on but time.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Identifies a run of a container; `None` if it is not running.
    pub(super) async fn run_of(&self, container: &str) -> Option<String> {
        let seen = self.engine().inspect(container).await.ok()??;
        matches!(seen.state, ContainerState::Running { .. } | ContainerState::Paused { .. }).then_some(seen.started_at)?
    }

    /// Reads the journals that an earlier daemon left: what is past its time, or was held by that daemon, is undone now; the
    /// rest is kept until its time. Fault agents that no undo log knows are removed.
    pub(crate) async fn take_up_faults(&self, holders: Vec<ObservedContainer>) {
        let mut known = Vec::new();
        for environment in self.all() {
            for mut entry in self.undo_log(&environment.id).entries() {
                if entry.fault.healed_at.is_some() {
                    continue;
                }
                known.extend(entry.holder().map(str::to_owned));
                let lives = entry.holder().is_none_or(|name| {
                    holders.iter().any(|holder| holder.name == name && matches!(holder.state, ContainerState::Running { .. }))
                });
                let in_time = entry.heals_at().is_some_and(|end| end > Timestamp::now());
                watchdog::end(&self.undo_log(&environment.id).path(&entry.fault.id), None).await;
                if let Some(Undo::Daemon { pid }) = entry.undo.first() {
                    entry.fault.witness = Some(self.survived(&entry, *pid).await);
                }
                // Without a witness it was never finished; without an undoing it was held by a process that is gone.
                if lives && in_time && entry.fault.witness.is_some() && !entry.undo.is_empty() {
                    self.keep(environment.clone(), entry, Vec::new());
                } else {
                    self.finish_fault(&environment, entry).await;
                }
            }
        }
        for holder in holders.iter().filter(|holder| !known.contains(&holder.name)) {
            if let Err(error) = self.engine().remove_container(&holder.id).await {
                tracing::warn!(%error, container = %holder.name, "Cannot remove an orphaned fault agent.");
            }
        }
    }

    /// Whether a service that a daemon has left behind by its death is the one that it was.
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

async fn until_ready(environment: &Environment, service: &ServiceName) {
    let ready = || {
        let status = environment.handle.status();
        status.services.iter().any(|seen| seen.name == service.as_str() && seen.state == ServiceState::Ready && seen.container.is_some())
    };
    while !ready() {
        tokio::time::sleep(LOOK).await;
    }
}

async fn until(end: Option<Timestamp>) {
    // A moment's fault with something to undo has no end: now.
    if let Some(end) = end {
        tokio::time::sleep(Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default()).await;
    }
}
