//! Pending steps of earlier operations: carried out by the next daemon, or by the next operation in the same environment.
//!
//! Most steps can be carried out at once. Those about databases need their server: if it is not running yet, an
//! interrupted operation stays in progress until it is ready. If that takes too long, the steps stay on record. They are tried
//! again when the environment comes up, and before anything copies or replaces its data, which would otherwise be incomplete.

use std::{fs, sync::Arc, time::Duration};

use devenv_api::{ApiError, ErrorCode, OperationKind, OperationState};
use devenv_spec::{EnvironmentId, ServiceName};

use super::{Claim, Live, Operations, Work, owed};
use crate::{
    event::NewEvent,
    operation_store::{Record, Step},
    store::Goal,
};

/// How long steps wait for a server that starts.
const SERVERS_START: Duration = Duration::from_mins(5);

impl Operations {
    /// Unpauses what an earlier daemon left paused. Await it before services are adopted, which probes them.
    pub(crate) async fn unpause_left(&self) {
        self.unpause_listed().await;
        for record in self.shared.store.left() {
            for step in record.undo.iter().filter(|step| matches!(step, Step::Unpause { .. })) {
                // The step stays on record, and is tried again with the others.
                if let Err(reason) = owed::carry_out(&self.shared.environments, step).await {
                    tracing::warn!(reason, ?step, "Cannot unpause a container yet.");
                }
            }
        }
    }

    /// Former versions listed paused containers in files `paused*.json` of the environment.
    async fn unpause_listed(&self) {
        let store = self.shared.environments.store();
        for environment in store.records().into_iter().flatten() {
            for entry in fs::read_dir(store.environment(&environment.id)).into_iter().flatten().flatten() {
                let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
                if !name.starts_with("paused") || path.extension().is_none_or(|extension| extension != "json") {
                    continue;
                }
                let listed = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Vec<String>>(&text).ok()).unwrap_or_default();
                let mut failed = None;
                for container in listed {
                    failed = owed::carry_out(&self.shared.environments, &Step::Unpause { container }).await.err().or(failed);
                }
                if let Some(reason) = failed {
                    tracing::warn!(reason, path = %path.display(), "Cannot unpause all containers of a list; the next daemon tries again.");
                } else if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(%error, path = %path.display(), "Cannot remove a list of paused containers.");
                }
            }
        }
    }

    /// Finishes or undoes the interrupted operations of an earlier daemon. Await it before requests are answered.
    pub(crate) async fn recover(&self) {
        for record in self.shared.store.left() {
            let owed = self.pay(&record.operation.id).await;
            match owed {
                Err(reason) if !record.operation.state.has_ended() && self.waits_for(&record).await.is_some() => {
                    tracing::info!(reason, operation = record.operation.id, "An operation is recovered when its servers are ready.");
                    self.recover_later(record).await;
                }
                owed => self.end_recovered(&record, owed).await,
            }
        }
    }

    /// The services whose servers the steps of an operation need, in an environment that should be up.
    async fn waits_for(&self, record: &Record) -> Option<(EnvironmentId, Vec<ServiceName>)> {
        let left = self.shared.store.owed(&record.operation.id)?;
        let databases: Vec<_> = left.undo.iter().chain(&left.finish).filter_map(Step::databases).collect();
        let environment = self.shared.environments.get(&databases.first()?.environment)?;
        let is_up = environment.handle.record().await.is_ok_and(|record| record.goal == Goal::Up);
        is_up.then(|| (environment.id.clone(), databases.iter().map(|databases| databases.service.clone()).collect()))
    }

    /// Holds a place in the queue until it is done, as if it were still running.
    async fn recover_later(&self, record: Record) {
        let Some((id, services)) = self.waits_for(&record).await else { return };
        let Some(environment) = self.shared.environments.get(&id) else { return };
        let operation = record.operation.id.clone();
        let live = Arc::new(Live::new());
        self.live().insert(operation.clone(), live.clone());
        let claims = vec![Claim { environment: Some(id), work: Work::Start(services.clone()) }];
        {
            let mut queue = self.queue();
            queue.add(&operation, record.operation.kind, claims);
            // Nothing is before it: the daemon has just started.
            let _ = queue.start(&operation);
        }
        let names: Vec<String> = services.iter().map(ToString::to_string).collect();
        let message = format!("waiting for {} to recover", names.join(", "));
        self.shared.store.note(&operation, |operation| operation.message = Some(message));
        let this = self.clone();
        self.shared.tasks.spawn(async move {
            // Cancel-safe: all three only wait.
            tokio::select! {
                _ = environment.handle.until_ready(&names) => {}
                () = live.cancel.cancelled() => {}
                () = tokio::time::sleep(SERVERS_START) => {}
            }
            let owed = this.pay(&operation).await;
            this.end_recovered(&record, owed).await;
            this.leave_queue(&operation);
            this.live().remove(&operation);
        });
    }

    async fn end_recovered(&self, record: &Record, owed: Result<(), String>) {
        let operation = &record.operation;
        let (state, message) = recovered(record, owed);
        self.shared.store.end(&operation.id, state, message.clone()).await;
        if !record.background
            && let Some(environment) = record.environments.first().and_then(|id| self.shared.environments.get(id))
        {
            let text = format!("{}: {}", operation.kind, message.unwrap_or_default());
            let kind = match state {
                OperationState::Succeeded => "operation.finished",
                OperationState::Failed => "operation.failed",
                _ => "operation.undone",
            };
            environment.handle.events.emit(NewEvent::new(kind, text).with("operation", operation.id.clone()));
        }
    }

    pub(super) async fn pay_before(&self, left: &Left) -> Result<(), ApiError> {
        match left {
            Left::First(environments) => {
                for environment in environments {
                    self.pay_left(environment).await?;
                }
            }
            Left::IfPossible(environments) => self.try_to_pay(environments).await,
            Left::WhenUp(_) | Left::Never => {}
        }
        Ok(())
    }

    pub(super) async fn pay_after(&self, left: &Left, succeeded: bool) {
        if let Left::WhenUp(environments) = left
            && succeeded
        {
            self.try_to_pay(environments).await;
        }
    }

    async fn try_to_pay(&self, environments: &[EnvironmentId]) {
        for environment in environments {
            if let Err(error) = self.pay_left(environment).await {
                tracing::warn!(reason = error.message, %environment, "Steps of an earlier operation are left.");
            }
        }
    }

    /// Carries out the pending steps of earlier operations in this environment.
    async fn pay_left(&self, environment: &EnvironmentId) -> Result<(), ApiError> {
        for record in self.shared.store.owed_in(environment) {
            let operation = &record.operation;
            if let Err(reason) = self.pay(&operation.id).await {
                let message = format!("an earlier `{}` is neither finished nor undone: {reason}", operation.kind);
                return Err(ApiError::new(ErrorCode::Conflict, message)
                    .hint("run `devenv up` to start its services, which completes it, or `devenv reset` to start with new data"));
            }
            self.shared.store.end(&operation.id, operation.state, operation.message.clone()).await;
        }
        Ok(())
    }
}

