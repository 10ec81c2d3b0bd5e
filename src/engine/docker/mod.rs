//! Stand-in for the engine, with what `doctor` needs of it.

use std::sync::Arc;

use super::{Engine, EngineError};

pub(crate) struct Selection;

impl Selection {
    pub(crate) fn read(_context: Option<String>, _variable: impl Fn(&str) -> Option<String>) -> Self {
        Self
    }
}

#[expect(clippy::unused_async, reason = "the real one is")]
pub(crate) async fn connect(_selection: &Selection) -> Result<Arc<dyn Engine>, EngineError> {
    Err(EngineError::Unreachable { endpoint: "nowhere".to_owned(), reason: "this build has no engine".to_owned() })
}
