//! Services that are held still, by a fault or by the engine (`docker pause`): what needs an answer from them is refused at
//! once, since it would wait until its limit. Called by operations on data and by `exec`. It never ends a pause.

use devenv_api::{ApiError, ErrorCode};
use devenv_engine::{ContainerState, ObservedContainer};

use super::{Environment, Environments};
use crate::error::no_engine;

impl Environments {
    /// An error if the service is held still, so that it cannot answer.
    pub(crate) async fn refuse_halted(&self, environment: &Environment, service: &str) -> Result<(), ApiError> {
        if let Some(fault) = environment.faults.halted_by(service) {
            return Err(held_by(service, &fault, "it does not answer"));
        }
        self.refuse_paused(environment, service, "it does not answer").await
    }

    /// An error if no process of the service can run. `so` is what follows from that.
    pub(crate) async fn refuse_paused(&self, environment: &Environment, service: &str, so: &str) -> Result<(), ApiError> {
        if let Some(fault) = environment.faults.paused_by(service).await {
            return Err(held_by(service, &fault, so));
        }
        let status = environment.handle.status();
        let container = status.services.into_iter().find(|known| known.name == service).and_then(|known| known.container);
        let Some(container) = container else { return Ok(()) };
        match self.engine().inspect(&container).await.map_err(|error| no_engine(&error))? {
            Some(ObservedContainer { state: ContainerState::Paused { .. }, name, .. }) => {
                Err(ApiError::new(ErrorCode::Failed, format!("the container of `{service}` is paused, so {so}"))
                    .hint(format!("run `docker unpause {name}` to resume it, or `devenv restart {service}` to start it anew")))
            }
            _ => Ok(()),
        }
    }
}

fn held_by(service: &str, fault: &str, so: &str) -> ApiError {
    ApiError::new(ErrorCode::Failed, format!("`{service}` is paused by the fault `{fault}`, so {so}"))
        .hint(format!("run `devenv chaos heal {fault}` to end the fault"))
}