/// What to do about pending steps of earlier operations in the environments of this one.
pub(super) enum Left {
    /// They come first: otherwise incomplete data would be copied or replaced.
    First(Vec<EnvironmentId>),
    /// They come first if they can be carried out, and are void once the data is replaced.
    IfPossible(Vec<EnvironmentId>),
    /// They are carried out when services run.
    WhenUp(Vec<EnvironmentId>),
    Never,
}

impl Left {
    pub(super) fn of(kind: OperationKind, claims: &[Claim]) -> Self {
        let with = |is_meant: fn(&Work) -> bool| {
            let meant = claims.iter().filter(|claim| is_meant(&claim.work)).filter_map(|claim| claim.environment.clone());
            meant.collect::<Vec<_>>()
        };
        let (reads, replaces) = (with(|work| matches!(work, Work::Read)), with(|work| matches!(work, Work::Replace)));
        match kind {
            // Stages data beside the data in use.
            OperationKind::BackupRestore | OperationKind::Import => Self::First(replaces),
            // The target of a fork is new.
            _ if !reads.is_empty() => Self::First(reads),
            _ if !replaces.is_empty() => Self::IfPossible(replaces),
            _ => match with(|work| matches!(work, Work::Up | Work::Start(_))) {
                up if up.is_empty() => Self::Never,
                up => Self::WhenUp(up),
            },
        }
    }
}

/// The outcome of an operation of an earlier daemon, once its pending steps were carried out.
fn recovered(record: &Record, owed: Result<(), String>) -> (OperationState, Option<String>) {
    let operation = &record.operation;
    let (state, message) = match owed {
        // It had ended, and only its steps were left.
        Ok(()) if operation.state.has_ended() => return (operation.state, operation.message.clone()),
        Ok(()) if !record.undo.is_empty() => {
            (OperationState::Undone, "the daemon ended during the operation; the next one undid it".to_owned())
        }
        Ok(()) if record.committed || !record.finish.is_empty() => {
            (OperationState::Succeeded, "the daemon ended during the operation; the next one finishes it".to_owned())
        }
        Ok(()) if operation.state == OperationState::Waiting => (OperationState::Undone, "the daemon ended before it began".to_owned()),
        Ok(()) => (OperationState::Failed, "the daemon ended during the operation; run the command again".to_owned()),
        Err(reason) if operation.state.has_ended() => return (operation.state, Some(reason)),
        Err(reason) => (OperationState::Failed, format!("the daemon ended during the operation, and it cannot be undone: {reason}")),
    };
    (state, Some(message))
}
