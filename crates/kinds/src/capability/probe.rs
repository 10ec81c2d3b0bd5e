//! Probes of a server in its own protocol: whether it can do real work.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use devenv_engine::Engine;
use devenv_secrets::{Vault, tls};
use devenv_spec::{OfKind, SecretRef, Undecodable};
use futures_util::stream::BoxStream;

/// The probes of one kind. The probe runner calls them; every request is sent from the host.
#[async_trait]
pub trait Probes: Send + Sync {
    /// Sends one request. Everything that it opens ends with the future.
    async fn ask(&self, question: &OfKind, cx: &ProbeContext) -> Result<ProbeSuccess, ProbeFailure>;

    /// The host port of the request, for messages.
    fn port(&self, question: &OfKind) -> Option<u16>;

    /// Bytes that this server answers before any login, `padding` bytes longer where network faults need a request
    /// that takes a while. `None` if it answers nothing of that kind.
    fn greeting(&self, padding: Option<usize>) -> Option<Vec<u8>>;

    /// Whether the failure shows that the server's data was made with another password than this environment's.
    fn is_wrong_password(&self, _failure: &ProbeFailure) -> bool {
        false
    }
}

/// The context of a probe.
#[derive(Clone)]
pub struct ProbeContext {
    pub vault: Vault,
    /// The certificate with which servers with TLS are verified.
    pub authority: Option<PathBuf>,
    pub target: ExecTarget,
    pub lines: Lines,
}

/// Where a command of a probe runs.
#[derive(Clone)]
pub enum ExecTarget {
    Container {
        engine: Arc<dyn Engine>,
        id: String,
        /// Besides the container's own.
        environment: Vec<(String, String)>,
    },
    Process {
        directory: PathBuf,
        environment: Vec<(String, String)>,
    },
}

/// Opens the log lines of this start of the service, from the first one; the stream continues while the service runs.
pub type Lines = Arc<dyn Fn() -> BoxStream<'static, String> + Send + Sync>;

/// The proof that a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSuccess {
    pub evidence: String,
    /// Identifies the server's run: changes at each start. `None` for servers that do not report one.
    pub life: Option<String>,
}

/// Why there is no receipt, in the server's own words if it answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ProbeFailure {
    pub what: String,
    /// The service answered in its protocol and refused; false if it did not answer.
    pub answered: bool,
}

impl ProbeSuccess {
    pub(crate) fn of(evidence: impl Into<String>) -> Self {
        Self { evidence: evidence.into(), life: None }
    }
}

impl ProbeFailure {
    pub(crate) fn silent(what: impl Into<String>) -> Self {
        Self { what: what.into(), answered: false }
    }

    pub(crate) fn said(what: impl Into<String>) -> Self {
        Self { what: what.into(), answered: true }
    }
}

impl ProbeContext {
    pub(crate) fn reveal(&self, secret: &SecretRef) -> Result<String, ProbeFailure> {
        self.vault.reveal(secret).map_err(|error| ProbeFailure::silent(error.to_string()))
    }

    /// The certificates that a client of an encrypting server trusts.
    pub(crate) fn trust(&self, encrypts: bool) -> Result<Option<rustls::ClientConfig>, ProbeFailure> {
        tls::trust(encrypts, self.authority.as_deref()).map_err(|error| ProbeFailure::silent(error.to_string()))
    }
}

impl From<Undecodable> for ProbeFailure {
    fn from(error: Undecodable) -> Self {
        Self::silent(format!("{error}: {}", error.source))
    }
}
