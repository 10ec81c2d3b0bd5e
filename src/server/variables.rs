//! The variables with which programs reach an environment.

use std::sync::Arc;

use axum::{Json, extract::State};
use devenv_api::{ApiError, ErrorCode, Variable, Variables, VariablesFor, VariablesRequest};
use devenv_spec::{Template, Workload};
use indexmap::IndexMap;

use super::{Daemon, failure::Failed};
use crate::{error::describe, reconcile::CommandError};

pub(super) async fn variables(State(daemon): State<Arc<Daemon>>, Json(request): Json<VariablesRequest>) -> Result<Json<Variables>, Failed> {
    let environment = daemon.environments.require(&request.target)?;
    environment.activity.note();
    let spec = environment.handle.record().await?.spec.ok_or(CommandError::NotUp)?;
    let templates: IndexMap<String, Template> = match &request.service {
        None => spec
            .variables
            .into_iter()
            .map(|(name, variable)| match request.form {
                VariablesFor::Host => (name, variable.host),
                VariablesFor::Container => (name, variable.container),
            })
            .collect(),
        Some(service) => {
            let found = spec.services.get(service.as_str()).ok_or_else(|| CommandError::NoService(service.clone()))?;
            match &found.workload {
                Workload::Container(container) => container.environment.clone(),
                Workload::Process(process) => process.environment.clone(),
            }
        }
    };
    let mut variables = IndexMap::new();
    for (name, template) in templates {
        let value = environment.vault.resolve(&template).map_err(|error| ApiError::new(ErrorCode::Internal, describe(&error)))?;
        variables.insert(name, Variable { value, redacted: template.redacted() });
    }
    Ok(Json(Variables { variables }))
}
