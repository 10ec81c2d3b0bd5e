//! Secrets: listed without their values, and set.

use std::sync::Arc;

use axum::{Json, extract::State};
use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, Secrets, SetSecretRequest};

use super::{Daemon, failure::Failed};

/// The largest secret that is set, in bytes.
const LONGEST: usize = 64 << 10;

pub(super) async fn list(State(daemon): State<Arc<Daemon>>, Json(target): Json<EnvironmentTarget>) -> Json<Secrets> {
    let found = daemon.environments.find(&target);
    Json(found.map_or_else(|| Secrets { secrets: Vec::new() }, |environment| environment.secrets()))
}

/// The environment need not have been started before: it may need the value to start.
pub(super) async fn set(State(daemon): State<Arc<Daemon>>, Json(request): Json<SetSecretRequest>) -> Result<Json<Secrets>, Failed> {
    let SetSecretRequest { target, name, value } = request;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(ApiError::new(ErrorCode::Usage, format!("`{name}` is not a name of a secret")).into());
    }
    if value.as_ref().is_some_and(|value| value.is_empty() || value.len() > LONGEST || value.contains('\0')) {
        let message = format!("the value of a secret has from 1 to {LONGEST} bytes, and no zero byte");
        return Err(ApiError::new(ErrorCode::Usage, message).into());
    }
    let environment = daemon.environments.ensure(&target)?;
    environment.set_secret(&name, value.as_deref())?;
    Ok(Json(environment.secrets()))
}
