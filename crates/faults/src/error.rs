//! What the interface says of a fault that is none, or that its target refuses.

use devenv_api::{ApiError, ErrorCode};

use crate::{InvalidFault, Refusal};

impl From<InvalidFault> for ApiError {
    fn from(error: InvalidFault) -> Self {
        let told = Self::new(ErrorCode::Usage, error.to_string());
        match error.hint() {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let told = Self::new(ErrorCode::Failed, refusal.reason);
        match refusal.hint {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }
}
