//! The API errors for an invalid fault, and for a fault that its target refuses.

use devenv_api::{ApiError, ErrorCode};

use crate::{InvalidFault, Refusal};

impl From<InvalidFault> for ApiError {
    fn from(error: InvalidFault) -> Self {
        let message = Self::new(ErrorCode::Usage, error.to_string());
        match error.hint() {
            Some(hint) => message.hint(hint),
            None => message,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = Self::new(ErrorCode::Failed, refusal.reason);
        match refusal.hint {
            Some(hint) => message.hint(hint),
            None => message,
        }
    }
}
