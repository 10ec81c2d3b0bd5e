//! The calls that a test sees, and how it can change one: delay it, make it fail, make it panic.
//!
//! Each call has two phases: before the engine has done anything, and after it has done everything but before the caller
//! gets the answer. A test that records both knows every state in which a killed daemon can leave an engine.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;

use super::{EngineError, FakeEngine};

/// One phase of a call of one of the trait's methods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The number of the call, from 1 for each engine.
    pub number: u64,
    /// The method's name.
    pub operation: &'static str,
    /// The id or name of the object, or the command.
    pub subject: String,
    pub phase: CallPhase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPhase {
    Before,
    After,
}

/// What happens to a call. Only a call in [`CallPhase::Before`] can be changed.
pub enum CallAction {
    Continue,
    /// The call continues when the future is ready.
    Wait(BoxFuture<'static, ()>),
    Fail(EngineError),
    Panic,
}

pub(super) type Interceptor = Arc<dyn Fn(&Call) -> CallAction + Send + Sync>;

/// A call in progress. It ends when this is dropped.
#[must_use = "the call ends when this is dropped"]
pub(super) struct CallGuard {
    engine: FakeEngine,
    call: Call,
}

impl FakeEngine {
    /// Passes every phase of every call to `interceptor`, on the caller's thread. Replaces the previous interceptor.
    pub fn intercept_calls(&self, interceptor: impl Fn(&Call) -> CallAction + Send + Sync + 'static) {
        self.lock().interceptor = Some(Arc::new(interceptor));
    }

    pub fn stop_intercepting(&self) {
        self.lock().interceptor = None;
    }

    pub(super) async fn intercept(&self, operation: &'static str, subject: &str) -> Result<CallGuard, EngineError> {
        let (number, interceptor) = {
            let mut state = self.lock();
            state.calls_made += 1;
            (state.calls_made, state.interceptor.clone())
        };
        let call = Call { number, operation, subject: subject.to_owned(), phase: CallPhase::Before };
        match interceptor.map_or(CallAction::Continue, |interceptor| interceptor(&call)) {
            CallAction::Continue => {}
            CallAction::Wait(until) => until.await,
            CallAction::Fail(error) => return Err(error),
            CallAction::Panic => panic!("a test makes this call panic: {call}"),
        }
        Ok(CallGuard { engine: self.clone(), call: Call { phase: CallPhase::After, ..call } })
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let interceptor = self.engine.lock().interceptor.clone();
        if let Some(interceptor) = interceptor {
            interceptor(&self.call);
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            CallPhase::Before => "before",
            CallPhase::After => "after",
        };
        write!(f, "{phase} call {} ({} {})", self.number, self.operation, self.subject)
    }
}
