//! Errors as answers: a status code and an `ErrorDocument`.

use axum::{
    Json,
    http::StatusCode,
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
