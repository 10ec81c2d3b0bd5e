//! Asking a server in its own protocol whether it can do real work.

use async_trait::async_trait;
use devenv_spec::OfKind;

use crate::probe::{ProbeContext, ProbeFailure, ProbeSuccess};

/// The probes of one kind. The runner of probes asks; every question is asked from the host.
#[async_trait]
pub trait Probes: Send + Sync {
    /// Asks once. Whatever is opened for it ends with the future.
    async fn ask(&self, question: &OfKind, cx: &ProbeContext) -> Result<ProbeSuccess, ProbeFailure>;

    /// The host port of the question, for messages.
    fn port(&self, question: &OfKind) -> Option<u16>;

    /// Bytes that this server answers before any login; `padding` bytes longer where faults of the network need a question
    /// that takes a while. `None` if it answers nothing of that kind.
    fn greeting(&self, padding: Option<usize>) -> Option<Vec<u8>>;

    /// Whether the failure says that the server's data came with another password than this environment's.
    fn is_wrong_password(&self, _failure: &ProbeFailure) -> bool {
        false
    }
}
