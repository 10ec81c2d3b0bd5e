//! Errors as answers: a status code and an `ErrorDocument`.

use axum::{
    Json,
    body::to_bytes,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use devenv_api::{ApiError, ErrorCode, ErrorDocument};

use crate::reconcile::CommandError;

/// What a handler fails with.
pub(super) struct Failed(pub(super) ApiError);

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<CommandError> for Failed {
    fn from(error: CommandError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            ErrorCode::Usage | ErrorCode::InvalidProfile => StatusCode::BAD_REQUEST,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::Conflict | ErrorCode::EngineMismatch => StatusCode::CONFLICT,
            ErrorCode::NoEngine => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            ErrorCode::Failed | ErrorCode::Interrupted | ErrorCode::Drift => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(ErrorDocument { error: self.0 })).into_response()
    }
}

/// The most of a refusal's text, in bytes.
const LONGEST_REFUSAL: usize = 64 << 10;

/// The framework refuses requests in plain text (no such route, another method, a body that does not fit): that becomes a document too.
pub(super) async fn documented(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_plain = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !is_plain || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, LONGEST_REFUSAL).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let reason = if text.trim().is_empty() { status.canonical_reason().unwrap_or("refused") } else { text.trim() };
    let (code, hint) = match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            (ErrorCode::NotFound, "if the daemon is of another version, run `devenv daemon stop`; the next command starts the new one")
        }
        _ => (ErrorCode::Usage, "run `devenv openapi` for the description of every request"),
    };
    let error = ApiError::new(code, format!("the daemon refuses the request: {reason}")).hint(hint);
    let mut documented = (status, Json(ErrorDocument { error })).into_response();
    if let Some(allowed) = parts.headers.get(header::ALLOW) {
        documented.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    documented
}
