//! The start and the end of a lease: private parts of services, made for a holder and removed with it.
//!
//! The server knows who holds a lease; this module makes and removes it. Leases of a killed daemon are
//! removed by the next one ([`Operations::end_left_leases`]): their holders have lost their connections.

use std::sync::{Arc, Mutex};

use devenv_api::{ApiError, AskedBy, ErrorCode, LeaseRequest, OperationKind};
use devenv_kinds::lease::{Granted, LeaseError, LeaseSpec};
use devenv_spec::EnvironmentId;
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::{Context, Operations, Prepared, Work, test};
use crate::{environment::Environment, error::describe, reconcile::CommandError, store::Goal};

/// Stands for a lease in a process's marker; no service can have this name.
const COMMAND: &str = "@command";

impl Operations {
    /// Makes what the holder asks for.
    pub(crate) async fn grant(&self, request: LeaseRequest, asked_by: AskedBy) -> Result<(Environment, Granted), ApiError> {
        let environment = self.shared.environments.require(&request.target)?;
        let slot = Arc::new(Mutex::new(None));
        let given = slot.clone();
        let body = async move |_: Context, environment: Environment| {
            let granted = grant(&environment, &request).await?;
            let id = granted.id.clone();
            *given.lock().expect("no code panics while it holds this lock") = Some(granted);
            Ok(json!(id))
        };
        let prepared = Prepared::in_environment(OperationKind::Lease, &environment, Work::Lease, body);
        self.begin(prepared, asked_by).await?.result().await?;
        let granted = slot.lock().expect("no code panics while it holds this lock").take();
        granted.map(|granted| (environment, granted)).ok_or_else(|| ApiError::new(ErrorCode::Internal, "the lease was lost"))
    }

    /// Removes what was made, and ends the processes that use it.
    pub(crate) async fn give_back(&self, environment: &EnvironmentId, granted: Granted, asked_by: AskedBy) {
        let mark = mark(environment, &granted.id);
        let prepared = Prepared::new(OperationKind::Lease, environment, Work::Lease, async move |context: Context| {
            context.message("the lease ends");
            // The command's remaining processes have nothing to work on any more.
            sweep(mark).await;
            granted.end().await;
            Ok::<Value, ApiError>(json!({}))
        });
        // A daemon that is stopping leaves it to the next one.
        if let Ok(follower) = self.begin(prepared, asked_by).await {
            let _ = follower.result().await;
        }
    }

    /// Ends the leases of an earlier daemon, in the background.
    pub(crate) async fn end_left_leases(&self) {
        let environments = &self.shared.environments;
        for environment in environments.all() {
            let Ok(record) = environment.handle.record().await else { continue };
            let (this, environments, id) = (self.clone(), environments.clone(), environment.id.clone());
            let (handle, found) = (environment.handle.clone(), environment.downgrade());
            self.shared.environments.look_after(async move {
                if record.ephemeral {
                    let asked_by = AskedBy { command: "the daemon, at its start".to_owned(), ..AskedBy::default() };
                    if let Err(error) = this.dissolve(&id, asked_by).await {
                        tracing::warn!(%error, environment = %id, "Cannot remove an abandoned environment.");
                    }
                    // The engine may still be completing a request of the previous daemon.
                    test::remove_late(&environments, id).await;
                    return;
                }
                end_commands(&id).await;
                let Some(spec) = record.spec.filter(|_| record.goal == Goal::Up) else { return };
                let leased: Vec<String> = spec.services.keys().map(ToString::to_string).collect();
                // Only running servers can be asked what is left in them.
                let ready = tokio::select! {
                    () = environments.stopped() => return,
                    ready = handle.until_ready(&leased) => ready,
                };
                if ready.is_ok()
                    && let Ok(environment) = found.get()
                {
                    environment.leases.sweep(&spec).await;
                }
            });
        }
    }
}

async fn grant(environment: &Environment, request: &LeaseRequest) -> Result<Granted, ApiError> {
    environment.is_open()?;
    let spec = environment.handle.record().await?.spec.ok_or(CommandError::NotUp)?;
    if environment.handle.view().goal != Goal::Up {
        return Err(CommandError::NotUp.into());
    }
    let mut variables = IndexMap::new();
    for (name, variable) in &spec.variables {
        let value = environment.vault.resolve(&variable.host).map_err(|error| ApiError::new(ErrorCode::Internal, describe(&error)))?;
        variables.insert(name.clone(), value);
    }
    let wanted = LeaseSpec {
        spec: &spec,
        variables,
        services: &request.services,
        database: request.database.as_deref(),
        optional: request.optional,
        data: &environment.data_key(),
    };
    let mut granted = environment.leases.grant(wanted).await.map_err(|error| refused(&error))?;
    granted.variables.insert(devenv_processes::MARKER.to_owned(), mark(&environment.id, &granted.id));
    Ok(granted)
}

/// The marker of the processes that use a lease.
pub(crate) fn mark(environment: &EnvironmentId, lease: &str) -> String {
    format!("{environment}/{COMMAND}/{lease}")
}

/// Ends the commands that use leases of this environment.
pub(super) async fn end_commands(environment: &EnvironmentId) {
    sweep(mark(environment, "")).await;
}

/// Kills the processes with the marker. Reading all of `/proc` blocks.
async fn sweep(mark: String) {
    if let Err(error) = tokio::task::spawn_blocking(move || devenv_processes::sweep(&mark)).await {
        tracing::warn!(%error, "Cannot search for the processes of a lease.");
    }
}

fn refused(error: &LeaseError) -> ApiError {
    let code = match error {
        LeaseError::NoService(_) | LeaseError::NoDatabase { .. } => ErrorCode::NotFound,
        LeaseError::NotLeasable { .. } => ErrorCode::Usage,
        LeaseError::Nothing(_) | LeaseError::Refused { .. } | LeaseError::NoNumber { .. } => ErrorCode::Failed,
        LeaseError::Secret(_) => ErrorCode::Internal,
    };
    let refused = ApiError::new(code, describe(error));
    match error.hint() {
        Some(hint) => refused.hint(hint),
        None => refused,
    }
}
